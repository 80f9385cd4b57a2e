import pytest

from bridge.agent import Agent, TurnSettings, load
from bridge.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    def write(text, name="shop"):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_an_agent_of_one_line_has_every_default(folder):
    agent = load(folder('greeting = "Hello."'), "shop")
    assert agent == Agent("shop", greeting="Hello.")
    assert agent.turns == TurnSettings()


def test_the_table_of_the_engines_name_is_the_engines(folder):
    agent = load(folder('engine = "echo"\n[echo]\ndelay_ms = 5\nother = "x"'), "shop")
    assert agent.engine == "echo"
    assert agent.options == {"delay_ms": 5, "other": "x"}
    assert agent.file.endswith("/shop.toml")  # where the engine says that its table is wrong


def test_an_unknown_agent_names_those_that_there_are(folder):
    with pytest.raises(ConfigError, match=r"no agent 'shap' in .*; there are: bar, shop"):
        load(folder("", "bar") and folder(""), "shap")


@pytest.mark.parametrize("name", ["../secret", "", ".", "a/b"])
def test_a_dialplan_cannot_name_a_path(folder, name):
    with pytest.raises(ConfigError, match="no agent"):
        load(folder(""), name)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("greting = 'Hello'", "unknown key 'greting'; did you mean 'greeting'?"),
        ("[turn]\nbarge_in = 'off'", "unknown key 'turn'; did you mean 'turns'?"),
        ("[turns]\nend_silence = 600", "did you mean 'end_silence_ms'?"),
        ("engine = 'echo'\n[offline]\n", "unknown key 'offline'"),
        ("engine = 5", "'engine' is 5; it takes a string"),
        ("offline = 5", "'offline' is 5; it takes a table"),
        ("name = 'x'", "unknown key 'name'"),
        ("options = {}", "unknown key 'options'"),
        ("file = 'x'", "unknown key 'file'"),
        ("[turns]\nbarge_in = 'sometimes'", "it takes 'auto', 'engine', 'off'"),
        ("[turns]\nsensitivity = 2", "'sensitivity' is 2.0; it takes 0 to 1"),
        ("[turns]\nend_silence_ms = 0", "'end_silence_ms' is 0; the least is 20"),
        ("[turns]\neager_silence_ms = 700", "'eager_silence_ms' is 700; it takes 0 to"),
        ("greeting = ", "shop.toml: Invalid value"),
    ],
)
def test_what_is_wrong_is_said_with_the_cure(folder, text, error):
    with pytest.raises(ConfigError) as caught:
        load(folder(text), "shop")
    assert error in str(caught.value)
    assert "shop.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_an_error(folder, tmp_path):
    folder("")
    (tmp_path / "shop.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"shop\.toml"):
        load(tmp_path, "shop")
