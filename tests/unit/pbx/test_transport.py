"""What external media is asked for, and what is said when Asterisk can't."""

import pytest

from bridge import config
from bridge.audio.codecs import CODECS
from bridge.errors import ConfigError, PbxRefused
from bridge.pbx import certificate
from bridge.pbx.settings import AsteriskSettings
from bridge.pbx.transport import CODECS as CARRIED
from bridge.pbx.transport import WebSocket, transport_of
from bridge.relay.stream import FORMS


def test_rtp_is_what_there_is_without_a_word():
    transport = transport_of(AsteriskSettings(), None)
    asked = {"external_host": "[::1]:7000", "format": "alaw"}
    assert transport.request(("::1", 7000), "PCMA") == asked
    assert transport.home is None


def test_the_relay_can_carry_what_is_taken():
    assert set(FORMS) == CARRIED == {n for n, c in CODECS.items() if n in FORMS and not c.down}


def test_plain_http_tells_who_listens_what_the_secret_is():
    with pytest.raises(ValueError, match="takes an https:// 'url'"):
        AsteriskSettings(url="http://pbx:8088", media_transport="websocket")


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("Asterisk answers channels.externalMedia with 501 not supported", "needs chan_websocket"),
        ("Asterisk answers channels.externalMedia with 403 : set read_only=no", ""),
    ],
)
def test_only_what_may_be_the_modules_fault_is_called_so(told, wanted):
    text = str(WebSocket(None).refused(PbxRefused(told)))
    assert wanted in text if wanted else text == told


async def test_an_asterisk_that_names_no_connection():
    with pytest.raises(PbxRefused, match=r"needs chan_websocket\.so running"):
        await WebSocket(None).address({"channelvars": {}}, ("127.0.0.1", 7000), "PCMU")


def test_a_file_that_is_no_certificate(tmp_path):
    file = tmp_path / "ca.pem"
    for text in ("", "no certificate"):
        file.write_text(text)
        settings = AsteriskSettings(url="https://pbx", ca_file=str(file))
        with pytest.raises(PbxRefused, match=r"ca\.pem can't be read .* takes certificates"):
            certificate.tls(settings)


def test_a_relay_is_needed_where_it_is_asked_for(tmp_path):
    file = tmp_path / "bridge.toml"
    file.write_text('[asterisk]\nurl = "https://pbx"\n')
    assert not config.load(file).needs_relay
    file.write_text('[asterisk]\nurl = "https://pbx"\nmedia_transport = "websocket"\n')
    assert config.load(file).needs_relay
    file.write_text('[asterisk]\nmedia_transport = "web"\n')
    with pytest.raises(ConfigError, match="it takes 'rtp', 'websocket'"):
        config.load(file)
