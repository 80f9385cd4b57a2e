"""The relay as workers know it: who comes when it dies, and what a slow Asterisk is told as."""

import asyncio
import json

import pytest

from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.settings import AsteriskSettings
from bridge.relay import client, server
from bridge.relay.client import SOCKET, RelayClient, relay_serves
from bridge.relay.server import Server

SETTINGS = AsteriskSettings(
    url="https://pbx:8089", media_transport="websocket", media_timeout_s=0.05
)


class Flow:
    """Stays open until it is closed."""

    refused = 0

    def __init__(self, sock, on_end):
        self.address, self._on_end = sock.getsockname(), on_end
        self.down = self
        self.left_out, self.closed = 3, False
        sock.close()

    def close(self):
        self.closed = True
        self._on_end(self)


@pytest.fixture
async def relay(tmp_path, monkeypatch):
    """A server whose Asterisk answers with what `answers` holds next."""
    made = Server([SETTINGS], tmp_path)
    made.flows, made.answers = [], []

    async def opened(settings, context, connection, codec, sock, on_end):
        answer = made.answers.pop(0) if made.answers else None
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        elif answer is not None:
            sock.close()
            raise answer
        made.flows.append(Flow(sock, on_end))
        return made.flows[-1]

    monkeypatch.setattr(server, "open_flow", opened)
    monkeypatch.setattr(server, "_LOOK_S", 0.01)
    (tmp_path / "relay.lock").touch()
    lock = (tmp_path / "relay.lock").open("rb")
    made.client = RelayClient(tmp_path, "", lambda: ("127.0.0.1", 7000))
    made.running = asyncio.create_task(made.run(server.os.dup(lock.fileno())))
    lock.close()
    while not relay_serves(tmp_path):
        await asyncio.sleep(0)
    yield made
    made.stop()
    await made.running


def ask(relay, port=0):
    return relay.client.open("id", relay.client.media, "PCMU", port)


async def test_flows_are_closed_with_it(relay):
    host, port = await ask(relay)
    assert (host, port) == relay.flows[0].address
    relay.stop()
    await relay.running
    assert relay.flows[0].closed


@pytest.mark.parametrize("error", [PbxGone, PbxRefused, PbxUnreachable])
async def test_what_went_wrong_is_told_as_it_is(relay, error):
    relay.answers = [error("why")]
    with pytest.raises(error, match="why"):
        await ask(relay)


async def test_who_needs_his_port_again_gets_it(relay):
    _, port = await ask(relay)
    assert await ask(relay, port) == ("127.0.0.1", port)
    assert relay.flows[0].closed, "it had not noticed its end"


async def test_a_slow_asterisk_is_not_waited_for_by_everybody(relay):
    never = asyncio.Event()
    relay.answers = [never] * server._AT_ONCE
    slow = [asyncio.create_task(ask(relay)) for _ in range(server._AT_ONCE)]
    while relay.answers:
        await asyncio.sleep(0)
    with pytest.raises(PbxUnreachable, match="slow to take connections"):
        await ask(relay)
    never.set()
    assert len(await asyncio.gather(*slow)) == server._AT_ONCE


async def test_another_launchers_relay_takes_over_and_calls_end_in_their_time(
    relay, tmp_path, monkeypatch
):
    await ask(relay)
    monkeypatch.setattr(server.keeper, "holder", lambda folder: 1)
    monkeypatch.setattr(server.keeper, "orphaned", lambda: True)
    while relay_serves(tmp_path):  # it looks for that now and then
        await asyncio.sleep(0.01)
    assert not relay.running.done()
    assert not relay.flows[0].closed
    relay.flows[0].close()
    await relay.running


async def test_a_relay_that_is_not_there_is_waited_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "SUCCESSOR_S", 0.0)
    alone = RelayClient(tmp_path, "", lambda: ("127.0.0.1", 7000))
    with pytest.raises(PbxUnreachable, match=r"no relay at .*: start `ari-bridge relay`"):
        await alone.open("id", alone.media, "PCMU")


@pytest.mark.parametrize("said", [b"", b"{", b'{"address"\n'])
async def test_one_that_dies_while_it_is_asked(tmp_path, said):
    async def serve(reader, writer):
        json.loads(await reader.readline())
        writer.write(said)
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / SOCKET):
        asked = RelayClient(tmp_path, "", lambda: ("127.0.0.1", 7000))
        with pytest.raises(PbxUnreachable, match="ended before it answered"):
            await asked.open("id", asked.media, "PCMU")


async def test_one_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "ANSWER_S", 0.01)
    done = asyncio.Event()

    async def serve(reader, writer):
        await done.wait()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / SOCKET):
        asked = RelayClient(tmp_path, "", lambda: ("127.0.0.1", 7000))
        with pytest.raises(PbxUnreachable, match="did not answer within"):
            await asked.open("id", asked.media, "PCMU")
        done.set()
