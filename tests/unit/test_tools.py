"""Tool calls: each once, whoever asks for it, and in whatever process."""

import asyncio
import json

import pytest

from bridge import toolbox
from bridge.agent import Agent, TransferSettings
from bridge.engines.base import ToolCall, ToolResult
from bridge.errors import PbxRefused
from bridge.sessions.progress import Progress
from bridge.tools import MOST_DONE, MOST_RESULT, MOST_SHOWN, UNKNOWN, Tools
from bridge.transcript import Transcript
from tests.unit.test_call import Leg, Store

AGENT = Agent(
    "demo", tools=("count", "slow", "bad", "again"), transfer=TransferSettings(extensions=("200",))
)


class World:
    """Where effects are counted."""

    def __init__(self, monkeypatch):
        self.done, self.gate = [], asyncio.Event()

        async def count(call, **arguments):
            self.done.append((call.key, arguments))
            return len(self.done)

        async def slow(call, **arguments):
            self.done.append((call.key, arguments))
            await self.gate.wait()
            return {"n": len(self.done)}

        async def bad(call, **arguments):
            raise ValueError("no\nsuch thing")

        async def again(call, **arguments):
            return await slow(call, **arguments)

        again.again = True
        functions = {"count": count, "slow": slow, "bad": bad, "again": again}
        monkeypatch.setattr(toolbox, "_load", functions.__getitem__)


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


class Desk:
    """A call's tools with all that they need; `with` ends them as a killed process does."""

    def __init__(self, fail=None):
        self.store, self.told, self.leg = Store(), [], Leg(fail)

    async def __aenter__(self):
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()
        transcript = Transcript(self.store, "c1")
        self.tools = Tools(
            *(self.leg, AGENT, transcript, self.store, self.group),
            end=lambda outcome: None,
            tell=self.told.append,
        )
        return self

    async def __aexit__(self, *error):
        for task in list(self.group._tasks):
            task.cancel()
        await self.group.__aexit__(None, None, None)

    async def ask(self, call_id, name, turn=1, **arguments):
        self.tools.add(ToolCall(call_id, name, arguments), turn)
        self.tools.next()
        await self.settle()

    async def settle(self):
        for _ in range(10):
            await asyncio.sleep(0)

    def progress(self, replying):
        """What another process reads, if this one dies now."""
        made = Progress(
            tools=self.tools.open(),
            done=self.tools.done,
            asked=self.tools.asked,
            turn=1,
            replying=replying,
        )
        return Progress.from_text(made.to_text())


async def test_a_tool_runs_and_its_result_is_told(world):
    async with Desk() as desk:
        await desk.ask("t", "count", what="tables")
    assert [arguments for _, arguments in world.done] == [{"what": "tables"}]
    assert desk.told == [ToolResult("t", ok=True, value=1)]
    assert ("event", "count tables") in desk.store.lines


async def test_the_same_call_twice_is_two_calls(world):
    async with Desk() as desk:
        await desk.ask("t1", "count")
        await desk.ask("t2", "count")
    assert len({key for key, _ in world.done}) == 2


@pytest.mark.parametrize("replying", [True, False])
async def test_what_was_done_is_not_done_again_after_a_takeover(world, replying):
    async with Desk() as desk:
        await desk.ask("t", "count", what="a")
    async with Desk() as heir:
        heir.tools.take_up(desk.progress(replying), asks_again=replying)
        if replying:  # its engine asks again
            await heir.ask("x", "count", what="a")
            assert heir.told == [ToolResult("x", ok=True, value=1)]
        heir.tools.next()
        await heir.settle()
    assert len(world.done) == 1


async def test_what_had_begun_is_not_begun_again(world):
    async with Desk() as desk:
        await desk.ask("t", "slow")
        left = desk.progress(replying=False)
        assert left.tools[0].begun
    async with Desk() as heir:
        heir.tools.take_up(left, asks_again=False)
        heir.tools.next()
        await heir.settle()
        assert heir.told == [ToolResult("t", ok=False, value=UNKNOWN)]
        assert ("event", f"slow: {UNKNOWN}") in heir.store.lines
    assert len(world.done) == 1


async def test_one_that_may_run_again_does_with_the_same_key(world):
    async with Desk() as desk:
        await desk.ask("t", "again")
        left = desk.progress(replying=False)
    async with Desk() as heir:
        world.gate.set()
        heir.tools.take_up(left, asks_again=False)
        heir.tools.next()
        await heir.settle()
        assert heir.told == [ToolResult("t", ok=True, value={"n": 2})]
    assert len({key for key, _ in world.done}) == 1


async def test_what_waited_runs_in_the_next_process(world):
    async with Desk() as desk:
        desk.tools.add(ToolCall("t", "count", {}), 1)
        left = desk.progress(replying=False)
    assert not world.done
    async with Desk() as heir:
        heir.tools.take_up(left, asks_again=False)
        heir.tools.next()
        await heir.settle()
    assert len(world.done) == 1


async def test_a_transfer_that_had_begun_is_begun_again():
    """The caller is here, so it had no effect."""
    async with Desk(fail={"ring": PbxRefused("busy")}) as desk:
        desk.tools.take_up(
            Progress.from_text(
                json.dumps(
                    {
                        "tools": [
                            {
                                "id": "t",
                                "name": "transfer",
                                "arguments": {"extension": "200"},
                                "begun": True,
                            }
                        ]
                    }
                )
            ),
            asks_again=False,
        )
        desk.tools.next()
        await desk.settle()
    assert desk.leg.names() == ["ring", "take_back"]
    assert desk.told == [ToolResult("t", ok=False, value="200: busy")]
    assert desk.store.lines == [
        ("event", "transfer 200"),
        ("event", "back with the caller"),
        ("event", "transfer failed: 200: busy"),
    ]


