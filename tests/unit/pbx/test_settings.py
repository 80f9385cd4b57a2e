import pytest

from bridge.errors import ConfigError
from bridge.pbx.asterisk import AsteriskSettings
from bridge.settings import build


def test_defaults_are_an_asterisk_beside_us():
    assert AsteriskSettings().url == "http://127.0.0.1:8088"


def test_the_password_is_not_shown():
    assert "hush" not in repr(AsteriskSettings(password="hush"))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"url": "127.0.0.1:8088"}, "takes something like http://HOST:8088"),
        ({"url": "ws://pbx:8088"}, "takes something like http://HOST:8088"),
        ({"url": "http://"}, "takes something like http://HOST:8088"),
        ({"url": "http://me:secret@pbx:8088"}, "see 'username', 'password'"),
        ({"app": ""}, "'app' is ''"),
        ({"app": "a,b"}, "'app' is 'a,b'"),
        ({"ping_s": 0}, "'ping_s' is 0"),
        ({"max_call_s": -1}, "'max_call_s' is -1"),
        ({"request_timeout_s": "soon"}, "it takes a number"),
        ({"user": "x"}, "did you mean 'username'?"),
    ],
)
def test_what_cannot_be_is_told(table, told):
    with pytest.raises(ConfigError, match=r"bridge.toml \[asterisk\]") as caught:
        build(AsteriskSettings, table, "bridge.toml [asterisk]")
    assert told in str(caught.value)


def test_a_prefix_is_fine():
    build(AsteriskSettings, {"url": "https://pbx.example/asterisk/"}, "x")
