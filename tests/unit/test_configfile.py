"""bridge.toml with the environment over it, where each value comes from, what is never shown."""

import json
import tomllib

import pytest

from bridge import cli, config, configfile, configshow
from bridge.errors import ConfigError

FILE = '''# first line
[asterisk]
url = "http://10.0.0.1:8088"  # [media]
password = """
not
shown"""

[media]
port = 7002
'''
TWO = """
[[asterisk]]
name = "north"
[[asterisk]]
name = "south"
password = "s"
"""


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for name in configfile.KNOWN_ELSEWHERE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bridge.toml"
    path.write_text(FILE.replace("\nnot\nshown", "not-shown"))
    return path


def test_every_key_has_the_line_it_stands_in():
    text = FILE + 'max_calls = 3\n[agents]\nfolder = "a"\n'
    found = configfile.lines(text)
    assert found["asterisk", 0, "url"] == 3
    assert found["asterisk", 0, "password"] == 4  # where it begins
    assert (found["media", 0, "port"], found["media", 0, "max_calls"]) == (9, 10)
    assert found["agents", 0, "folder"] == 12
    assert {(t, k) for t, _, k in found} == {
        (table, key) for table, keys in tomllib.loads(text).items() for key in keys
    }


def test_lines_of_several_tables_and_of_other_spellings():
    found = configfile.lines(TWO)
    assert (found["asterisk", 0, "name"], found["asterisk", 1, "name"]) == (3, 5)
    found = configfile.lines('media.port = 1\nlog = {level = "info"}\n[a.b]\nc = 1\nd = 2')
    assert found == {
        ("media", 0, "port"): 1,
        ("log", 0, "level"): 2,
        ("a", 0, "b.c"): 4,
        ("a", 0, "b.d"): 5,
    }


def test_the_environment_is_stronger_than_the_file_and_says_so(file, monkeypatch):
    monkeypatch.setenv("ARI_BRIDGE_MEDIA_PORT", "7004")
    monkeypatch.setenv("ARI_BRIDGE_WORKER_DRAIN_S", "1.5")
    monkeypatch.setenv("ARI_BRIDGE_SESSIONS_REQUIRED", "TRUE")
    monkeypatch.setenv("ARI_BRIDGE_LOG_LEVEL", "debug")
    found, origins = config.read(file)
    assert (found.media.port, found.worker.drain_s) == (7004, 1.5)
    assert (found.sessions.required, found.log.level) == (True, "debug")
    assert origins["media", 0, "port"] == "environment ARI_BRIDGE_MEDIA_PORT"
    assert origins["asterisk", 0, "url"] == f"{file}:3"
    assert ("media", 0, "dtx") not in origins


def test_names_that_people_have_already(file, monkeypatch):
    monkeypatch.setenv("ASTERISK_ARI_URL", "http://10.0.0.9:8088/ari/")
    monkeypatch.setenv("ASTERISK_ARI_USERNAME", "anna")
    monkeypatch.setenv("ASTERISK_ARI_PASSWORD", "p${x}")  # of the environment as it is
    monkeypatch.setenv("REDIS_URL", "redis://10.0.0.8:6379/3")
    found, origins = config.read(file)
    (asterisk,) = found.asterisk
    assert (asterisk.url, asterisk.username) == ("http://10.0.0.9:8088", "anna")
    assert (asterisk.password, found.redis.url) == ("p${x}", "redis://10.0.0.8:6379/3")
    assert origins["asterisk", 0, "url"] == "environment ASTERISK_ARI_URL"
    monkeypatch.setenv("ARI_BRIDGE_REDIS_URL", "redis://10.0.0.7:6379/0")  # meant for us alone
    assert config.load(file).redis.url == "redis://10.0.0.7:6379/0"


def test_the_environment_alone_is_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "PLACES", (tmp_path / "none.toml",))
    with pytest.raises(ConfigError, match="no configuration"):
        config.load(None)
    monkeypatch.setenv("ASTERISK_ARI_PASSWORD", "p")
    assert config.load(None).asterisk[0].password == "p"


