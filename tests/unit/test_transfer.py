"""A transfer's states: whoever can't be had, whoever hangs up, and a worker that dies in each."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from bridge.agent import Agent, TransferSettings
from bridge.engines.base import TALK_NOTE, ToolCall, ToolResult
from bridge.errors import PbxGone, PbxRefused, PbxUnreachable, ToolError
from bridge.sessions.progress import Progress
from bridge.tools import Outcome, Tools
from bridge.transcript import Transcript
from bridge.transfer import BACK, LOST, TALK
from bridge.transfertable import Destination
from tests.unit.test_call import Leg, Store

AGENT = Agent(
    "demo",
    transfer=TransferSettings(
        extensions=("200",),
        to={"ann": Destination("201", "attended"), "box": Destination("300@vm", "dialplan")},
    ),
)


class Desk:
    """A call's tools; leaving it is a worker's death."""

    def __init__(self, leg=None, fail=None):
        self.leg, self.store = leg or Leg(fail), Store()
        self.told, self.aside, self.news = [], [], []
        self.outcome = None

    async def __aenter__(self):
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()
        self.tools = Tools(
            *(self.leg, AGENT, Transcript(self.store, "c1"), self.store, self.group),
            end=self.end,
            tell=self.told.append,
        )
        self.transfer = self.tools.transfer
        self.transfer.aside = self.aside.append
        self.transfer.tell = self.news.append
        return self

    async def __aexit__(self, *error):
        for task in list(self.group._tasks):
            task.cancel()
        await self.group.__aexit__(None, None, None)

    def end(self, outcome):
        self.outcome = outcome

    async def ask(self, name, **arguments):
        self.tools.add(ToolCall(name, name, arguments), 1)
        self.tools.next()
        await self.settle()

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)

    def progress(self, **more):
        return Progress.from_text(
            Progress(
                tools=self.tools.open(),
                done=self.tools.done,
                asked=self.tools.asked,
                notes=dict(self.tools.notes),
                turn=1,
                **more,
            ).to_text()
        )

    async def heir(self, stack, *, again=False, leg=None):
        """Another worker that takes the call up, as `Call` does."""
        heir = await stack.enter_async_context(Desk(leg or self.leg))
        self.leg.did.clear()
        heir.tools.take_up(self.progress(replying=again), asks_again=again)
        heir.transfer.took_up()
        await heir.transfer.resume(again=heir.tools.transfers_again, replying=again)
        heir.tools.next()
        await heir.settle()
        return heir


async def test_blind_both_are_put_together_once_he_answers():
    async with Desk() as desk:
        desk.leg.answers.clear()
        await desk.ask("transfer", to="200")
        assert desk.leg.names() == ["ring"]
        assert desk.aside == [True]
        assert desk.outcome is None
        desk.leg.answers.set()
        await desk.settle()
        assert desk.leg.names() == ["ring", "connect"]
        assert desk.outcome == Outcome("transferred", "200", gone=True)


async def test_what_the_pbx_does_is_on_record_before():
    async with Desk() as desk:
        desk.leg.handles = {"callee": "ringing"}
        await desk.ask("transfer", to="200")
        assert desk.store.record["callee"] == "ringing"


async def test_the_caller_hangs_up_while_it_rings():
    async with Desk(fail={"ring": PbxGone("gone")}) as desk:
        await desk.ask("transfer", to="200")
        assert desk.outcome.result == "hung-up"
        assert "take_back" not in desk.leg.names()


async def test_the_dialplan_may_have_him_for_good():
    async with Desk() as desk:
        await desk.ask("transfer", to="box")
        assert desk.leg.did == [("transfer", "300", "vm")]
        assert desk.outcome.result == "transferred"


@pytest.mark.parametrize("step", ["ring", "connect"])
async def test_whoever_cant_be_had_brings_the_caller_back(step):
    async with Desk(fail={step: PbxRefused("busy")}) as desk:
        await desk.ask("transfer", to="200")
        assert desk.leg.names()[-1] == "take_back"
        assert desk.aside == [True, False]
        assert desk.told[0].ok is False
        assert "busy" in desk.told[0].value
        assert desk.outcome is None


async def test_he_is_taken_back_as_soon_as_the_pbx_can_be_asked(monkeypatch):
    monkeypatch.setattr("bridge.transfer._TRY_S", 0)
    async with Desk(fail={"ring": PbxUnreachable("away")}) as desk:
        tries = [PbxUnreachable("away"), PbxUnreachable("away")]

        async def take_back():
            if tries:
                raise tries.pop()

        desk.leg.take_back = take_back
        await desk.ask("transfer", to="200")
        assert not tries
        assert desk.aside == [True, False]


async def test_attended_the_agent_talks_and_connects():
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
        assert desk.leg.names() == ["ring", "talk"]
        assert desk.aside == [True, False]
        assert desk.told == [ToolResult("transfer", True, TALK.format(name="ann"))]
        assert desk.transfer.talks_to == "ann"
        await desk.ask("connect")
        assert desk.leg.names() == ["ring", "talk", "connect"]
        assert desk.outcome == Outcome("transferred", "ann", gone=True)


async def test_attended_the_agent_takes_the_caller_back():
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
        await desk.ask("take_back")
        assert desk.told[-1] == ToolResult("take_back", True, BACK.format(name="ann"))
        assert desk.leg.names()[-1] == "take_back"
        assert not desk.transfer.talks_to
        assert TALK_NOTE not in desk.tools.notes


async def test_hanging_up_on_him_is_not_hanging_up_on_the_caller():
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
        await desk.ask("hang_up")
        assert "hang_up" not in desk.leg.names()
        assert desk.told[-1].value == BACK.format(name="ann")
        await desk.ask("hang_up")
        assert desk.outcome.result == "done"


async def test_attended_he_hangs_up():
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
        desk.leg.callee = "ringing"  # the caller is set aside still
        await desk.transfer.callee_left()
        assert desk.leg.names()[-1] == "take_back"
        assert desk.news == [BACK.format(name="ann")]
        await desk.transfer.callee_left()
        assert len(desk.news) == 1


@pytest.mark.parametrize("name", ["connect", "take_back"])
async def test_without_a_talk_there_is_nothing_to_end(name):
    async with Desk() as desk:
        await desk.ask(name)
        assert not desk.told[0].ok
        assert desk.leg.names() == []


async def test_nobody_is_rung_while_the_agent_talks_to_another():
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
        await desk.ask("transfer", to="200")
        assert not desk.told[-1].ok
        assert desk.leg.names() == ["ring", "talk"]
        assert desk.transfer.talks_to == "ann"


@pytest.mark.parametrize("to", ["ann", "200", "box"])
async def test_one_transfer_at_a_time_whoever_asks_for_it(to):
    """He who answers is the one whom the first has asked for."""
    async with Desk() as desk:
        desk.leg.answers.clear()
        await desk.ask("transfer", to="200")
        with pytest.raises(ToolError, match="is being put through to 200: wait for that"):
            await desk.tools.hand_over(to)
        desk.leg.answers.set()
        await desk.settle()
        assert desk.outcome == Outcome("transferred", "200", gone=True)
        assert desk.leg.names() == ["ring", "connect"]


async def test_another_may_follow_one_that_came_to_nothing():
    async with Desk(fail={"ring": PbxRefused("busy")}) as desk:
        for _ in range(2):
            with pytest.raises(PbxRefused, match="busy"):
                await desk.tools.hand_over("200")


async def test_the_caller_of_a_talk_goes_nowhere_else():
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
        with pytest.raises(ToolError, match="the agent talks to ann now"):
            await desk.tools.hand_over("box")


# A worker dies -----------------------------------------------------------------------------------


async def test_killed_while_it_rings_the_heir_rings_anew(stack):
    async with Desk() as desk:
        desk.leg.answers.clear()
        await desk.ask("transfer", to="200")
    heir = await desk.heir(stack)
    assert heir.leg.names() == ["ring"]
    assert heir.aside == [True, True]
    heir.leg.answers.set()
    await heir.settle()
    assert heir.outcome == Outcome("transferred", "200", gone=True)


async def test_killed_while_it_rings_and_nobody_goes_on_the_caller_is_taken_back(stack):
    """The engine is to give its reply again, and it may not ask for the transfer again."""
    async with Desk() as desk:
        desk.leg.answers.clear()
        await desk.ask("transfer", to="200")
    heir = await desk.heir(stack, again=True)
    assert heir.leg.names() == ["take_back"]
    assert heir.aside == [True, False]
    assert heir.news == []


async def test_killed_while_it_rings_for_the_api_the_agent_is_told(stack):
    async with Desk() as desk:
        desk.leg.answers.clear()
        asking = desk.group.create_task(desk.tools.hand_over("200"))
        await desk.settle()
        assert not asking.done()
    heir = await desk.heir(stack)
    assert heir.leg.names() == ["take_back"]
    assert heir.aside == [True, False]
    assert heir.news == [LOST]


async def test_killed_between_the_answer_and_the_connection_the_heir_connects(stack):
    async with Desk() as desk:

        async def connect():
            await asyncio.sleep(60)

        desk.leg.connect = connect
        await desk.ask("transfer", to="200")
        del desk.leg.connect
    heir = await desk.heir(stack)
    assert heir.leg.names() == ["connect"]
    assert heir.outcome == Outcome("transferred", "200", gone=True)


async def test_killed_in_the_talk_the_heir_goes_on_with_it(stack):
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
    heir = await desk.heir(stack)
    assert heir.leg.names() == []
    assert heir.aside == []
    assert heir.transfer.talks_to == "ann"
    await heir.ask("connect")
    assert heir.outcome == Outcome("transferred", "ann", gone=True)


async def test_killed_in_the_talk_and_he_has_hung_up_meanwhile(stack):
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")
    desk.leg.callee = "ringing"
    heir = await desk.heir(stack)
    assert heir.leg.names() == ["take_back"]
    assert heir.news == [BACK.format(name="ann")]
    assert not heir.transfer.talks_to


async def test_killed_while_it_connects_after_a_talk_the_heir_connects(stack):
    async with Desk() as desk:
        await desk.ask("transfer", to="ann")

        async def connect():
            await asyncio.sleep(60)

        desk.leg.connect = connect
        await desk.ask("connect")
        del desk.leg.connect
    heir = await desk.heir(stack)
    assert heir.leg.names() == ["connect"]
    assert heir.outcome == Outcome("transferred", "ann", gone=True)


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


async def test_the_dialplan_is_told_before_it_gets_the_caller():
    async with Desk() as desk:
        desk.tools.intent("opening hours")
        await desk.ask("transfer", to="200")
        assert desk.leg.variables == {
            "ARI_BRIDGE_RESULT": "transferred",
            "ARI_BRIDGE_REASON": "200",
            "ARI_BRIDGE_INTENT": "opening hours",
            "ARI_BRIDGE_SUMMARY": "",
        }


# What fails in between ----------------------------------------------------------------------------


async def test_a_dialplan_that_can_not_be_told_holds_nobody_up():
    async with Desk() as desk:

        async def outcome(variables):
            raise PbxUnreachable("away")

        desk.leg.outcome = outcome
        await desk.ask("transfer", to="200")
        assert desk.leg.names() == ["ring", "connect"]
        assert desk.outcome.result == "transferred"


@pytest.mark.parametrize("to", ["200", "ann"])
@pytest.mark.parametrize("fault", [PbxUnreachable("away"), PbxRefused("no"), TimeoutError(), None])
async def test_whatever_fails_of_a_connection_the_caller_has_the_agent_again(
    monkeypatch, to, fault
):
    """Also where taking him back takes longer than a connection may."""
    monkeypatch.setattr("bridge.transfer._TRY_S", 0)
    monkeypatch.setattr("bridge.tools.LEAVE_TIMEOUT_S", 0.01)
    async with Desk() as desk:
        tries, back = [PbxUnreachable("away")] * 3, asyncio.Event()

        async def connect():
            await asyncio.sleep(60 if fault is None else 0)
            raise fault

        async def take_back():
            if tries:
                await asyncio.sleep(0.01)
                raise tries.pop()
            desk.leg.callee = ""
            back.set()

        desk.leg.connect, desk.leg.take_back = connect, take_back
        await desk.ask("transfer", to=to)
        if to == "ann":
            await desk.ask("connect")
        async with asyncio.timeout(10):
            await back.wait()
            await desk.settle()
        assert desk.aside[-1] is False
        assert desk.told[-1].ok is False
        assert not desk.transfer.talks_to
        assert desk.outcome is None


@pytest.mark.parametrize("fault", [PbxRefused("no"), PbxUnreachable("away")])
async def test_who_can_not_be_taken_back_goes_on_in_the_dialplan(monkeypatch, fault):
    monkeypatch.setattr("bridge.transfer._TRY_S", 0)
    async with Desk(fail={"ring": PbxRefused("busy"), "take_back": fault}) as desk:
        await desk.ask("transfer", to="200")
        for _ in range(10):
            await desk.settle()
        assert desk.outcome.result == "failed"
        assert not desk.outcome.gone
        assert desk.aside == [True, False]
