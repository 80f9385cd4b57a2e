"""Records and transcript lines survive the way through Redis' strings."""

import json

from bridge.sessions.model import Line, Record, call_key, known_caller, transcript_key
from bridge.sessions.progress import Done, Item, Progress, Tool


def test_names_share_a_hash_tag():
    assert call_key("17.5") == "ari-bridge:{17.5}:call"
    assert transcript_key("17.5") == "ari-bridge:{17.5}:transcript"


def test_a_line_comes_back_as_it_was():
    for line in (
        Line(12.5, "caller", "hello"),
        Line(13.0, "agent", "good mor", heard_ms=640, cut=True),
        Line(14.0, "agent", "yes", heard_ms=200),
    ):
        assert Line.from_fields(line.fields()) == line


def test_a_record_keeps_what_a_newer_form_added():
    record = Record.from_fields({"v": "9", "call_id": "a", "started": "5.250", "mood": "fine"})
    assert record == Record("a", started=5.25, other={"mood": "fine"})


def test_progress_keeps_what_a_newer_form_added_and_does_without_what_an_older_one_lacks():
    older = '{"items":[{"item":1,"text":"a","queued":5,"heard":2,"done":false}],"turn":3}'
    progress = Progress.from_text(older)
    assert progress == Progress(items=(Item(1, "a", 5, 2, False),), turn=3)
    newer = Progress.from_text(
        older[:-1] + ',"tools":[{"id":"t","name":"x","arguments":{},"new":1}],"mood":{"a":1}}'
    )
    assert newer.unknown == {"mood": {"a": 1}}
    assert newer.tools == (Tool("t", "x", {}),)
    assert json.loads(newer.to_text())["mood"] == {"a": 1}
    assert Progress.from_text(newer.to_text()) == newer


def test_what_became_of_a_tool_comes_back():
    progress = Progress(
        tools=(Tool("t", "book", {"day": "today"}, begun=True, key="k"),),
        done=(Done("k2", "book", True, {"table": 5}),),
    )
    assert Progress.from_text(progress.to_text()) == progress


def test_who_hides_his_number_is_nobody():
    assert [
        n
        for n in ("+49301234", "alice", "", "anonymous", "Anonymous", " ", "unknown")
        if known_caller(n)
    ] == ["+49301234", "alice"]


def test_a_record_of_the_next_version_is_read_as_far_as_it_is_known():
    record = Record.from_fields({"v": "2", "call_id": "c1", "fence": "4", "mood": "good"})
    assert (record.call_id, record.fence) == ("c1", 4)


def test_a_record_of_the_last_version_lacks_what_is_new():
    record = Record.from_fields({"v": "0", "call_id": "c1", "state": "talking"})
    assert (record.place, record.numbers, record.pbx) == ("", "", "")
