"""What a leg does with what it is told; what it does in Asterisk is tested on one (tests/pbx)."""

import asyncio

import aiohttp
import pytest

from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.asterisk import AsteriskPbx, AsteriskSettings
from bridge.pbx.base import Dtmf, HungUp, Incoming, MediaLost
from bridge.pbx.events import Channel, Destroyed, Ended, HangupRequested, Started, Told
from bridge.pbx.leg import AsteriskLeg


class Ari:
    """Writes down what it is asked for, and says nothing."""

    def __init__(self):
        self.asked = []

    async def call(self, name, /, **parameters):
        self.asked.append((name, parameters))


def leg_of(ari=None):
    incoming = Incoming("1.1", ("demo",), "555", "Ann", "700", "en", "PCMU")
    return AsteriskLeg(ari or Ari(), AsteriskSettings(), incoming, asyncio.create_task)


def drained(leg):
    events = []
    while not leg.events.empty():
        events.append(leg.events.get_nowait())
    return events


def test_another_channels_end_is_not_our_medias():
    leg = leg_of()
    leg.room.media_ended(1)
    assert drained(leg) == []
    assert not leg.room.media.made


async def test_lost_media_is_told_once_and_not_after_release():
    leg = leg_of()
    leg.room.media.n, leg.room.media.state = 1, "up"
    leg.room.media_ended(2)
    assert drained(leg) == []
    leg.room.media_ended(1)
    leg.room.media_ended(1)  # ChannelDestroyed after StasisEnd
    assert drained(leg) == [MediaLost()]
    leg.room.media.n, leg.room.media.state = 2, "up"
    await leg.release()
    leg.room.media_ended(2)
    assert drained(leg) == []


async def test_release_asks_once_for_each_thing_that_was_ever_asked_for():
    ari = Ari()
    leg = leg_of(ari)
    leg.room.media.n, leg.room._bridge = 2, "tried"
    leg.end()
    await asyncio.gather(leg.release(), leg.release())
    name = f"ari-bridge-1.1-{leg.room.token}"
    assert sorted((n, *p.values()) for n, p in ari.asked) == [
        ("bridges.destroy", (404,), name),
        ("channels.hangup", (404,), f"{name}-1"),
        ("channels.hangup", (404,), f"{name}-2"),
    ]


async def test_keys_are_never_sent_twice():
    ari = Ari()
    await leg_of(ari).send_dtmf("4711#")
    asked = {"channelId": "1.1", "dtmf": "4711#", "ok": (), "again": False}
    assert ari.asked == [("channels.sendDTMF", asked)]


async def test_nothing_can_be_asked_of_a_call_that_has_ended():
    leg = leg_of()
    leg.end()
    for work in (
        leg.answer(),
        leg.open_media(("127.0.0.1", 1), "PCMU"),
        leg.transfer("200", "x"),
        leg.leave({}),
        leg.get_variable("X"),
        leg.set_variable("X", "1"),
        leg.send_dtmf("1"),
        leg.statistics(),
    ):
        with pytest.raises(PbxGone):
            await work
    await leg.hang_up()
    assert leg._commands._ari.asked == []


# ---- a caller is passed on: that a move was accepted says nothing


async def passing_on(move_timeout_s=5.0):
    ari = Ari()
    incoming = Incoming("1.1", ("demo", "a=b"), "555", "Ann", "700", "en", "PCMU")
    settings = AsteriskSettings(move_timeout_s=move_timeout_s)
    leg = AsteriskLeg(ari, settings, incoming, asyncio.create_task)
    task = asyncio.create_task(leg.pass_on("w2"))
    await asyncio.sleep(0)
    [(name, asked)] = ari.asked
    assert (name, asked["app"], asked["appArgs"]) == ("channels.move", "ari-bridge-w2", "demo,a=b")
    return leg, task


async def test_who_has_left_us_is_passed_on_and_no_longer_ours():
    leg, task = await passing_on()
    await asyncio.sleep(0)
    assert not task.done(), "the answer to the request is no success"
    leg.end("left")
    await task
    assert leg._commands.forgotten
    await leg.release()
    assert len(leg._commands._ari.asked) == 1, "nothing of his is taken away"


@pytest.mark.parametrize("told", [True, False])
async def test_who_could_not_be_moved_stays_with_us(told):
    leg, task = await passing_on(5.0 if told else 0.001)
    if told:
        leg.where.move_failed()
    with pytest.raises(PbxRefused, match="could not move the call to worker w2"):
        await task
    assert not leg._commands.forgotten
    assert leg.where.was_taken(), "where he leaves us now, it is not by us"
    await leg.answer()


# ---- events reach the leg that they are for


def channel(channel_id):
    return Channel(channel_id, "", "", "", "700", "en", "Stasis", "ari-bridge,demo")


