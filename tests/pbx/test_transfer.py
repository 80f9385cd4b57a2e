"""Whom we ring for a caller, on a real Asterisk: every way in which it may end."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.asterisk import AsteriskPbx
from bridge.pbx.base import Callee, CalleeLeft
from tests.lab.baresip import Baresip
from tests.pbx.conftest import Controller, next_event, over, set_up

# Extensions that do what their names say, and queues whose members do.
DIALPLAN = """
[callees]
exten => busy,1,Busy(1)
exten => full,1,Congestion(1)
exten => declined,1,Hangup(21)
exten => rings,1,Ringing()
 same => n,Wait(30)
exten => talks,1,Answer()
 same => n,Wait(60)
exten => leaves,1,Answer()
 same => n,Wait(0.5)
"""
QUEUES = """
[empty]
joinempty = no
[busy]
member => Local/busy@callees
[rings]
member => Local/rings@callees
[talks]
member => Local/talks@callees
[leaves]
member => Local/leaves@callees
"""


@pytest.fixture(scope="module", autouse=True)
def places(asterisk):
    with (asterisk.etc / "extensions.conf").open("a") as file:
        file.write(DIALPLAN)
    asterisk.cli("dialplan reload")
    (asterisk.etc / "queues.conf").write_text(QUEUES)
    asterisk.cli("module load app_queue.so")


def callee(name: str, ring_s: float = 10.0, music: str = "") -> Callee:
    to = name if name.startswith("queue:") else f"{name}@callees"
    return Callee(to, "from-ari-bridge", ring_s=ring_s, music=music)


async def begun(controller, callers, ear):
    """A caller who talks to the agent, and his leg."""
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    return caller, leg


async def noted() -> None:
    """Nothing has to be remembered here."""


async def inside(callers) -> set[str]:
    """Who is in our mixing bridge."""
    bridges = await callers.ask("GET", "/bridges")
    return {c for b in bridges if b["bridge_class"] == "stasis" for c in b["channels"]}


async def until(true) -> None:
    async with asyncio.timeout(10):
        while not await true():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["talks", "queue:talks"])
async def test_blind_they_talk_and_we_are_not_needed(controller, callers, ear, name):
    caller, leg = await begun(controller, callers, ear)
    await leg.ring(callee(name), noted)
    assert leg.callee == "answered"
    assert caller.call_id not in await inside(callers)
    other = leg.handles["callee_id"]
    await leg.connect()
    assert await over(leg) == "left"
    await leg.release()

    async def together():
        bridges = await callers.ask("GET", "/bridges")
        return {caller.call_id, other} in [set(b["channels"]) for b in bridges]

    await until(together)
    for channel in (caller.call_id, other):
        said = await callers.ask(
            "GET", f"/channels/{channel}/variable", variable="TIMEOUT(absolute)"
        )
        assert said["value"] == "0"
    await caller.hang_up()
    await callers.nothing_left()


@pytest.mark.parametrize(
    ("name", "ring_s", "why"),
    [
        ("busy", 10, "busy"),
        ("full", 10, "all lines are busy"),
        ("declined", 10, "refused"),
        ("rings", 0.5, "nobody answered within 0.5 s"),
        ("nosuch", 10, "no extension 'nosuch' in context 'callees'"),
        ("queue:empty", 10, "nobody serves the queue now"),
        ("queue:busy", 0.5, "nobody answered within 0.5 s"),
        ("queue:rings", 0.5, "nobody answered within 0.5 s"),
        ("queue:nosuch", 10, "no queue 'nosuch': write it into queues.conf, and load app_queue.so"),
    ],
)
async def test_whoever_cant_be_had_is_told_why_and_the_caller_comes_back(
    controller, callers, ear, name, ring_s, why
):
    caller, leg = await begun(controller, callers, ear)
    before = await inside(callers)
    with pytest.raises(PbxRefused, match=why):
        await leg.ring(callee(name, ring_s), noted)
    await leg.take_back()
    assert await inside(callers) == before
    assert leg.callee == ""
    assert leg.events.empty()
    await leg.hang_up()
    assert await over(leg) == "hangup"
    await caller.hang_up()
    await leg.release()


async def test_a_sip_uri_without_an_endpoint_is_refused_in_words(controller, callers, ear):
    caller, leg = await begun(controller, callers, ear)
    with pytest.raises(PbxRefused, match="sip_endpoint"):
        await leg.ring(Callee("sip:ann@127.0.0.1", "x"), noted)
    with pytest.raises(PbxRefused, match="no such endpoint"):
        await leg.ring(Callee("sip:ann@127.0.0.1", "x", via="nobody"), noted)
    await leg.take_back()
    await caller.hang_up()
    await leg.release()


async def test_a_sip_uri_is_rung_by_its_endpoint(asterisk, controller, callers, ear):
    caller, leg = await begun(controller, callers, ear)
    async with Baresip("phone", asterisk.phone_password, asterisk.sip_port) as there:
        to = Callee(f"sip:{there.user}@127.0.0.1:{there.sip_port}", "x", via="phone")
        ringing = asyncio.create_task(leg.ring(to, noted))
        await there.answer()
        await ringing
        await leg.connect()
        assert await over(leg) == "left"
        await leg.release()
        await until(lambda: gone_on(callers, caller))
        await caller.hang_up()
        await asyncio.wait_for(there.closed.wait(), 10)
    await callers.nothing_left()


async def test_attended_the_agent_talks_and_then_puts_through(controller, callers, ear):
    caller, leg = await begun(controller, callers, ear)
    await leg.ring(callee("talks"), noted)
    await leg.talk()
    other = leg.handles["callee_id"]
    there = await inside(callers)
    assert other in there
    assert caller.call_id not in there
    assert len(there) == 2
    await leg.connect()
    assert await over(leg) == "left"
    await leg.release()
    await until(lambda: gone_on(callers, caller))
    await caller.hang_up()
    await callers.nothing_left()


async def gone_on(callers, caller):
    return await caller.where() == ("ari-bridge-join", "s")


@pytest.mark.parametrize("name", ["leaves", "queue:leaves"])
async def test_attended_the_other_hangs_up_and_the_caller_is_taken_back(
    controller, callers, ear, name
):
    caller, leg = await begun(controller, callers, ear)
    before = await inside(callers)
    await leg.ring(callee(name), noted)
    await leg.talk()
    assert await next_event(leg) == CalleeLeft()
    with pytest.raises(PbxRefused):
        await leg.connect()
    await leg.take_back()
    assert await inside(callers) == before
    await leg.ring(callee("talks"), noted)  # somebody else then
    await leg.connect()
    assert await over(leg) == "left"
    await leg.release()
    await until(lambda: gone_on(callers, caller))
    await caller.hang_up()


@pytest.mark.parametrize("phase", ["rings", "talks"])
@pytest.mark.parametrize("end", ["the caller hangs up", "a release"])
async def test_an_end_meanwhile_leaves_nothing(controller, callers, ear, phase, end):
    caller, leg = await begun(controller, callers, ear)
    ringing = asyncio.create_task(leg.ring(callee(phase), noted))
    await until(lambda: present(callers, leg))
    if phase == "talks":
        await ringing
        await leg.talk()
    if end == "a release":
        await leg.release()
        with suppress(PbxGone):
            await ringing
        await callers.nothing_left(caller)
        await caller.hang_up()
        return
    await caller.hang_up()
    if phase == "rings":
        with pytest.raises(PbxGone):
            await ringing
    assert await over(leg) == "hangup"
    await leg.release()
    await callers.nothing_left()


async def present(callers, leg):
    return leg.handles["callee_id"] in await callers.ids() if leg.handles["callee_id"] else False


# A worker dies, and another takes the call up -----------------------------------------------------


async def dies(controller):
    """As `kill -9` would: no release, no goodbye."""
    controller.running.cancel()
    await asyncio.wait([controller.running])


@asynccontextmanager
async def killed(settings, callers, ear, phase, name="talks"):
    """A caller, his leg in another worker, and the callee's channel, after a death in a phase."""
    async with Controller(settings).run() as dead:
        caller, leg = await begun(dead, callers, ear)
        there = asyncio.Event()

        async def noted():
            there.set()
            if phase == "noted":
                await asyncio.sleep(60)

        ringing = asyncio.create_task(leg.ring(callee(name), noted))
        await asyncio.wait_for(there.wait(), 10)
        if phase == "ringing":
            await until(lambda: present(callers, leg))
        elif phase != "noted":
            await ringing
        if phase == "talking":
            await leg.talk()
        ringing.cancel()
        handles = dict(leg.handles)
        await dies(dead)
    heir = Controller(settings)
    heir.pbx = AsteriskPbx(settings, worker="heir")
    async with heir.run():
        incoming = replace(leg.incoming, resumed=True)
        yield caller, await heir.pbx.adopt(incoming, handles, near=True), handles["callee_id"]


