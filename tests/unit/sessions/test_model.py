"""Records and transcript lines survive the way through Redis' strings."""

from bridge.sessions.model import Line, Record, call_key, transcript_key


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


def test_a_record_passes_over_what_a_newer_form_added():
    record = Record.from_fields({"v": "9", "call_id": "a", "started": "5.250", "mood": "fine"})
    assert record == Record("a", started=5.25)


def test_a_record_of_the_next_version_is_read_as_far_as_it_is_known():
    record = Record.from_fields({"v": "2", "call_id": "c1", "fence": "4", "mood": "good"})
    assert (record.call_id, record.fence) == ("c1", 4)


def test_a_record_of_the_last_version_lacks_what_is_new():
    record = Record.from_fields({"v": "0", "call_id": "c1", "state": "talking"})
    assert (record.place, record.numbers, record.pbx) == ("", "", "")