async def test_events_are_sorted_by_channel():
    pbx = AsteriskPbx(AsteriskSettings())
    one, two = leg_of(), leg_of()
    pbx._legs = {"1.1": one, "2.1": two}
    for event in (
        Told("1.1", Dtmf("1", 100)),
        Told("3.1", Dtmf("3", 100)),  # nobody's
        Told("2.1", Dtmf("2", 100)),
        Told("1.1", Dtmf("4", 100)),
        HangupRequested("1.1"),
        Ended("1.1"),
        Destroyed("1.1"),
        Ended("3.1"),
    ):
        pbx._sort(event)
    assert drained(one) == [Dtmf("1", 100), Dtmf("4", 100), HungUp("hangup")]
    assert drained(two) == [Dtmf("2", 100)]
    assert list(pbx._legs) == ["2.1"]


async def test_media_of_another_leg_of_the_same_call_is_not_ours():
    pbx = AsteriskPbx(AsteriskSettings())
    leg = leg_of()
    pbx._legs = {"1.1": leg}
    leg.room.media.n, leg.room.media.state = 1, "coming"
    pbx._sort(Started(channel("ari-bridge-1.1-000000-1"), ()))
    assert leg.room.media.state == "coming"
    pbx._sort(Started(channel(f"ari-bridge-1.1-{leg.room.token}-1"), ()))
    assert leg.room.media.state == "up"
    pbx._sort(Ended("ari-bridge-1.1-000000-1"))
    assert leg.room.media.state == "up"
    pbx._sort(Ended(f"ari-bridge-1.1-{leg.room.token}-1"))
    assert drained(leg) == [MediaLost()]


async def test_a_start_that_is_told_twice_is_one_call():
    pbx = AsteriskPbx(AsteriskSettings())
    told = []
    pbx._on_call = told.append
    pbx._sort(Started(channel("1.1"), ("demo",)))
    first = pbx._legs["1.1"]
    pbx._sort(Started(channel("1.1"), ("demo",)))
    assert pbx._legs["1.1"] is first
    await pbx.close()
    assert told == [first]


async def test_who_is_moved_from_us_to_us_stays_and_who_is_taken_goes():
    pbx = AsteriskPbx(AsteriskSettings(), worker="w1")
    back, gone, hung_up = (leg_of() for _ in range(3))
    for number, leg in enumerate((back, gone, hung_up), 1):
        leg.channel, leg.where.app = f"{number}.1", pbx.app
        pbx._legs[leg.channel] = leg
    for event in (
        Ended("1.1", pbx.app),
        Started(channel("1.1"), ("resume",), pbx.app),
        HangupRequested("3.1"),
        Ended("3.1", pbx.app),
        Ended("2.1", pbx.app),
    ):
        pbx._sort(event)
    assert drained(hung_up) == [HungUp("hangup")], "that takes no time"
    assert await asyncio.wait_for(gone.events.get(), 5) == HungUp("left")
    assert drained(back) == []
    assert list(pbx._legs) == ["1.1"]


@pytest.mark.parametrize("there", [True, False])
async def test_who_is_home_already_is_not_moved(there):
    pbx, ari = one_of_several()
    ari.caller = "1.1" if there else "2.1"
    await pbx.send_home("1.1", "w2")
    assert [p["app"] for n, p in ari.asked if n == "channels.move"] == (
        [] if there else ["ari-bridge-w2"]
    )


class Listings(Ari):
    """An Asterisk with one caller, in the front door's application, and what the heir made."""

    bridge = "ari-bridge-1.1-aaaaaa"
    caller = "1.1"
    is_open = True

    async def call(self, name, /, **parameters):
        await super().call(name, **parameters)
        caller = {
            "id": "1.1",
            "dialplan": {"app_name": "Stasis", "app_data": "ari-bridge,demo", "exten": "700"},
        }
        return {
            "applications.get": {"channel_ids": [self.caller], "bridge_ids": []},
            "channels.list": [caller],
            "bridges.list": [{"id": self.bridge}],
            "channels.getChannelVar": {"value": "ulaw"},
        }.get(name)

    async def close(self):
        pass

    def taken_away(self):
        return [p for n, p in self.asked if n in ("channels.hangup", "bridges.destroy")]


class Waking:
    """An owner that was held up: `lost` is what it finds out then."""

    def __init__(self):
        self.lost = lambda: None

    async def sure(self):
        self.lost()

    async def mine(self, call_id):
        return False


def one_of_several(owner=None):
    pbx = AsteriskPbx(AsteriskSettings(), worker="w1", owner=owner)
    pbx._ari = ari = Listings()
    pbx.told = asyncio.Queue()
    pbx._on_call = pbx.told.put_nowait
    return pbx, ari