@pytest.mark.parametrize("phase", ["noted", "ringing"])
async def test_killed_while_it_rings_the_caller_is_taken_back(settings, callers, ear, phase):
    async with killed(settings, callers, ear, phase, "rings") as (caller, leg, other):
        assert leg.callee == "ringing"
        await leg.take_back()
        assert leg.callee == ""
        await until(lambda: gone(callers, other))
        there = await inside(callers)
        assert caller.call_id in there
        assert len(there) == 2
        await leg.ring(callee("talks"), noted)
        await leg.connect()
        assert await over(leg) == "left"
        await leg.release()
        await until(lambda: gone_on(callers, caller))
        await caller.hang_up()
        await callers.nothing_left()


@pytest.mark.parametrize("phase", ["answered", "talking"])
async def test_killed_once_he_has_answered_he_comes_over_too(settings, callers, ear, phase):
    async with killed(settings, callers, ear, phase) as (caller, leg, other):
        assert leg.callee == "answered"
        assert leg.handles["callee_id"] == other
        assert (other in await inside(callers)) is (phase == "talking")
        await leg.talk()
        assert other in await inside(callers)
        await leg.connect()
        assert await over(leg) == "left"
        await leg.release()
        await until(lambda: gone_on(callers, caller))
        await caller.hang_up()
        await callers.nothing_left()


