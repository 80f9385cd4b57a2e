"""Agent audio of bots whose protocol knows no utterances: in order, alone and with others'."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from bridge.dialog.flow import Flow
from bridge.engines.base import Audio, Failed, Interrupt, ItemDone, Mark, ReplyDone
from bridge.engines.stream import Stream, l16

FRAME = 320


def data(value, samples=FRAME):
    return np.full(samples, value, "<i2").tobytes()


class Line:
    """A call, as far as its engine sees it: what was emitted and what flowed, in order."""

    def __init__(self, pour, room=10 * FRAME):
        self.got, self.room, self.faulty = [], room, ()
        self.flow = Flow(pour, self)
        self.stream = Stream(SimpleNamespace(flow=self.flow, emit=self.emit, new_item=lambda: 7))

    def emit(self, event):
        self.flow.close()
        if isinstance(event, self.faulty):
            raise ValueError("no")
        if isinstance(event, Audio):
            self.got.append(("audio", int(event.pcm[0]), len(event.pcm)))
            self.flow.open(event.item, self.room)
        else:
            self.got.append(type(event))


@pytest.fixture
def poured():
    return []


@pytest.fixture
def lines(poured):
    def pour(flows, pcm):
        poured.append(len(flows))
        for flow, row in zip(flows, pcm, strict=True):
            flow.to.got.append(("flowed", int(row[0]), len(row)))

    return [Line(pour) for _ in range(3)]


async def begin(lines):
    for line in lines:
        line.stream.play(data(1), l16)
        assert line.got == [("audio", 1, FRAME)]
        line.got.clear()


async def test_what_comes_of_many_in_a_round_is_played_in_one_go(lines, poured):
    await begin(lines)
    for n, line in enumerate(lines):
        line.stream.play(data(n), l16)
    assert not poured, "the round isn't over"
    await asyncio.sleep(0)
    assert poured == [3]
    assert [line.got for line in lines] == [[("flowed", n, FRAME)] for n in range(3)]
    assert [line.flow.total for line in lines] == [FRAME] * 3
    lines[0].stream.play(data(5), l16)
    lines[0].stream.play(data(6), l16)
    lines[1].stream.play(data(7), l16)
    lines[1].stream.play(b"", l16)
    await asyncio.sleep(0)
    assert lines[0].got[1:] == [("flowed", 5, 2 * FRAME)]
    assert lines[1].got[1:] == [("flowed", 7, FRAME)]


class Message(bytes):
    def __add__(self, other):
        raise AssertionError("with each message, all before it would be copied")


async def test_much_that_comes_of_one_in_a_round_is_put_together_once(lines):
    await begin(lines)
    line = lines[0]
    for n in range(40):
        line.stream.play(Message(data(n, FRAME // 4)), l16)
    await asyncio.sleep(0)
    assert line.got == [("flowed", 0, 10 * FRAME)]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (lambda stream: stream.mark("m"), [ItemDone, ReplyDone, Mark]),
        (Stream.clear, [Interrupt]),
        (Stream.done, [ItemDone, ReplyDone]),
        (lambda stream: stream.tick(100), [ItemDone, ReplyDone]),
        (lambda stream: stream.ended("broke"), [ItemDone, ReplyDone, Failed]),
        (Stream.cut, []),
    ],
)
async def test_whatever_else_comes_comes_behind_it(lines, then, told):
    await begin(lines)
    line, other, _ = lines
    other.stream.play(data(3), l16)
    line.stream.play(data(2), l16)
    then(line.stream)
    assert line.got == [("flowed", 2, FRAME), *told]
    assert other.got == [("flowed", 3, FRAME)]
    await asyncio.sleep(0)
    assert len(other.got) == 1, "once"


async def test_where_it_flows_no_more_it_goes_the_long_way(lines):
    await begin(lines)
    for line in lines:
        line.stream.play(data(2), l16)
    lines[0].flow.close()
    lines[1].flow.over = lambda: True
    lines[2].flow.room = FRAME - 1
    await asyncio.sleep(0)
    assert [line.got for line in lines] == [[("audio", 2, FRAME)]] * 3
    lines[0].flow.close()
    lines[0].stream.play(data(3), l16)
    assert lines[0].got[1:] == [("audio", 3, FRAME)], "at once"


async def test_who_is_gone_is_played_nothing(lines, poured):
    await begin(lines)
    lines[0].stream.play(data(2), l16)
    lines[0].stream.stop()
    lines[0].stream.play(data(3), l16)
    await asyncio.sleep(0)
    assert not lines[0].got
    assert not poured


@pytest.mark.parametrize(
    ("faulty", "faults", "told"), [(Audio, 1, [ItemDone, ReplyDone, Failed]), (object, 2, [])]
)
async def test_one_that_fails_fails_alone(lines, faulty, faults, told):
    failed = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: failed.append(what))
    await begin(lines)
    for line in lines:
        line.stream.play(data(2), l16)
    lines[0].flow.close()
    lines[0].faulty = faulty
    await asyncio.sleep(0)
    assert [line.got for line in lines[1:]] == [[("flowed", 2, FRAME)]] * 2
    await asyncio.sleep(0)
    assert [str(what["exception"]) for what in failed] == ["no"] * faults
    assert lines[0].got == told
