import pytest

from bridge.agent import Agent
from bridge.engines.base import Context, Entry, ToolCall
from bridge.engines.prompt import ON_THE_PHONE, Message, assemble, assembler, conversation, used
from bridge.errors import ConfigError

LOOK = ToolCall("t1", "look")


def context(notes=(), **variables):
    more = {"variables": variables, "notes": dict(notes)}
    return Context("c", Agent("a"), "100", 8000, print, int, None, None, **more)


async def test_the_instructions_come_first_with_the_dialplans_variables():
    [system, line] = await assemble(
        context(name="Ann"), " Greet {name}, not {other}. {}", [Entry("caller", "Hi.")]
    )
    assert system == Message("system", f"Greet Ann, not {{other}}. {{}}\n\n{ON_THE_PHONE}")
    assert line == Message("user", "Hi.")


async def test_what_was_noted_is_told_with_them():
    [system] = await assemble(context({"order": "4711", "name": "Ann"}), "Help.", [])
    assert system.text.startswith(f"Help.\n\n{ON_THE_PHONE}\n\nWhat you have noted of this call:")
    assert system.text.endswith("\n- order: 4711\n- name: Ann")


def test_both_sides_alternate():
    history = [
        Entry("agent", "Hello."),
        Entry("agent", "How are you?"),
        Entry("caller", "Fine."),
        Entry("dtmf", "1"),
        Entry("event", ""),
        Entry("agent", "Good."),
    ]
    assert conversation(history) == [
        Message("assistant", "Hello. How are you?"),
        Message("user", "Fine.\n[The caller pressed the keys 1.]"),
        Message("assistant", "Good."),
    ]


def test_a_tools_result_stands_behind_its_call_and_what_is_said_of_it_behind_that():
    history = [
        Entry("caller", "Free?"),
        used(LOOK, True, [1]),
        Entry("agent", "One."),
        Entry("caller", "And?"),
        Entry("agent", "Let me see."),
        used(LOOK, False, "broken"),
    ]
    assert conversation(history) == [
        Message("user", "Free?"),
        Message("assistant", calls=(LOOK,)),
        Message("tool", "[1]", call_id="t1"),
        Message("assistant", "One."),
        Message("user", "And?"),
        Message("assistant", "Let me see.", calls=(LOOK,)),
        Message("tool", "failed: broken", call_id="t1"),
    ]


def test_what_is_old_is_left_out():
    history = [Entry("caller", f"{n:09d}") for n in range(100)]
    [line] = conversation(history, 45)
    assert line.text.split() == ["000000095", "000000096", "000000097", "000000098", "000000099"]
    assert conversation([Entry("caller", "x" * 100)], 45) == [Message("user", "x" * 100)]
    assert conversation([]) == []


def test_an_assembler_that_is_not_there():
    assert assembler("", "a.toml") is assemble
    with pytest.raises(
        ConfigError, match=r"a.toml: no context 'mine' is installed \(entry point ari_bridge"
    ):
        assembler("mine", "a.toml")