def test_each_of_several_asterisks_has_names_of_its_own(file, monkeypatch):
    file.write_text(TWO)
    monkeypatch.setenv("ARI_BRIDGE_ASTERISK_NORTH_PASSWORD", "n")
    north, south = config.load(file).asterisk
    assert (north.password, south.password) == ("n", "s")
    monkeypatch.setenv("ASTERISK_ARI_PASSWORD", "whose")
    with pytest.raises(ConfigError, match="ARI_BRIDGE_ASTERISK_NORTH_PASSWORD"):
        config.load(file)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ARI_BRIDGE_MEDIA_PROT", "1", "did you mean ARI_BRIDGE_MEDIA_PORT?"),
        ("ARI_BRIDGE_REDS_URL", "redis://h", "did you mean ARI_BRIDGE_REDIS_URL?"),
        ("ARI_BRIDGE_LOG_XYZZY", "1", "there are: ARI_BRIDGE_LOG_LEVEL"),
        (
            "ARI_BRIDGE_MEDIA_PORT",
            "tcp://10.0.0.1:7000",
            "'tcp://10.0.0.1:7000'; it takes",
        ),
        ("ARI_BRIDGE_MEDIA_DTX", "maybe", "takes true or false"),
        ("ARI_BRIDGE_MEDIA_PORT", "99999", "between 0 and 65535"),
        ("ARI_BRIDGE_ASTERISK_PASSWORD_FILE", "/nowhere/p", "/nowhere/p can't be read"),
    ],
)
def test_what_is_wrong_with_a_variable_is_said(file, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert told in str(caught.value)


def test_what_an_agent_may_ask_for_is_no_setting(file, monkeypatch):
    monkeypatch.setenv("ARI_BRIDGE_SHOP_KEY", "k")
    monkeypatch.setenv("ARI_BRIDGE_TOKEN", "0123456789abcdef")
    config.load(file)


def test_secrets_come_from_files(file, tmp_path, monkeypatch):
    (tmp_path / "ari").write_text("from-a-file\n")
    (tmp_path / "redis").write_text("p@ss/word\n")
    file.write_text(
        f'[asterisk]\npassword = "${{file:{tmp_path}/ari}}"\n'
        f'[redis]\nurl = "redis://h/0"\nusername = "ari"\npassword = "${{REDIS_PASS}}"\n'
    )
    monkeypatch.setenv("REDIS_PASS", "p@ss/word")
    found = config.load(file)
    assert found.asterisk[0].password == "from-a-file"
    assert found.redis.url == "redis://ari:p%40ss%2Fword@h/0"
    monkeypatch.delenv("REDIS_PASS")
    with pytest.raises(ConfigError, match="'password': the environment variable REDIS_PASS"):
        config.load(file)
    monkeypatch.setenv("ARI_BRIDGE_REDIS_PASSWORD_FILE", str(tmp_path / "redis"))
    file.write_text('[redis]\nurl = "redis://h/0"\n')
    assert config.load(file).redis.url == "redis://:p%40ss%2Fword@h/0"
    file.write_text('[redis]\nurl = "redis://:other@h/0"\n')
    with pytest.raises(ConfigError, match="keep one"):
        config.load(file)


SECRETS = """
[asterisk]
password = "hush-ari"
[redis]
url = "redis://anna:hush-url@10.0.0.1:6379/2"
"""


def test_what_is_printed_is_toml_with_origins_and_without_secrets(file, monkeypatch, capsys):
    file.write_text(SECRETS)
    monkeypatch.setenv("ARI_BRIDGE_MEDIA_PORT", "7004")
    assert cli.main(["config", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    assert "hush" not in out
    assert f'password = "***"  # {file}:3' in out
    assert f'url = "redis://***@10.0.0.1:6379/2"  # {file}:5' in out
    assert "port = 7004  # environment ARI_BRIDGE_MEDIA_PORT" in out
    assert "max_calls = 1000  # default" in out
    assert tomllib.loads(out)["media"]["port"] == 7004
    assert "hush" not in repr(config.load(file))


@pytest.mark.parametrize(
    "text",
    [
        "[asterisk]\npassword = 7777777",
        "[asterisk]\npassword = ['7777777']",
        "[redis]\npassword = 7777777",
        "[redis]\nurl = 'redis://anna:x/77777@h/0'",
        "[redis]\nurl = 'redis+sentinel://h:7777777@x:y/s'",
        "[redis]\nurl = 7777777",
    ],
)
def test_no_error_shows_a_secret(file, text):
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert "77777" not in str(caught.value)
    assert "'url'" in str(caught.value) or "'password'" in str(caught.value)


def test_tables_in_tables(file, monkeypatch, capsys):
    file.write_text('[web]\nport = 1\n[web.phone]\nuser = "ann"\nurl = "wss://h/ws"\n')
    monkeypatch.setenv("ARI_BRIDGE_WEB_PHONE_PASSWORD", "hush")
    found, origins = config.read(file)
    assert (found.web.phone.user, found.web.phone.password) == ("ann", "hush")
    assert origins["web", 0, "phone.user"] == f"{file}:4"
    out = configshow.text(found, origins)
    assert 'password = "***"  # environment ARI_BRIDGE_WEB_PHONE_PASSWORD' in out
    assert f'[web.phone]\nurl = "wss://h/ws"  # {file}:5' in out
    assert tomllib.loads(out)["web"]["phone"]["user"] == "ann"
    file.write_text('[web]\nphone = {user = "bob", url = "wss://h/ws"}\n')
    assert f'user = "bob"  # {file}:2' in configshow.text(*config.read(file))


def test_values_are_written_as_toml():
    value = {"a": 'say "x"\n', "b": [1, 2.5, True], "c": {"d": None, "e": ""}}
    assert tomllib.loads(f"x = {configshow.toml(value)}")["x"] == {
        "a": 'say "x"\n',
        "b": [1, 2.5, True],
        "c": {"e": ""},
    }


def test_a_schema_is_json(capsys):
    assert cli.main(["config", "--schema"]) == 0
    assert "media" in json.loads(capsys.readouterr().out)["properties"]