async def test_a_call_that_is_anothers_is_a_stranger_from_then_on():
    pbx, ari = one_of_several()
    pbx._sort(Started(channel("1.1"), ("demo",), "ari-bridge"))
    leg = await asyncio.wait_for(pbx.told.get(), 5)
    leg.forget()  # it was old news: another worker has taken him meanwhile
    await pbx._reconcile("ari-bridge")
    assert ari.taken_away() == []
    again = await asyncio.wait_for(pbx.told.get(), 5)
    assert again.incoming.resumed, "the door finds out whose he is"
    await pbx.close()


@pytest.mark.parametrize(
    ("app", "args", "sent"),
    [
        ("ari-bridge-w1", ("demo",), True),
        ("ari-bridge-w1", ("resume",), False),
        ("ari-bridge", ("demo",), False),
    ],
)
async def test_who_comes_in_by_our_own_door_was_sent(app, args, sent):
    pbx, _ = one_of_several()
    pbx._sort(Started(channel("1.1"), args, app))
    leg = await asyncio.wait_for(pbx.told.get(), 5)
    assert leg.incoming.sent is sent
    await pbx.close()


async def test_who_is_new_to_us_may_be_anothers():
    pbx, ari = one_of_several()
    pbx._sort(Started(channel("1.1"), ("demo",), "ari-bridge"))
    await pbx._reconcile("ari-bridge")
    assert ari.taken_away() == []
    pbx._legs["1.1"].foundling = False  # now we have made something
    await pbx._reconcile("ari-bridge")
    assert ari.taken_away() == [{"bridgeId": ari.bridge, "ok": (404,)}]
    await pbx.close()


async def test_who_was_held_up_takes_nothing_away_that_is_anothers_now():
    owner = Waking()
    pbx, ari = one_of_several(owner)
    leg = pbx._legs["1.1"] = leg_of(ari)
    leg._on_forget = pbx._forget
    owner.lost = leg.forget
    await pbx._reconcile(pbx.app)
    assert ari.taken_away() == []
    await pbx.close()


async def test_keys_are_passed_on_until_a_call_that_is_handed_over_is_fetched():
    pbx, _ = one_of_several()
    keys = []
    for caller in ("1.1", "2.1"):
        leg = pbx._legs[caller] = leg_of()
        leg.channel, leg._on_forget = caller, pbx._forget
    pbx.hand_over(lambda call_id, digit: keys.append(digit))
    pbx._sort(Told("1.1", Dtmf("1", 100)))  # it is ours still
    for leg in [*pbx._legs.values()]:
        leg.forget()
    waiting = asyncio.create_task(pbx.fetched(60))
    pbx._sort(Told("1.1", Dtmf("2", 100)))
    pbx._sort(Told("3.1", Dtmf("3", 100)))  # a stranger's
    pbx._sort(Ended("1.1", pbx.app))
    pbx._sort(Told("1.1", Dtmf("4", 100)))
    await asyncio.sleep(0)
    assert not waiting.done()
    pbx._sort(Ended("2.1", "ari-bridge"))
    await asyncio.wait_for(waiting, 5)
    assert keys == ["2"]
    await pbx.close()


async def test_what_is_no_event_is_survived(caplog):
    class Socket:
        def __init__(self, *texts):
            self.messages = [aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, t, None) for t in texts]
            self.messages.insert(0, aiohttp.WSMessage(aiohttp.WSMsgType.ERROR, OSError(), None))

        async def __aiter__(self):
            for message in self.messages:
                yield message

    pbx = AsteriskPbx(AsteriskSettings())
    leg = leg_of()
    pbx._legs = {"1.1": leg}
    await pbx._listener("ari-bridge", print)._read(
        Socket(
            "{",
            "[]",
            '{"type": "NewInAsterisk30"}',
            '{"type": "StasisEnd"}',
            '{"type": "StasisEnd", "channel": {"id": "1.1"}}',
        )
    )
    assert drained(leg) == [HungUp("left")]
    assert "can't be understood" in caplog.text


class Bridges(Ari):
    """Says who is in which mixing bridge, the last for ever."""

    def __init__(self, *listings):
        super().__init__()
        self.listings = list(listings)

    async def call(self, name, /, **parameters):
        await super().call(name, **parameters)
        if name == "bridges.list":
            return self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
        return None


@pytest.mark.parametrize(("later", "left"), [(True, False), (False, True)])
async def test_whom_nobody_takes_after_all_is_hung_up_on(monkeypatch, later, left):
    monkeypatch.setattr("bridge.pbx.handover._TAKEN_S", (0, 0, 0))
    ari = Bridges([], [])
    leg = leg_of(ari)
    leg.other.plan()
    leg.other.state = "given"
    if later:
        talk = {"id": "6f0c", "bridge_class": "basic", "channels": ["1.1", leg.other.id()]}
        ari.listings = [[], [talk]]
    leg.end()
    await leg.release()
    hung_up = {p["channelId"] for n, p in ari.asked if n == "channels.hangup"}
    assert (leg.other.id() in hung_up) is left
