import asyncio

import pytest

from bridge.agent import Agent, TransferSettings
from bridge.engines.base import Context, Entry, Shared, ToolCall
from bridge.engines.llm_openai import provider
from bridge.engines.parts import Began, Do, Say
from bridge.engines.prompt import ON_THE_PHONE, used
from bridge.errors import ConfigError, EngineError, EngineLost, EngineMissing, EngineRefused
from tests.standins.openai import DROP, HANG, LENGTH, Call, OpenAi

CONTEXT = Context(
    "call-1", Agent("a"), "100", 8000, print, int, None, None, variables={"who": "Ann"}
)
AGENT = Agent("a", transfer=TransferSettings(extensions=("200",)))
ASKED = [Entry("agent", "Hello."), Entry("caller", "When are you open?")]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", OpenAi.key)


async def steps(server, history=ASKED, agent=AGENT, **table):
    shared = Shared()
    try:
        part = provider({"url": server.url, **table}, "a.toml: [llm]", agent)
        model = await part.prepare(shared)
        return [step async for step in model.answer(CONTEXT, history)]
    finally:
        await shared.close()


async def test_it_asks_with_the_conversation_and_says_sentence_by_sentence():
    async with OpenAi([" We open ", "at nine.", " We", " close at six"]) as server:
        found = await steps(
            server, instructions="You are {who}.", model="m", temperature=0.2, max_tokens=50
        )
        [request] = server.requests
    assert found == [Began(), Say("We open at nine."), Say("We close at six")]
    assert request["messages"] == [
        {"role": "system", "content": f"You are Ann.\n\n{ON_THE_PHONE}"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "When are you open?"},
    ]
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("m", 0.2, 50)
    assert [t["function"]["name"] for t in request["tools"]] == ["transfer", "hang_up"]


async def test_a_sentence_is_there_before_the_rest_is_written():
    async with OpenAi(["We open at nine. We", HANG]) as server:
        shared = Shared()
        part = provider({"url": server.url}, "a.toml: [llm]", AGENT)
        answer = (await part.prepare(shared)).answer(CONTEXT, ASKED)
        assert [await anext(answer), await anext(answer)] == [Began(), Say("We open at nine.")]
        assert not server.gone.is_set()
        await answer.aclose()
        async with asyncio.timeout(5):
            await server.gone.wait()  # closing it closed the server's stream
        await shared.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [("We open at nine. We close", ["We open at nine."]), ("We open at", ["We open at"])],
)
async def test_a_sentence_that_the_limit_cuts_is_left_out_unless_it_is_all(text, said):
    async with OpenAi([text, LENGTH]) as server:
        assert await steps(server) == [Began(), *map(Say, said)]


async def test_fragments_of_tool_calls_gather_by_index():
    fragments = [
        "I will connect you.",
        Call(0, "", "call_1", "transfer"),
        Call(1, "{", "call_2", "hang_up"),
        Call(0, '{"exten'),
        Call(1, "}"),
        Call(0, 'sion": "200"}'),
    ]
    async with OpenAi(fragments) as server:
        found = await steps(server)
    assert found[1:] == [
        Say("I will connect you."),
        Do("transfer", {"extension": "200"}),
        Do("hang_up"),
    ]


@pytest.mark.parametrize("text", ['{"extension": ', "[1]", "nonsense"])
async def test_arguments_that_are_no_object_are_a_fault_that_the_model_learns_of(text):
    async with OpenAi([Call(0, text, "call_1", "transfer")]) as server:
        found = await steps(server)
    assert found == [Began(), Do("transfer", {}, "its arguments were no JSON object")]


async def test_results_of_tools_stand_behind_their_calls():
    one, two = ToolCall("tool-1", "look", {"n": 1}), ToolCall("tool-2", "book")
    history = [
        Entry("caller", "Both, please."),
        Entry("agent", "One moment."),
        used(one, True, {"free": 2}),
        used(two, False, "it took too long"),
        Entry("dtmf", "42"),
        Entry("event", "The line was bad."),
    ]
    async with OpenAi(["Fine."]) as server:
        await steps(server, history)
        messages = server.requests[0]["messages"][1:]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert messages[1]["content"] == "One moment."
    assert [c["function"]["arguments"] for c in messages[1]["tool_calls"]] == ['{"n": 1}', "{}"]
    assert [m["content"] for m in messages[2:4]] == ['{"free": 2}', "failed: it took too long"]
    assert messages[4]["content"] == "[The caller pressed the keys 42.]\n[The line was bad.]"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (404, EngineRefused, "refuses with status 404: .*not to be had"),
        (429, EngineRefused, "refuses with status 429"),
        (500, EngineError, "refuses with status 500"),
        (["We open", DROP], EngineLost, "no connection to http://127"),
        ([b"data: {nonsense\n\n"], EngineError, "can't be understood"),
        ([b'data: {"error": {"message": "out of memory"}}\n\n'], EngineError, "out of memory"),
    ],
)
async def test_what_goes_wrong_is_one_line(answer, kind, words):
    async with OpenAi(answer) as server:
        with pytest.raises(kind, match=words) as caught:
            await steps(server)
    assert len(str(caught.value).splitlines()) == 1


async def test_a_wrong_key_names_the_variable(monkeypatch):
    monkeypatch.setenv("MY_KEY", "wrong")
    async with OpenAi() as server:
        with pytest.raises(EngineRefused, match="refuses the key in MY_KEY"):
            await steps(server, key_env="MY_KEY")


async def test_nobody_there():
    async with OpenAi() as server:
        await server.refuse()
        with pytest.raises(EngineLost, match="no connection to http://127"):
            await steps(server)


async def test_openai_itself_needs_a_key_and_a_model(monkeypatch):
    with pytest.raises(ConfigError, match=r"a.toml: \[llm\]: 'model' is missing"):
        provider({}, "a.toml: [llm]", AGENT)
    part = provider({"model": "gpt"}, "a.toml: [llm]", AGENT)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EngineMissing, match="set the environment variable OPENAI_API_KEY"):
        await part.prepare(Shared())


async def test_a_server_of_ones_own_needs_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr(OpenAi, "key", "none")
    async with OpenAi(["Yes."]) as server:
        assert await steps(server) == [Began(), Say("Yes.")]


async def test_more_of_the_request_is_passed_on():
    async with OpenAi(["Yes."]) as server:
        await steps(server, extra={"seed": 7}, tools=False)
        assert server.requests[0]["seed"] == 7
        assert "tools" not in server.requests[0]


def test_a_key_that_is_not_known_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown key 'modle'; did you mean 'model'"):
        provider({"modle": "m"}, "a.toml: [llm]", AGENT)
