"""Who listens to a call, and until when; on a real Asterisk in tests/pbx/test_outbound.py."""

import asyncio

import pytest

from bridge.errors import PbxGone
from bridge.pbx import spy
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.spy import Spies
from bridge.pbx.transport import Rtp

TO = ("127.0.0.1", 5000)


class Commands:
    """Asterisk: makes what it is asked for, of which `comes_up` is told."""

    def __init__(self, comes_up="sl"):
        settings = AsteriskSettings()
        self.spies = Spies(self, settings, "caller", "app", Rtp(settings))
        self.comes_up, self.asked, self.destroyed = comes_up, [], asyncio.Event()

    async def do(self, operation, **parameters):
        name = operation.partition(".")[2]
        self.asked.append(name)
        kind = {"snoopChannelWithId": "s", "externalMedia": "l"}.get(name, "none")
        if kind in self.comes_up:
            self.spies.started(kind, 1)
        if name == "destroy":
            self.destroyed.set()
        local = {"UNICASTRTP_LOCAL_ADDRESS": "127.0.0.1", "UNICASTRTP_LOCAL_PORT": "7000"}
        return {"channelvars": local}


async def test_who_does_not_say_that_he_listens_on_listens_no_more(monkeypatch):
    monkeypatch.setattr(spy, "LEASE_S", 0.0)
    pbx = Commands()
    assert await pbx.spies.open(TO) == (1, ("127.0.0.1", 7000))
    async with asyncio.timeout(10):
        await pbx.destroyed.wait()
    assert pbx.asked[-3:] == ["hangup", "hangup", "destroy"]
    with pytest.raises(PbxGone):
        pbx.spies.renew(1)


async def test_who_says_so_listens_on(monkeypatch):
    monkeypatch.setattr(spy, "LEASE_S", 1e6)
    pbx = Commands()
    number, _ = await pbx.spies.open(TO)
    first = pbx.spies._leases[number]
    pbx.spies.renew(number)
    second = pbx.spies._leases[number]
    await asyncio.wait([first])
    assert first.cancelled()
    assert not second.done()
    assert not pbx.destroyed.is_set()
    await pbx.spies.close(number)
    await asyncio.wait([second])
    assert second.cancelled(), "nothing is left that would end it again"
    assert pbx.asked.count("destroy") == 1


async def test_a_call_that_ends_while_a_listener_comes_up():
    pbx = Commands(comes_up="s")
    opening = asyncio.create_task(pbx.spies.open(TO))
    while "createWithId" not in pbx.asked:
        await asyncio.sleep(0)
    await pbx.spies.close_all()
    with pytest.raises(PbxGone):
        await opening
    assert pbx.asked.count("destroy") == 2, "what came up after it had ended, too"
