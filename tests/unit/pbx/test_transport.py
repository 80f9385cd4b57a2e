"""What external media is asked for, and what is said when Asterisk can't."""

import ssl

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


def fault(code, message="why"):
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, message
    return certificate.fault(error, "https://pbx:8089/prefix")


def test_each_fault_of_a_certificate_has_its_cure():
    assert "Asterisk at pbx:8089 is not trusted (why): set [asterisk] ca_file" in fault(18)
    assert "is for another name (why): let [asterisk] url say" in fault(62)
    assert fault(64) == fault(62)
    assert "has expired: renew it" in fault(10)
    assert "no TLS with what" in certificate.fault(ssl.SSLError(1, "wrong version"), "https://x")


def test_a_file_that_is_no_certificate(tmp_path):
    for text in (None, "no certificate"):
        file = tmp_path / "ca.pem"
        if text:
            file.write_text(text)
        settings = AsteriskSettings(url="https://pbx", ca_file=str(file))
        with pytest.raises(PbxRefused, match=r"ca\.pem can't be read .* set \[asterisk\] ca_file"):
            certificate.tls(settings)


def test_the_file_lies_beside_the_configuration(tmp_path):
    file = tmp_path / "bridge.toml"
    file.write_text('[asterisk]\nurl = "https://pbx"\nca_file = "pbx.crt"\n')
    (one,) = config.load(file).asterisk
    assert one.ca_file == str(tmp_path / "pbx.crt")
    assert not config.load(file).needs_relay
    file.write_text('[asterisk]\nurl = "https://pbx"\nmedia_transport = "websocket"\n')
    assert config.load(file).needs_relay
    file.write_text('[asterisk]\nmedia_transport = "web"\n')
    with pytest.raises(ConfigError, match="it takes 'rtp', 'websocket'"):
        config.load(file)
