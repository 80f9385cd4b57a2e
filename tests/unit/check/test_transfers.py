"""Where agents may transfer to, as `ari-bridge check` looks for it in the dialplan."""

from bridge.agent import Agent, TransferSettings
from bridge.check import pbx
from bridge.errors import PbxRefused
from bridge.transfertable import Destination

JOIN = "DIALPLAN_EXISTS(ari-bridge-join,s,1)"
QUEUE = "DIALPLAN_EXISTS(ari-bridge-queue,sales,1)"


class Call:
    """Says what dialplan functions give; one that isn't there is refused."""

    def __init__(self, **functions):
        self.functions = functions

    async def function(self, text):
        if text.startswith("DIALPLAN_EXISTS"):
            return "1" if text in (JOIN, QUEUE) else "0"
        if text not in self.functions:
            raise PbxRefused("500 Unable to read provided function")
        return self.functions[text]


async def found(call, to="queue:sales"):
    agent = Agent("demo", transfer=TransferSettings(to={"sales": Destination(to)}))
    return [one.line for one in await pbx._transfers(call, [agent])]


async def test_a_queue_that_is_there():
    (line,) = await found(Call(**{"QUEUE_EXISTS(sales)": "1"}))
    assert line.startswith("ok")
    assert "sales@ari-bridge-queue" in line


async def test_a_queue_that_is_not_there_or_no_app_queue():
    for call in (Call(**{"QUEUE_EXISTS(sales)": "0"}), Call()):
        (line,) = await found(call)
        assert line.startswith("FAIL")
        assert "Asterisk has no queue 'sales', where demo transfers to: write it into" in line
        assert "app_queue.so" in line


async def test_an_extension_that_is_not_there():
    (line,) = await found(Call(), "999@internal")
    assert "context internal has no extension 999, where demo transfers to: write it" in line
