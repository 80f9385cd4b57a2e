import pytest

from bridge.agent import parse
from bridge.engines.assembly import PROVIDERS, provider
from bridge.engines.base import Shared
from bridge.engines.registry import Engines
from bridge.errors import ConfigError

TABLES = {
    "stt": {"provider": "moonshine"},
    "llm": {"provider": "openai", "url": "http://127.0.0.1:1/v1"},
    "tts": {"provider": "piper"},
}


def agent(**tables):
    return parse({"engine": "cascade", **TABLES, **tables}, "a", "a.toml")


def test_an_agent_file_names_its_parts():
    provider(agent(cascade={"sentence_gap_ms": 100}), Shared())


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"stt": {}}, r"a.toml: \[stt\]: 'provider' is missing; there are: deepgram, moonshine"),
        ({"llm": {"provider": "opnai"}}, r"\[llm\]: no provider 'opnai'; did you mean 'openai'"),
        (
            {"tts": {"provider": "zzz"}},
            r"\[tts\]: no provider 'zzz'; there are: cartesia, deepgram",
        ),
        ({"tts": {"provider": "piper", "voise": "x"}}, r"\[tts\]: unknown key 'voise'; did you"),
        ({"cascade": {"gap": 1}}, r"\[cascade\]: unknown key 'gap'"),
        ({"stt": 1}, r"'stt' is 1; it takes a table"),
        ({"language": "de"}, r"\[stt\]: moonshine understands only English"),
        ({"llm": {**TABLES["llm"], "context": "mine"}}, r"\[llm\]: no context 'mine'"),
        ({"tools": ["nothing"]}, "tool 'nothing' is not installed"),
    ],
)
def test_what_cannot_be_understood_names_its_cure(tables, words):
    with pytest.raises(ConfigError, match=words):
        provider(agent(**tables), Shared())


def test_another_engine_has_no_such_tables():
    with pytest.raises(ConfigError, match="unknown key 'stt'"):
        parse({"engine": "offline", "stt": {}}, "a", "a.toml")


async def test_every_provider_is_there():
    for kind, known in PROVIDERS.items():
        for name in known:
            with pytest.raises(ConfigError, match="unknown key 'nonsense'"):
                provider(agent(**{kind: {"provider": name, "nonsense": 1}}), Shared())
    engines = Engines()
    engines.check(agent())
    await engines.close()
