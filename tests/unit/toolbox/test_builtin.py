"""What comes with the bridge."""

import pytest

from bridge import toolbox
from bridge.agent import Agent, VariableSettings
from bridge.engines.functions import declared
from bridge.errors import ConfigError, ToolError
from bridge.toolbox import ToolContext, builtin
from tests.unit.test_call import Leg

NAMES = ("remember", "get_variable", "set_variable", "outcome", "send_dtmf")
AGENT = Agent(
    "shop", tools=NAMES, variables=VariableSettings(("CUSTOMER", "CALLERID(name)"), ("REASON",))
)


class Desk:
    """One call."""

    def __init__(self):
        self.leg, self.notes = Leg(), {}
        self.leg.variables["CUSTOMER"] = "4711"

    async def use(self, name, /, **arguments):
        call = ToolContext("c1", "c1:1:abc:1", "0123", "shop", line=self.leg, notes=self.notes)
        return await toolbox.named(name, AGENT)(call, **arguments)


@pytest.fixture
def desk(monkeypatch):
    monkeypatch.setattr(builtin, "KEY_S", 0.0)
    return Desk()


def test_a_model_is_told_of_those_that_the_agent_names():
    told = {f.name: f for f in declared(AGENT)}
    assert set(told) == {"hang_up", *NAMES}
    assert told["get_variable"].parameters["properties"]["name"]["enum"] == [
        "CUSTOMER",
        "CALLERID(name)",
    ]
    assert told["remember"].parameters["required"] == ["name", "value"]
    assert all(f.description for f in told.values())
    assert [f.name for f in declared(Agent("a"))] == ["hang_up"]


def test_which_of_them_may_run_again():
    again = {name: toolbox.may_run_again(name, AGENT) for name in NAMES}
    assert [name for name, may in again.items() if not may] == ["send_dtmf"]


async def test_what_is_remembered_can_be_changed_and_forgotten(desk):
    await desk.use("remember", name=" the name ", value="Ann\nLee")
    assert desk.notes == {"the name": "Ann Lee"}
    await desk.use("remember", name="the name", value="Bob")
    assert desk.notes == {"the name": "Bob"}
    assert await desk.use("remember", name="the name", value="") == "forgotten"
    assert desk.notes == {}
    with pytest.raises(ToolError, match="'name' is empty"):
        await desk.use("remember", name=" ", value="x")


async def test_notes_are_bounded(desk):
    for n in range(builtin.MOST_NOTES):
        await desk.use("remember", name=f"{n}-" + "x" * 100, value="x" * 10_000)
    with pytest.raises(ToolError, match="30 notes already"):
        await desk.use("remember", name="more", value="x")
    await desk.use("remember", name="0-" + "x" * 100, value="changed")
    assert len(desk.notes) == builtin.MOST_NOTES
    assert max(map(len, desk.notes)) == builtin.MOST_NAME
    assert max(map(len, desk.notes.values())) == builtin.MOST_VALUE


async def test_variables_that_are_allowed(desk):
    assert await desk.use("get_variable", name="CUSTOMER") == "4711"
    assert await desk.use("get_variable", name="CALLERID(name)") == "it is not set"
    await desk.use("set_variable", name="REASON", value=" a\nreturn ")
    assert desk.leg.variables["REASON"] == "a return"


async def test_the_outcome_is_told_to_the_dialplan_at_once(desk):
    assert await desk.use("outcome", intent="order\nstatus", summary="It is on its way.") == "noted"
    assert desk.leg.variables["ARI_BRIDGE_INTENT"] == "order status"
    assert desk.leg.variables["ARI_BRIDGE_SUMMARY"] == "It is on its way."
    assert desk.notes == {"intent": "order status", "summary": "It is on its way."}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_variable", {"name": "REASON"}),
        ("set_variable", {"name": "CUSTOMER", "value": "1"}),
        ("set_variable", {"name": "SHELL(reboot)", "value": "1"}),
        ("set_variable", {"name": "REASON", "value": 5}),
        ("send_dtmf", {"digits": "12x"}),
        ("send_dtmf", {"digits": ""}),
        ("send_dtmf", {"digits": "1" * 33}),
    ],
)
async def test_what_isnt_allowed_never_reaches_the_pbx(desk, name, arguments):
    with pytest.raises(ToolError, match="takes"):
        await desk.use(name, **arguments)
    assert desk.leg.did == []


async def test_keys_are_pressed(desk):
    assert await desk.use("send_dtmf", digits="47 11#a") == "pressed"
    assert desk.leg.did == [("send_dtmf", "4711#A")]


@pytest.mark.parametrize(("tool", "key"), [("get_variable", "read"), ("set_variable", "write")])
def test_which_variables_has_to_be_said(tool, key):
    with pytest.raises(ValueError, match=rf"'{tool}'; say which in \[variables\] {key}"):
        Agent("a", tools=(tool,))


def test_one_that_isnt_named_isnt_there():
    with pytest.raises(ConfigError, match="there is no tool 'remember'"):
        toolbox.named("remember", Agent("a"))
