"""What the dialplan tells with a call isn't asked for; what it doesn't tell is."""

import asyncio

import pytest

from bridge.pbx import hints
from bridge.pbx.asterisk import AsteriskPbx, AsteriskSettings
from bridge.pbx.events import Channel, Started

TOLD = ("ARI_BRIDGE_CODEC=(alaw|ulaw)", "ARI_BRIDGE_LEFT_S=7199.5")


class Ari:
    """Writes down what it is asked for; every variable is `answer`."""

    def __init__(self, answer="(g722)"):
        self.answer, self.asked = answer, []
        self.listened = asyncio.Event()
        self.listened.set()

    async def call(self, name, /, **parameters):
        self.asked.append((name, parameters))
        if name == "channels.externalMedia":
            found = {"UNICASTRTP_LOCAL_ADDRESS": "127.0.0.1", "UNICASTRTP_LOCAL_PORT": "4000"}
            return {"channelvars": found}
        return {"value": self.answer} if name == "channels.getChannelVar" else None

    def variables(self, which="get"):
        return [p["variable"] for n, p in self.asked if n == f"channels.{which}ChannelVar"]

    async def close(self):
        pass


async def handed_over(ari, *args):
    pbx = AsteriskPbx(AsteriskSettings())
    pbx._ari = ari
    legs = asyncio.Queue()
    pbx._on_call = legs.put_nowait
    pbx._sort(Started(Channel("1.1", "", "", "", "700", "en", "Stasis", ""), args))
    return await asyncio.wait_for(legs.get(), 5)


async def test_what_is_told_is_neither_asked_for_nor_passed_to_the_agent():
    ari = Ari()
    leg = await handed_over(ari, "demo", "order=17", *TOLD)
    assert leg.incoming.codec == "PCMA"
    assert leg.incoming.args == ("demo", "order=17")
    await leg.open_media(("127.0.0.1", 5000), "PCMA")
    assert ari.variables() == []
    assert ari.variables("set") == []


async def test_what_is_not_told_is_asked_for():
    ari = Ari()
    leg = await handed_over(ari, "demo", "ARI_BRIDGE_CODEC=", "ARI_BRIDGE_LEFT_S=soon")
    assert leg.incoming.codec == "G722"
    ari.answer = "0"
    await leg.open_media(("127.0.0.1", 5000), "G722")
    assert ari.variables() == ["CHANNEL(audionativeformat)", "TIMEOUT(absolute)"]


@pytest.mark.parametrize(("left", "puts"), [("0", 1), ("9000", 1), ("30", 0)])
async def test_a_limit_that_is_told_counts_as_one_that_was_asked_for(left, puts):
    ari = Ari()
    leg = await handed_over(ari, "demo", f"ARI_BRIDGE_LEFT_S={left}")
    await leg.open_media(("127.0.0.1", 5000), "G722")
    assert ari.variables("set") == ["TIMEOUT(absolute)"] * puts
    assert ("net_s" in leg.handles) == bool(puts)


async def test_of_a_call_that_is_under_way_they_are_old():
    ari = Ari()
    pbx = AsteriskPbx(AsteriskSettings())
    pbx._ari = ari
    legs = asyncio.Queue()
    pbx._on_call = legs.put_nowait
    data = ",".join(("ari-bridge", "demo", *TOLD))
    pbx._sort(Started(Channel("1.1", "", "", "", "700", "en", "Stasis", data), ("resume",)))
    leg = await asyncio.wait_for(legs.get(), 5)
    assert leg.incoming.args == ("demo",)
    assert leg.incoming.codec == "G722"
    assert leg.hints == {}


async def test_whom_a_call_is_passed_on_to_is_told_as_well():
    ari = Ari()
    leg = await handed_over(ari, "demo", *TOLD)
    passing = asyncio.create_task(leg.pass_on("w2"))
    await asyncio.sleep(0)
    [(_, asked)] = ari.asked
    assert asked["appArgs"] == ",".join(("demo", *TOLD))
    leg.end("left")
    await passing


def test_a_dialplan_without_an_agent():
    assert hints.split(()) == ((), {})
    assert hints.split(("",)) == (("",), {})