async def test_another_engine_that_asks_again_gets_the_one_result(world):
    async with Desk() as desk:
        await desk.ask("a:t", "slow")
        desk.tools.again()
        await desk.ask("b:t", "slow")
        world.gate.set()
        await desk.settle()
        desk.tools.again()
        await desk.ask("c:t", "slow")
    assert [(result.id, result.value) for result in desk.told] == [
        ("b:t", {"n": 1}),
        ("c:t", {"n": 1}),
    ]
    assert len(world.done) == 1


async def test_what_is_asked_for_after_an_interruption_by_a_key_is_new(world):
    """A key is no turn of the caller's."""
    async with Desk() as desk:
        await desk.ask("t1", "count")
        desk.tools.cancel()
        desk.tools.over()
        await desk.ask("t2", "count")
        assert [result.value for result in desk.told] == [1, 2]
        left = desk.progress(replying=True)
    assert len({key for key, _ in world.done}) == 2
    async with Desk() as heir:  # its engine gives the second reply again
        heir.tools.take_up(left, asks_again=True)
        await heir.ask("x", "count")
        assert heir.told == [ToolResult("x", ok=True, value=2)]
        await heir.ask("y", "count")
        assert len(world.done) == 3
    async with Desk() as heir:  # and here a third one follows
        heir.tools.take_up(left, asks_again=False)
        await heir.ask("x", "count")
    assert len({key for key, _ in world.done}) == 3
    assert len(world.done) == 4


async def test_a_call_that_a_turn_asks_for_again_after_it_went_on_is_the_same(world):
    async with Desk() as desk:
        await desk.ask("t1", "count")
        desk.tools.cancel()  # as when the turn is withdrawn, and committed again
        await desk.ask("t2", "count")
    assert [result.value for result in desk.told] == [1, 1]
    assert len(world.done) == 1


async def test_the_next_turn_may_ask_for_the_same(world):
    async with Desk() as desk:
        await desk.ask("t1", "count", turn=1)
        await desk.ask("t2", "count", turn=2)
        assert len(desk.tools.done) == 1
    assert len(world.done) == 2


async def test_somebody_elses_fault_is_a_failed_tool(world, caplog):
    async with Desk() as desk:
        await desk.ask("t", "bad")
        await desk.ask("t2", "count")
    assert desk.told[0] == ToolResult("t", ok=False, value="no")
    assert desk.told[1].ok
    assert ("event", "bad failed: no") in desk.store.lines
    assert "tool bad failed: no" in caplog.text


async def test_one_that_takes_longer_than_it_may_has_failed(world):
    async with Desk() as desk:
        toolbox._load("slow").timeout_s = 0.0
        await desk.ask("t", "slow")
        await desk.ask("t2", "count")
    assert desk.told[0] == ToolResult("t", ok=False, value="it took too long")
    assert desk.told[1].ok


async def test_what_has_begun_is_durable_before_it_runs(world):
    async with Desk() as desk:
        seen = []

        async def written(call_id, timeout_s):
            seen.append((len(world.done), desk.progress(True).tools[0].begun))
            return True

        desk.store.written = written
        await desk.ask("t", "count")
    assert seen == [(0, True)]


async def test_what_was_never_durable_is_not_run_once_the_call_is_anothers(world):
    """A process that was stopped goes on: its heir knows nothing of the tool, and runs it."""
    async with Desk() as desk:

        async def refused(call_id, timeout_s):
            desk.store.owned = False
            return True

        desk.store.written = refused
        await desk.ask("t", "count")
    assert world.done == []
    assert desk.told == []


async def test_a_caller_who_only_presses_keys_leaves_a_bounded_record(world):
    async with Desk() as desk:
        for n in range(3 * MOST_DONE):
            await desk.ask(f"t{n}", "count", what=n)
            desk.tools.cancel()
            desk.tools.over()
        assert len(desk.tools.done) == MOST_DONE
        assert desk.tools.done[-1].value == 3 * MOST_DONE


async def test_a_huge_result_is_cut(world):
    async with Desk() as desk:
        world.done = range(0)  # count appends; slow doesn't need to

        async def huge(call):
            return "x" * 10 * MOST_RESULT

        toolbox._load = {"count": huge}.__getitem__
        await desk.ask("t", "count")
    assert len(desk.told[0].value) == MOST_RESULT


async def test_why_it_failed_and_what_it_was_asked_are_bounded(monkeypatch):
    async def bad(call, **arguments):
        raise ValueError("\n" + "x" * 10 * MOST_RESULT)

    monkeypatch.setattr(toolbox, "_load", {"bad": bad}.__getitem__)
    async with Desk() as desk:
        await desk.ask("t", "bad", what="y" * 10 * MOST_RESULT)
    assert desk.told == [ToolResult("t", ok=False, value="x" * MOST_RESULT)]
    assert [len(text) for _, text in desk.store.lines] == [MOST_SHOWN, MOST_SHOWN]


async def test_which_tools_there_are_is_said():
    async with Desk() as desk:
        await desk.ask("t", "cuont")
        await desk.ask("t2", "count")
    assert "did you mean 'count'?" in desk.told[0].value
    assert "tool 'count' is not installed (entry point ari_bridge.tools)" in desk.told[1].value
