"""External media that ends by itself: another is made, for a bounded time."""

import asyncio

import pytest

from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx import renewal
from bridge.pbx.base import HungUp, Incoming, MediaLost, MediaReplaced
from bridge.pbx.leg import AsteriskLeg
from bridge.pbx.names import Name
from bridge.pbx.settings import AsteriskSettings

SETTINGS = AsteriskSettings(
    url="https://pbx:8089",
    media_transport="websocket",
    reconnect_first_s=0.001,
    reconnect_most_s=0.001,
)


class Relay:
    """Opens what it is asked for, unless `faults` has something else next."""

    media = ("127.0.0.1", 7000)

    def __init__(self):
        self.asked, self.faults = [], []

    async def open(self, connection, to, codec, port=0):
        self.asked.append((connection, to, codec, port))
        if self.faults:
            raise self.faults.pop(0)
        return "127.0.0.1", port or 4711


class Ari:
    """Makes channels that come up at once."""

    def __init__(self):
        self.listened = asyncio.Event()
        self.listened.set()
        self.asked, self.leg, self.comes_up = [], None, True

    async def call(self, name, /, **parameters):
        self.asked.append((name, parameters))
        if name == "channels.externalMedia":
            if self.comes_up:
                asyncio.get_running_loop().call_soon(
                    self.leg.room.media.started, self.leg.room.media.n
                )
            return {"channelvars": {"MEDIA_WEBSOCKET_CONNECTION_ID": parameters["channelId"]}}
        return {"value": "0"}

    def made(self):
        return [p["channelId"][-1] for name, p in self.asked if name == "channels.externalMedia"]


@pytest.fixture
async def leg():
    incoming = Incoming("1.1", ("demo",), "555", "Ann", "700", "en", "PCMU")
    ari = Ari()
    ari.relay = Relay()
    leg = ari.leg = AsteriskLeg(ari, SETTINGS, incoming, asyncio.create_task, relay=ari.relay)
    leg.ari = ari
    assert await leg.open_media(("127.0.0.1", 7000), "PCMU") == ("127.0.0.1", 4711)
    await leg.join()
    return leg


async def next_event(leg):
    return await asyncio.wait_for(leg.events.get(), 5.0)


async def test_a_call_has_another_channel_and_the_same_port(leg):
    first = leg.handles
    assert first["media_port"] == "4711"
    leg.room.media_ended(1)
    leg.room.media_ended(1)  # told twice: StasisEnd, ChannelDestroyed
    assert await next_event(leg) == MediaReplaced()
    assert leg.ari.made() == ["1", "2"]
    assert [port for *_, port in leg.ari.relay.asked] == [0, 4711]
    assert leg.handles == {**first, "media_id": first["media_id"][:-1] + "2"}
    joined = [p["channel"] for name, p in leg.ari.asked if name == "bridges.addChannel"]
    assert joined == [["1.1", leg.room.media.id(1)], [leg.room.media.id(2)]]
    assert leg.events.empty()


async def test_it_is_tried_again(leg):
    leg.ari.relay.faults = [PbxUnreachable("the relay is away"), PbxGone("it ended again")]
    leg.room.media_ended(1)
    assert await next_event(leg) == MediaReplaced()
    assert leg.ari.made() == ["1", "2", "3", "4"]


async def test_but_not_for_ever(leg, monkeypatch):
    monkeypatch.setattr(renewal, "TRIED_S", 0.0)
    leg.ari.relay.faults = [PbxRefused("no certificate")] * 99
    leg.room.media_ended(1)
    assert await next_event(leg) == MediaLost()


async def test_what_ends_at_once_again_and_again_is_one_loss(leg, monkeypatch):
    leg.room.media_ended(1)
    assert await next_event(leg) == MediaReplaced()
    monkeypatch.setattr(leg.room._renewal, "_until", 0.0)
    leg.ari.relay.faults = [PbxUnreachable("away")]
    leg.room.media_ended(2)
    assert await next_event(leg) == MediaLost()


async def test_a_call_that_ends_meanwhile_wants_no_other(leg):
    leg.ari.comes_up = False
    leg.room.media_ended(1)
    while len(leg.ari.made()) < 2:
        await asyncio.sleep(0)
    leg.end()
    assert await next_event(leg) == HungUp("left")
    await leg.release()
    assert leg.events.empty()
    hung_up = [p["channelId"] for name, p in leg.ari.asked if name == "channels.hangup"]
    assert set(hung_up) >= {leg.room.media.id(1), leg.room.media.id(2)}


async def test_during_set_up_nothing_is_renewed():
    ari = Ari()
    incoming = Incoming("1.1", ("demo",), "555", "Ann", "700", "en", "PCMU")
    leg = ari.leg = AsteriskLeg(ari, SETTINGS, incoming, asyncio.create_task, relay=Relay())
    await leg.open_media(("127.0.0.1", 7000), "PCMU")
    leg.room.media_ended(1)
    assert await next_event(leg) == MediaLost()
    with pytest.raises(PbxRefused, match="ended the external media"):
        await leg.join()


async def test_an_heir_renews_what_has_ended_before_he_came():
    """Relay and worker died together."""
    ari, relay = Ari(), Relay()
    incoming = Incoming("1.1", ("demo",), "555", "Ann", "700", "en", "PCMU")
    leg = ari.leg = AsteriskLeg(ari, SETTINGS, incoming, asyncio.create_task, relay=relay)
    name = Name("1.1", "abcdef", 3)
    bridge = str(Name("1.1", "abcdef"))
    handles = {"media_id": str(name), "media_port": "4712", "bridge_id": bridge, "joined": "1"}
    call = ari.call

    async def gone(name, /, **parameters):
        if name == "channels.move":
            if parameters["channelId"] == "1.1":
                leg.where.entered("ari-bridge")
            else:
                raise PbxGone("no such channel")
        return await call(name, **parameters)

    ari.call = gone
    await leg.fetch(handles, near=True)
    assert await next_event(leg) == MediaReplaced()
    assert relay.asked == [(leg.room.media.id(4), ("127.0.0.1", 7000), "PCMU", 4712)]
