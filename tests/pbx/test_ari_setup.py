"""The caller hangs up during set-up, before or after any one of its requests; nothing stays.

Also: what was begun is cancelled there, and Asterisk's answer is lost there.
"""

import asyncio
import time

import pytest

from bridge.errors import PbxGone, PbxRefused, PbxUnreachable
from bridge.pbx.ari import Dropped
from tests.pbx.conftest import over, set_up


async def set_up_and_on(leg, ear):
    await set_up(leg, ear)
    await over(leg)  # gone after the last step: only what comes then can fail
    await leg.answer()


STEPS = [
    "channels.getChannelVar",  # the codec, before the call is introduced
    "channels.answer",
    "channels.externalMedia",
    "bridges.createWithId",
    "channels.setChannelVar",  # the net
    "bridges.addChannel",
]


class Injection:
    """Does something before or after the first request of one operation."""

    def __init__(self, monkeypatch, controller, operation, when, what):
        self.happened = False
        ari = controller.pbx._ari
        call = ari.call

        async def injected(name, /, **parameters):
            mine = name == operation and not self.happened
            if mine:
                self.happened = True
            if mine and when == "before":
                await what()
            result = await call(name, **parameters)
            if mine and when == "after":
                await what()
            return result

        monkeypatch.setattr(ari, "call", injected)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", STEPS)
async def test_the_caller_hangs_up(
    callers, asterisk, ear, with_settings, monkeypatch, operation, when
):
    # Our fragment tells the codec; a dialplan of an operator's own is asked for it.
    asterisk.cli("dialplan add extension 801,1,Stasis(ari-bridge,own) into own")
    async with with_settings(max_call_s=60) as controller:
        caller = None

        async def hang_up():
            await caller.hang_up()

        injection = Injection(monkeypatch, controller, operation, when, hang_up)
        asked = operation == "channels.getChannelVar"
        caller = await (callers.dial("801", "own") if asked else callers.dial("700"))
        if asked:  # before anybody is told; who is told anyhow
            await callers.nothing_left()  # (the event may come after the answer) must bear it
        if not asked or not controller.legs.empty():
            leg = await controller.call()
            with pytest.raises(PbxGone):
                await set_up_and_on(leg, ear)
            await leg.release()
        assert injection.happened
        await callers.nothing_left()


@pytest.mark.parametrize("operation", ["channels.externalMedia", "bridges.createWithId"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_set_up_is_cancelled(controller, callers, ear, monkeypatch, operation, when):
    """A request that makes something is not abandoned half way, and undone by release."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def pause():
        reached.set()
        await go_on.wait()

    Injection(monkeypatch, controller, operation, when, pause)
    caller = await callers.dial("700")
    leg = await controller.call()
    setting_up = asyncio.create_task(set_up(leg, ear))
    await reached.wait()
    setting_up.cancel()
    releasing = asyncio.create_task(leg.release())
    done, _ = await asyncio.wait([releasing], timeout=0.3)
    assert not done  # it waits, though there is nothing in its way but the request
    go_on.set()
    await releasing
    await callers.nothing_left(caller)
    await caller.hang_up()


async def test_release_is_cancelled_and_still_done(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    releasing = asyncio.create_task(leg.release())
    await asyncio.sleep(0)
    releasing.cancel()
    await callers.nothing_left(caller)
    await caller.hang_up()


async def test_the_answer_to_making_media_is_lost(controller, callers, ear, monkeypatch):
    """The channel is there, and we were not told; the next try takes another name."""
    transport = controller.pbx._ari._transport
    request = transport.request
    lost = []

    async def lossy(method, url, **more):
        answer = await request(method, url, **more)
        if "externalMedia" in url and not lost:
            lost.append(url)
            raise Dropped("cut")
        return answer

    monkeypatch.setattr(transport, "request", lossy)
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    assert lost
    await caller.hang_up()
    await leg.release()
    await callers.nothing_left()


@pytest.mark.parametrize("status", [PbxRefused("no"), PbxUnreachable("away")])
async def test_a_failed_set_up_leaves_the_caller_to_the_dialplan(
    controller, callers, ear, monkeypatch, status
):
    async def fail():
        raise status

    Injection(monkeypatch, controller, "bridges.createWithId", "before", fail)
    caller = await callers.dial("700")
    leg = await controller.call()
    with pytest.raises(type(status)):
        await set_up(leg, ear)
    await leg.release()
    assert await over(leg) == "left"
    await callers.nothing_left(caller)
    await caller.hang_up()


async def test_joining_what_was_not_opened_is_refused(controller, callers):
    caller = await callers.dial("700")
    leg = await controller.call()
    with pytest.raises(PbxRefused, match="open it first"):
        await leg.join()
    await caller.hang_up()
    await leg.release()


async def test_how_long_set_up_takes(controller, callers, ear, record_property):
    """From the call's introduction to both channels in the mixing bridge; printed, not judged."""
    took_ms = []
    for _ in range(20):
        caller = await callers.dial("700")
        leg = await controller.call()
        began = time.perf_counter()
        await set_up(leg, ear)
        took_ms.append((time.perf_counter() - began) * 1e3)
        await caller.hang_up()
        await leg.release()
    took_ms.sort()
    record_property("setup_ms_p50", took_ms[10])
    print(f"set-up: p50 {took_ms[10]:.1f} ms, max {took_ms[-1]:.1f} ms")
