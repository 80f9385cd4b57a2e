"""What a worker does about a recording: orders, marks, keys, and what isn't written down."""

import json

import pytest

from bridge.agent import parse
from bridge.dialog.playout import Heard
from bridge.errors import ConfigError
from bridge.pbx.base import Incoming
from bridge.recorded import Recording
from bridge.recording import notes
from bridge.toolbox import ToolContext, builtin
from bridge.transcript import LATE_S, Transcript

ON = {"enabled": True, "folder": "records"}


class Slot:
    recorded = None

    def __init__(self):
        self.marks = []

    def record(self, on):
        self.marks.append(on)
        self.recorded = on


class Media:
    def __init__(self, runtime_dir):
        self.runtime_dir = runtime_dir


class Store:
    def __init__(self):
        self.told, self.lines = {}, []

    def put(self, call_id, **fields):
        self.told |= fields

    def say(self, call_id, line):
        self.lines.append((line.role, line.text))


class Call:
    def __init__(self, tmp_path, slot=None, told="", **settings):
        self.folder = tmp_path
        table = {"recording": {**ON, **settings}} if settings.get("enabled", True) else {}
        self.agent = parse(table, "demo", str(tmp_path / "agents" / "demo.toml"))
        self.slot, self.store = slot or Slot(), Store()
        self.transcript = Transcript(self.store, "c/1")
        incoming = Incoming("c/1", ("demo",), "+49 30 1", "", "100", "", "PCMU", False, "")
        self.recording = Recording(
            *(self.agent, incoming, self.slot, Media(tmp_path), self.store, self.transcript)
        )
        if told or slot:
            self.recording.take_up(told)
        else:
            self.recording.begin()

    @property
    def order(self):
        return notes.ordered(self.folder, "c/1")


def test_an_agent_that_records_nothing_leaves_no_trace(tmp_path):
    call = Call(tmp_path, enabled=False)
    assert call.order is None
    assert (call.slot.marks, call.store.told, call.store.lines) == ([], {}, [])
    assert not call.recording.pause()
    assert call.recording.keys("*") == ("*", False)


def test_an_order_says_all_that_the_recorder_needs(tmp_path):
    call = Call(tmp_path, format="opus", retention_days=2, encrypt_key_file="key")
    order = call.order
    assert order.path.startswith(str(tmp_path / "agents" / "records"))
    assert "c/1" not in order.path.removeprefix(str(tmp_path)), "no name is a path"
    assert (order.agent, order.caller, order.dialed) == ("demo", "+49 30 1", "100")
    assert (order.format, order.key_file) == ("opus", str(tmp_path / "agents" / "key"))
    assert order.delete_at - order.started == 2 * 86_400
    assert call.slot.marks == [True]
    assert json.loads(call.store.told["recording"])["parts"] == [order.path]


def test_a_pause_leaves_everything_out(tmp_path):
    call = Call(tmp_path)
    assert call.recording.pause()
    assert call.recording.pause(), "twice is once"
    call.transcript.say("dtmf", "4")
    call.transcript.caller("my card is 4111")
    call.transcript.agent(Heard(1, 900, "4111, right?", False))
    call.transcript.settle()
    call.transcript.say("event", "charge 4111")
    call.transcript.say("event", "barge-in")
    assert call.recording.resume()
    call.transcript.say("dtmf", "5")
    assert call.slot.marks == [True, False, True]
    assert "4111" not in str(call.store.lines)
    hidden = "(not recorded)"
    assert sorted(call.store.lines) == sorted(
        [
            ("event", "recording paused"),
            ("event", f"key {hidden}"),
            ("caller", hidden),
            ("agent", hidden),
            ("event", f"charge {hidden}"),
            ("event", "barge-in"),
            ("event", "recording goes on"),
            ("dtmf", "5"),
        ]
    )


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1e9

        def time(self):
            return self.now

    made = Clock()
    monkeypatch.setattr("bridge.transcript.time", made)
    monkeypatch.setattr("bridge.recorded.time", made)
    return made


def told_late(transcript, **ago):
    """What comes after a pause and was said in it, or may have been."""
    transcript.caller("4111", **ago)
    transcript.agent(Heard(1, 2500, "4111, right?", False))
    transcript.say("event", "charge 4111")


@pytest.mark.parametrize("ago", [{"began_ms": 6000, "ended_ms": 3000}, {}])
def test_what_was_said_in_a_pause_is_left_out_however_late_its_words_come(tmp_path, clock, ago):
    call = Call(tmp_path)
    call.recording.pause()
    clock.now += 5
    call.recording.resume()
    clock.now += 2
    told_late(call.transcript, **ago)
    assert "4111" not in str(call.store.lines)
    assert ("caller", "(not recorded)") in call.store.lines
    heir = Call(tmp_path, slot=call.slot, told=call.store.told["recording"])
    told_late(heir.transcript, **ago)
    assert "4111" not in str(heir.store.lines)
    call.recording.pause()
    call.transcript.note("taken over")
    what = [("event", "recording paused"), ("event", "taken over")]
    assert call.store.lines[-2:] == what, "so soon after, too"


