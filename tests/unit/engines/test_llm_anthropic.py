import asyncio

import pytest

from bridge.agent import Agent, TransferSettings
from bridge.engines.base import Context, Entry, Shared, ToolCall
from bridge.engines.llm_anthropic import BEGINS, GO_ON, provider
from bridge.engines.parts import Began, Do, Say
from bridge.engines.prompt import used
from bridge.errors import ConfigError, EngineError, EngineLost, EngineMissing, EngineRefused
from tests.standins.anthropic import Anthropic
from tests.standins.openai import DROP, HANG, LENGTH, Call

CONTEXT = Context("call-1", Agent("a"), "100", 8000, print, int, None, None)
AGENT = Agent("a", transfer=TransferSettings(extensions=("200",)))
ASKED = [Entry("agent", "Hello."), Entry("caller", "When are you open?")]
WHERE = "a.toml: [llm]"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", Anthropic.key)


async def steps(server, history=ASKED, agent=AGENT, **table):
    shared = Shared()
    try:
        part = provider({"url": server.url, "model": "m", **table}, WHERE, agent)
        model = await part.prepare(shared)
        return [step async for step in model.answer(CONTEXT, history)]
    finally:
        await shared.close()


def text(words):
    return [{"type": "text", "text": words}]


async def test_it_asks_with_the_conversation_and_says_sentence_by_sentence():
    async with Anthropic(["We open ", "at nine.", " We close"]) as server:
        found = await steps(server, instructions="You are Ann.", max_tokens=50)
        [request] = server.requests
    assert found == [Began(), Say("We open at nine."), Say("We close")]
    assert request["system"].startswith("You are Ann.\n\nYou are speaking on the telephone")
    assert request["messages"] == [
        {"role": "user", "content": text(BEGINS)},
        {"role": "assistant", "content": text("Hello.")},
        {"role": "user", "content": text("When are you open?")},
    ]
    assert request["max_tokens"] == 50
    assert [tool["name"] for tool in request["tools"]] == ["transfer", "hang_up"]


async def test_closing_it_closes_the_servers_stream():
    async with Anthropic(["We open at nine. We", HANG]) as server:
        shared = Shared()
        part = provider({"url": server.url, "model": "m"}, WHERE, AGENT)
        answer = (await part.prepare(shared)).answer(CONTEXT, ASKED)
        assert [await anext(answer), await anext(answer)] == [Began(), Say("We open at nine.")]
        assert not server.gone.is_set()
        await answer.aclose()
        async with asyncio.timeout(5):
            await server.gone.wait()
        await shared.close()


async def test_tools_are_called_with_what_their_blocks_gather():
    answer = [
        "I will connect you.",
        Call(0, "", "toolu_1", "transfer"),
        Call(0, '{"extension": '),
        Call(0, '"200"}'),
        Call(1, "", "toolu_2", "hang_up"),
        Call(2, "{", "toolu_3", "hang_up"),
    ]
    async with Anthropic(answer) as server:
        found = await steps(server)
    assert found[1:] == [
        Say("I will connect you."),
        Do("transfer", {"extension": "200"}),
        Do("hang_up"),
        Do("hang_up", {}, "its arguments were no JSON object"),
    ]


async def test_results_of_tools_are_the_users():
    one, two = ToolCall("ab:tool-1", "look", {"n": 1}), ToolCall("tool-2", "book")
    history = [
        Entry("caller", "Both, please."),
        Entry("agent", "One moment."),
        used(one, True, {"free": 2}),
        used(two, False, "it took too long"),
        Entry("dtmf", "42"),
        Entry("agent", "Forty-two."),
    ]
    async with Anthropic(["Fine."]) as server:
        await steps(server, history)
        messages = server.requests[0]["messages"]
    assert messages[1]["content"] == [
        {"type": "text", "text": "One moment."},
        {"type": "tool_use", "id": "ab_tool-1", "name": "look", "input": {"n": 1}},
        {"type": "tool_use", "id": "tool-2", "name": "book", "input": {}},
    ]
    assert messages[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "ab_tool-1", "content": '{"free": 2}'},
        {"type": "tool_result", "tool_use_id": "tool-2", "content": "failed: it took too long"},
        *text("[The caller pressed the keys 42.]"),
    ]
    assert messages[-1]["content"] == text(GO_ON)


async def test_a_sentence_that_the_limit_cuts_is_left_out():
    async with Anthropic(["We open at nine. We", LENGTH]) as server:
        assert await steps(server) == [Began(), Say("We open at nine.")]


OVERLOADED = (
    b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", '
    b'"message": "Overloaded"}}\n\n'
)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (404, EngineRefused, "refuses with status 404: .*not to be had"),
        (429, EngineRefused, "refuses with status 429"),
        (529, EngineError, "refuses with status 529"),
        (["We open", DROP], EngineLost, "no connection to http://127"),
        ([OVERLOADED], EngineError, "Overloaded"),
        ([b"event: content_block_delta\ndata: {nonsense\n\n"], EngineError, "can't be understood"),
        (
            [b'event: content_block_delta\ndata: {"type": "content_block_delta"}\n\n'],
            EngineError,
            "can't be understood",
        ),
    ],
)
async def test_what_goes_wrong_is_one_line(answer, kind, words):
    async with Anthropic(answer) as server:
        with pytest.raises(kind, match=words) as caught:
            await steps(server)
    assert len(str(caught.value).splitlines()) == 1


async def test_a_wrong_key_and_a_missing_one(monkeypatch):
    monkeypatch.setenv("MY_KEY", "wrong")
    async with Anthropic() as server:
        with pytest.raises(EngineRefused, match="refuses the key in MY_KEY"):
            await steps(server, key_env="MY_KEY")
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(EngineMissing, match="set the environment variable MY_KEY"):
            await steps(server, key_env="MY_KEY")
        await server.refuse()
        with pytest.raises(EngineLost, match="no connection to http://127"):
            await steps(server)
    with pytest.raises(ConfigError, match=r"a.toml: \[llm\]: 'model' is missing"):
        provider({}, WHERE, AGENT)
    with pytest.raises(ConfigError, match="know no 'temperature'"):
        provider({"model": "m", "temperature": 0.5}, WHERE, AGENT)
