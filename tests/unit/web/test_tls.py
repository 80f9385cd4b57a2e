"""TLS of the API: with a certificate made here, and known again by the bridge's own commands."""

import asyncio
import ssl

import pytest
from aiohttp import ClientConnectorCertificateError, ClientSession, web

from bridge.config import Config, MediaSettings, WebSettings
from bridge.errors import ConfigError
from bridge.web import tls
from bridge.web.client import ApiUnreachable, Client
from bridge.web.parts import Parts
from bridge.web.server import application
from tests.lab.certificate import Authority
from tests.lab.root import free_port

TOKEN = "a-token-of-the-tests"


@pytest.fixture
async def served(sessions, tmp_path, monkeypatch):
    """The API by TLS, for `pbx.test`; its settings, and who has signed its certificate."""
    monkeypatch.setenv("ARI_BRIDGE_TOKEN", TOKEN)
    authority = Authority(tmp_path)
    settings = WebSettings(port=free_port(), certificate_file=str(authority.issue("pbx.test")))
    config = Config(web=settings, media=MediaSettings(runtime_dir=str(tmp_path)))
    runner = web.AppRunner(application(Parts(config, sessions), TOKEN))
    await runner.setup()
    trust = tls.server(settings)
    await web.TCPSite(runner, "127.0.0.1", settings.port, ssl_context=trust).start()
    yield config, authority, trust
    await runner.cleanup()


async def get(config, trust, name="pbx.test"):
    """What somebody beyond this host gets."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"https://127.0.0.1:{config.web.port}/v1/token"
    async with (
        ClientSession(headers=headers) as session,
        session.get(url, ssl=trust, server_hostname=name) as answer,
    ):
        return await answer.json()


async def test_by_who_has_signed_it(served):
    config, authority, _ = served
    trust = ssl.create_default_context(cafile=authority.file)
    assert await get(config, trust) == {"role": "operate"}
    with pytest.raises(ClientConnectorCertificateError):  # another name
        await get(config, trust, "other.test")
    with pytest.raises(ClientConnectorCertificateError):  # nobody that we know
        await get(config, ssl.create_default_context())


async def test_by_the_commands_of_this_host(served, tmp_path):
    config, authority, _ = served
    known = Client(config)
    assert await asyncio.to_thread(known.ask, "GET", "/v1/token") == {"role": "operate"}
    # Of the same name and by the same authority, but another one than stands in our file.
    other = WebSettings(port=config.web.port, certificate_file=str(authority.issue("pbx.test")))
    wrong = Client(Config(web=other, media=config.media))
    with pytest.raises(ApiUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        await asyncio.to_thread(wrong.ask, "GET", "/v1/token")


async def test_a_renewed_certificate_is_shown(served, tmp_path):
    config, _, trust = served
    fresh = Authority(tmp_path, "another authority")
    tls.load(trust, WebSettings(certificate_file=str(fresh.issue("pbx.test"))))
    assert await get(config, ssl.create_default_context(cafile=fresh.file))


@pytest.mark.parametrize("text", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAA\n"])
def test_a_certificate_that_can_not_be_used(tmp_path, text):
    file = tmp_path / "api.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=r"certificate .*api.pem can't be used .*key_file"):
        tls.server(WebSettings(certificate_file=str(file)))


def test_without_one_it_is_plain(tmp_path):
    assert tls.server(WebSettings()) is tls.client(WebSettings()) is None
    with pytest.raises(ValueError, match="does nothing without"):
        WebSettings(key_file="x")
