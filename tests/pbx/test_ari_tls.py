"""ARI by TLS, with the certificate that the lab's Asterisk made for itself."""

import asyncio
import ssl
from dataclasses import replace

import pytest

from bridge.errors import PbxError, PbxRefused, PbxUnreachable
from bridge.pbx.ari import Ari
from tests.lab.certificate import Authority


@pytest.fixture
def by_tls(asterisk, settings):
    """How the bridge is told of it."""
    url = f"https://127.0.0.1:{asterisk.wss_port}"
    return replace(settings, url=url, ca_file=str(asterisk.certificate))


async def test_requests_and_events(by_tls):
    ari = Ari(by_tls)
    try:
        await ari.open()
        assert await ari.call("channels.list") == []
        events = await ari.events("ari-bridge-tls-test")
        assert not events.closed
        await events.close()
    finally:
        await ari.close()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ca_file": ""}, r"can't be trusted \(.*\): set \[asterisk\] ca_file"),
        ({"ca_file": "stranger"}, "can't be trusted"),
        ({"url": "https://127.0.0.1:{plain}"}, "speaks no TLS: set url to http://"),
        ({"ca_file": "nowhere"}, "ca_file .*nowhere can't be read"),
    ],
)
async def test_who_can_not_be_trusted_is_told_nothing(asterisk, by_tls, tmp_path, changes, told):
    file, url = changes.get("ca_file"), changes.get("url")
    if file == "stranger":
        by_tls = replace(by_tls, ca_file=str(Authority(tmp_path, "a stranger").file))
    elif file is not None:
        by_tls = replace(by_tls, ca_file=file and str(tmp_path / file))
    if url is not None:
        by_tls = replace(by_tls, url=url.format(plain=asterisk.ari_port))
    with pytest.raises(PbxError, match=told) as refused:
        await Ari(by_tls).open()
    assert refused.type is (PbxRefused if file == "nowhere" else PbxUnreachable)
    assert by_tls.password not in str(refused.value)


async def test_another_name_than_the_certificates(by_tls, tmp_path):
    authority = Authority(tmp_path)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(authority.issue("pbx.test"))
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=trust)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(PbxUnreachable, match=r"mismatch.* url to a name that stands in it"):
            await Ari(replace(by_tls, url=url, ca_file=str(authority.file))).open()