def test_what_was_said_after_a_pause_is_written_down(tmp_path, clock):
    call = Call(tmp_path)
    call.recording.pause()
    call.recording.resume()
    clock.now += 4
    call.transcript.caller("That was it.", 3000, 1000)
    call.transcript.settle()
    call.transcript.agent(Heard(1, 1500, "Thank you.", False))
    clock.now += LATE_S
    call.transcript.caller("Bye.")
    call.transcript.say("event", "charge it")
    assert call.store.lines[2:] == [
        ("caller", "That was it."),
        ("agent", "Thank you."),
        ("caller", "Bye."),
        ("event", "charge it"),
    ]


def test_an_heir_goes_on_in_the_same_file_paused_as_it_was(tmp_path):
    call = Call(tmp_path)
    call.recording.pause()
    heir = Call(tmp_path, slot=call.slot, told=call.store.told["recording"])
    assert not heir.recording.on
    assert heir.transcript.private
    assert heir.slot.marks == [True, False], "nothing is marked anew"
    assert heir.recording.resume()
    assert json.loads(heir.store.told["recording"])["parts"] == [call.order.path]


def test_an_heir_on_another_host_begins_another_part_paused_as_it_was(tmp_path):
    call = Call(tmp_path)
    call.recording.pause()
    heir = Call(tmp_path, slot=Slot(), told=call.store.told["recording"])
    assert heir.slot.marks == [True, False]
    assert heir.transcript.private
    told = json.loads(heir.store.told["recording"])
    assert len(set(told["parts"])) == 2
    assert told["started"] == json.loads(call.store.told["recording"])["started"]


def test_an_heir_of_a_call_that_is_not_recorded(tmp_path):
    heir = Call(tmp_path, slot=Slot(), enabled=False)
    assert heir.slot.marks == []


@pytest.mark.parametrize(
    ("pressed", "passed", "toggles"),
    [
        ("*7", "", 1),
        ("*7*7", "", 2),
        ("12", "12", 0),
        ("1*75", "15", 1),
        ("**7", "*", 1),
        ("*8", "*8", 0),
        ("*", "", 0),
    ],
)
def test_keys_that_pause_are_not_the_agents(tmp_path, pressed, passed, toggles):
    call = Call(tmp_path, pause_keys="*7")
    told = [call.recording.keys(key) for key in pressed]
    assert "".join(keys for keys, _ in told) == passed
    assert len(call.slot.marks) == 1 + toggles
    assert call.recording.held_back() == ("*" if pressed == "*" else "")
    assert call.recording.held_back() == ""


def test_keys_with_a_beginning_that_comes_again(tmp_path):
    call = Call(tmp_path, pause_keys="1121")
    told = [call.recording.keys(key)[0] for key in "1112112"]
    assert "".join(told) == "112"
    assert len(call.slot.marks) == 2


async def test_tools_pause_and_go_on(tmp_path):
    call = Call(tmp_path)
    context = ToolContext("c", "k", "", "demo", None, {}, call.recording)
    assert await builtin.pause_recording(context) == "paused"
    assert await builtin.resume_recording(context) == "the call is recorded again"
    assert call.slot.marks == [True, False, True]
    none = ToolContext("c", "k", "", "demo", None, {})
    assert await builtin.pause_recording(none) == "the call is not recorded"


def test_a_folder_of_orders_that_cannot_be_written_to(tmp_path, caplog):
    (tmp_path / "recording").write_text("in the way")
    call = Call(tmp_path)
    assert "the call is not recorded" in caplog.text
    assert call.slot.marks == []
    assert not call.recording.pause()


# ---- the agent's file


def agent(**recording):
    table = {"greeting": "Hello.", "recording": {**ON, **recording}}
    return parse(table, "demo", "agents/demo.toml")


def test_consent_comes_before_every_greeting_and_is_heard_out():
    told = agent(consent="This call is recorded.")
    assert told.greeting == "This call is recorded. Hello."
    assert told.rejoin_greeting.startswith("This call is recorded. Welcome")
    assert told.turns.guard_greeting_ms == 22 * 75
    assert agent(enabled=False, consent="This call is recorded.").greeting == "Hello."


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"folder": ""}, "'folder'"),
        ({"pause_keys": "7a"}, "'pause_keys'"),
        ({"retention_days": -1}, "'retention_days'"),
        ({"format": "flac"}, "format"),
    ],
)
def test_a_table_that_is_wrong(table, message):
    with pytest.raises(ConfigError, match=message):
        agent(**table)


def test_a_bot_that_greets_itself_cannot_tell_of_the_recording():
    table = {"engine": "echo", "recording": {**ON, "consent": "Recorded."}}
    with pytest.raises(ConfigError, match="take 'consent' out"):
        parse(table, "demo", "agents/demo.toml")