async def test_killed_in_the_talk_and_he_is_gone_by_the_time(settings, callers, ear):
    async with killed(settings, callers, ear, "talking", "leaves") as (caller, leg, _):
        assert await next_event(leg) == CalleeLeft()
        await leg.take_back()
        there = await inside(callers)
        assert caller.call_id in there
        assert len(there) == 2
        await caller.hang_up()
        await leg.release()
        await callers.nothing_left()


async def test_killed_once_they_talk_there_is_nothing_to_take_over(settings, callers, ear):
    async with Controller(settings).run() as dead:
        caller, leg = await begun(dead, callers, ear)
        await leg.ring(callee("talks"), noted)
        handles = dict(leg.handles)
        await leg.connect()
        await over(leg)
        await dies(dead)
    heir = Controller(settings)
    heir.pbx = AsteriskPbx(settings, worker="heir")
    async with heir.run():
        incoming = replace(leg.incoming, resumed=True)
        with pytest.raises(PbxGone):
            await heir.pbx.adopt(incoming, handles, near=True)
        await until(lambda: alone(callers, caller, handles["callee_id"]))
        assert await gone_on(callers, caller)
    await caller.hang_up()
    await callers.nothing_left()


async def gone(callers, channel):
    return channel not in await callers.ids()


async def alone(callers, *who):
    """Whether these are in the only mixing bridge that there is."""
    bridges = await callers.ask("GET", "/bridges")
    ids = {who[0].call_id, *who[1:]}
    return [set(b["channels"]) for b in bridges] == [ids]
