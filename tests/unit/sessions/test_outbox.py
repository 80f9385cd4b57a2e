"""What waits to be written: merged, in order, bounded."""

from bridge.sessions.model import Line, Record
from bridge.sessions.outbox import Outbox


def line(at, text="x"):
    return Line(at, "caller", text)


def ids(box, call_id="a"):
    return [stream_id for stream_id, _ in box.pending[call_id].lines]


def test_ids_rise_whatever_the_clock_does():
    box = Outbox(100, 100)
    box.begin("a")
    for at in (1.0, 1.0, 0.5, 1.5):
        box.say("a", line(at))
    assert ids(box) == ["1000-0", "1000-1", "1000-2", "1500-0"]


def test_lines_that_came_with_a_call_have_the_ids_by_which_they_are_stored():
    first, heir = Outbox(100, 100), Outbox(100, 100)
    first.begin("a")
    said = [line(at) for at in (1.0, 1.0, 0.5, 1.5, 2.0)]
    for one in said:
        first.say("a", one)
    heir.adopt(Record("a", fence=2), said)
    heir.refresh("a")
    assert ids(heir) == ids(first)
    heir.say("a", line(1.5))
    assert ids(heir)[-1] == "2000-1"


def test_what_a_failed_batch_held_comes_before_what_has_gathered_since():
    box = Outbox(100, 100)
    box.begin("a")
    box.put("a", {"state": "setup", "agent": "demo"})
    box.say("a", line(1.0))
    batch = box.next_batch()
    box.put("a", {"state": "talking"})
    box.say("a", line(2.0))
    box.take_back(batch)
    assert box.pending["a"].fields == {"state": "talking", "agent": "demo"}
    assert ids(box) == ["1000-0", "2000-0"]


def test_what_was_forgotten_while_it_was_being_sent_does_not_come_back():
    box = Outbox(3, 100)
    for call_id in ("a", "b"):
        box.begin(call_id)
        box.put(call_id, {"state": "talking"})
        box.say(call_id, line(1.0))
    batch = box.next_batch()
    box.forget("a")
    box.take_back(batch)
    assert set(box.pending) == {"b"}
    box.say("b", line(2.0))
    box.say("b", line(3.0))
    assert len(ids(box, "b")) == 3, "the forgotten line is not counted any more"


def test_the_oldest_lines_of_the_call_with_the_most_are_given_up(caplog):
    box = Outbox(4, 100)
    for call_id in ("a", "b"):
        box.begin(call_id)
    box.say("b", line(1.0))
    for n in range(5):
        box.say("a", line(float(n), str(n)))
    assert [one.text for _, one in box.pending["a"].lines] == ["2", "3", "4"]
    assert len(ids(box, "b")) == 1
    assert "giving up the oldest transcript lines" in caplog.text
