"""What becomes of a caller's channel, by what is told of it."""

import asyncio

import pytest

from bridge.errors import PbxGone
from bridge.pbx.base import Dtmf, HungUp
from bridge.pbx.whereabouts import Whereabouts


def caller():
    return Whereabouts("1.1", "ari-bridge-w1")


def drained(where):
    events = []
    while not where.events.empty():
        events.append(where.events.get_nowait())
    return events


def test_the_end_is_told_once_and_last():
    where = caller()
    where.tell(Dtmf("1", 100))
    assert where.end(None)
    assert not where.end("lost")
    where.tell(Dtmf("2", 100))
    assert drained(where) == [Dtmf("1", 100), HungUp("left")]


def test_a_hangup_is_no_leaving():
    where = caller()
    where.hangup_requested()
    where.end(None)
    assert drained(where) == [HungUp("hangup")]


def test_events_that_nobody_fetches_are_bounded_and_the_end_still_comes(caplog):
    where = caller()
    for _ in range(1000):
        where.tell(Dtmf("1", 100))
    where.end(None)
    events = drained(where)
    assert len(events) == 257
    assert events[-1] == HungUp("left")
    assert "nobody fetches" in caplog.text


def test_nothing_more_is_asked_of_a_call_that_has_ended_or_is_released():
    where = caller()
    where.check()
    where.released = True
    with pytest.raises(PbxGone, match="released"):
        where.check()
    where = caller()
    where.end("taken")
    with pytest.raises(PbxGone, match="taken"):
        where.check()


@pytest.mark.parametrize("asked", ["hangup_requested", "passes_on", "sent_away", "released"])
def test_a_leaving_that_was_asked_for_is_no_taking(asked):
    where = caller()
    assert where.was_taken()
    if asked in ("sent_away", "released"):
        setattr(where, asked, True)
    else:
        getattr(where, asked)()
    assert not where.was_taken()


async def test_a_move_that_fails_leaves_him_ours():
    where = caller()
    where.passes_on()
    asyncio.get_running_loop().call_soon(where.move_failed)
    assert not await where.leaves(60)
    assert where.was_taken(), "a leaving after that is another's doing"


async def test_who_leaves_has_gone_where_he_was_moved_to():
    where = caller()
    where.passes_on()
    asyncio.get_running_loop().call_soon(where.end, None)
    assert await where.leaves(60)


async def test_who_enters_again_was_moved_from_us_to_us():
    where = caller()
    where.was_taken()
    asyncio.get_running_loop().call_soon(where.entered, "ari-bridge-w1-b")
    assert await where.comes_back()
    assert where.app == "ari-bridge-w1-b"
