"""The controller's ordinary life, on a real Asterisk."""

import asyncio

import pytest

from bridge.errors import PbxGone, PbxRefused
from bridge.pbx.base import Dtmf, Hold, MediaLost
from bridge.pbx.names import parse_name
from tests.lab.baresip import Baresip
from tests.pbx.conftest import next_event, over, set_up


async def test_a_call_is_set_up_and_torn_down(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    assert leg.incoming.call_id == caller.call_id
    assert leg.incoming.args == ("demo",)
    assert (leg.incoming.caller_name, leg.incoming.caller_number) == ("Ann", "555")
    assert leg.incoming.dialed == "700"
    assert not leg.incoming.resumed

    address = await set_up(leg, ear)

    (bridge,) = await callers.ask("GET", "/bridges")
    assert bridge["bridge_type"] == "mixing"
    assert parse_name(bridge["id"]).caller == caller.call_id
    assert caller.call_id in bridge["channels"]
    (media,) = set(bridge["channels"]) - {caller.call_id}
    assert parse_name(media).caller == caller.call_id

    await caller.speak()
    packet, source = await asyncio.wait_for(ear.packets.get(), 5)
    assert source == address
    assert packet[0] == 0x80  # RTP, version 2
    assert packet[1] & 0x7F == 0  # PCMU

    await leg.hang_up()
    assert await over(leg) == "hangup"
    await leg.release()
    await leg.release()
    await callers.nothing_left()


async def test_the_callers_hangup_is_told(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    await caller.hang_up()
    assert await over(leg) == "hangup"
    with pytest.raises(PbxGone):
        await leg.answer()
    await leg.hang_up()  # it is what was wanted
    await leg.release()


@pytest.mark.parametrize(("codec", "payload_type"), [("PCMU", 0), ("PCMA", 8), ("L16", 10)])
async def test_external_media_has_the_codec_that_was_asked_for(
    controller, callers, ear, codec, payload_type
):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear, codec)
    await caller.speak()
    packet, _ = await asyncio.wait_for(ear.packets.get(), 5)
    assert packet[1] & 0x7F == payload_type
    await caller.hang_up()
    await leg.release()


async def test_keys_come_in_order(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    for digit in "7#*":
        await caller.press(digit)
        event = await next_event(leg)
        assert event.digit == digit
        assert event.duration_ms > 50
    await caller.hang_up()
    await leg.release()


async def test_a_phone_with_a_law_holds_and_hangs_up(controller, callers, ear, asterisk):
    """What a Local channel can't show: the codec of a real phone, its hold, its statistics."""
    async with Baresip("phone", asterisk.phone_password, asterisk.sip_port, codec="pcma") as phone:
        dialling = asyncio.create_task(phone.dial("700"))
        leg = await controller.call()
        assert leg.incoming.codec == "PCMA"
        await set_up(leg, ear)
        await dialling
        packet, _ = await asyncio.wait_for(ear.packets.get(), 5)
        assert packet[1] & 0x7F == 8  # PCMA, unchanged
        await phone.hold()
        assert await next_event(leg) == Hold(on=True)
        await phone.resume()
        assert await next_event(leg) == Hold(on=False)
        assert (await leg.statistics())["received"] > 0
        await phone.hangup()
        assert await over(leg) == "hangup"
        await leg.release()


async def test_transfer_to_an_extension(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    assert await leg.extension_exists("200", "from-ari-bridge")
    await leg.transfer("200", "from-ari-bridge")
    assert await over(leg) == "left"
    async with asyncio.timeout(5):
        while await caller.where() != ("internal", "200"):  # where its one line leads
            await asyncio.sleep(0.01)
    await leg.release()
    await callers.nothing_left(caller)
    # neither the dialplan's net for agents' calls nor ours cuts the talk with the human
    assert await caller.variable("TIMEOUT(absolute)") == "0"
    await caller.hang_up()


@pytest.mark.parametrize(
    "extension", ["999", "", "200,1)", "200)${SHELL(true)}", "a b", "../200", "2" * 200]
)
async def test_transfer_to_nowhere_is_refused_and_the_call_goes_on(
    controller, callers, ear, extension
):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    with pytest.raises(PbxRefused, match="no extension"):
        await leg.transfer(extension, "from-ari-bridge")
    assert leg.events.empty()
    assert await caller.where() == ("ari-bridge-call", "700")
    await leg.hang_up()
    assert await over(leg) == "hangup"
    await caller.hang_up()
    await leg.release()


async def test_the_dialplan_goes_on_with_our_variables(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    await leg.leave({"ARI_BRIDGE_RESULT": "failed", "MOOD": "two words, and a comma"})
    assert await over(leg) == "left"
    assert await caller.variable("ARI_BRIDGE_RESULT") == "failed"
    assert await caller.variable("MOOD") == "two words, and a comma"
    assert await caller.where() == ("ari-bridge-call", "700")
    await leg.release()
    await caller.hang_up()


async def test_an_unanswered_call_may_leave(controller, callers):
    caller = await callers.dial("700")
    leg = await controller.call()
    await leg.leave({"ARI_BRIDGE_RESULT": "unknown-agent"})
    assert await over(leg) == "left"
    assert await caller.variable("ARI_BRIDGE_RESULT") == "unknown-agent"
    await leg.release()
    await caller.hang_up()


async def test_variables(controller, callers):
    caller = await callers.dial("700", variables={"__ORDER": "42"})
    leg = await controller.call()
    assert await leg.get_variable("ORDER") == "42"
    assert await leg.get_variable("NO_SUCH_THING") is None
    await leg.set_variable("ORDER", "43")
    assert await leg.get_variable("ORDER") == "43"
    await leg.set_variable("ORDER", "")
    assert not await leg.get_variable("ORDER")
    await caller.hang_up()
    assert await over(leg) == "hangup"
    with pytest.raises(PbxGone):
        await leg.get_variable("ORDER")
    await leg.release()


async def test_release_of_a_living_call_sends_it_on(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    await leg.release()
    assert await over(leg) == "left"
    await callers.nothing_left(caller)
    await caller.hang_up()


async def test_a_call_that_cannot_be_begun_goes_on_in_the_dialplan(
    controller, callers, monkeypatch, caplog
):
    def fail(leg):
        raise RuntimeError("a bug")

    monkeypatch.setattr(controller.pbx, "_on_call", fail)
    caller = await callers.dial("700")
    while await caller.where() != ("ari-bridge-call", "700") or not await caller.variable(
        "STASISSTATUS"
    ):
        await asyncio.sleep(0.01)
    assert "could not be begun" in caplog.text
    await caller.hang_up()


async def test_lost_media_is_told_and_can_be_opened_again(controller, callers, ear):
    caller = await callers.dial("700")
    leg = await controller.call()
    await set_up(leg, ear)
    (media,) = (i for i in await callers.ids() if (n := parse_name(i)) and n.n)
    await callers.ask("DELETE", f"/channels/{media}")
    assert await next_event(leg) == MediaLost()
    with pytest.raises(PbxRefused, match="external media"):
        await leg.join()
    await leg.open_media(ear.address, "PCMU")
    await leg.join()
    (bridge,) = await callers.ask("GET", "/bridges")
    assert len(bridge["channels"]) == 2
    assert media not in bridge["channels"]
    await caller.hang_up()
    await leg.release()


async def test_the_net_is_under_both_channels(callers, ear, with_settings, asterisk):
    steps = ("Stasis(ari-bridge,one)", "Stasis(ari-bridge,two)", "Wait(30)")
    for priority, step in enumerate(steps, start=1):
        asterisk.cli(f"dialplan add extension 800,{priority},{step} into twice")
    async with with_settings(max_call_s=50) as controller:
        caller = await callers.dial("800", "twice")
        first = await controller.call()
        await first.set_variable("TIMEOUT(absolute)", "500")  # as the dialplan could have done
        await first.leave({})
        assert await over(first) == "left"
        leg = await controller.call()
        await set_up(leg, ear)
        media = next(i for i in await callers.ids() if (n := parse_name(i)) and n.n)
        for channel in (caller.call_id, media):
            answer = await callers.ask(
                "GET", f"/channels/{channel}/variable", variable="TIMEOUT(absolute)"
            )
            assert 40 < float(answer["value"]) <= 50, channel
        assert leg.incoming.args == ("two",)
        await leg.leave({})  # the dialplan gets its own limit back
        assert 490 < float(await caller.variable("TIMEOUT(absolute)")) < 500
        await leg.release()
        await caller.hang_up()


async def test_a_shorter_limit_of_the_dialplans_stays(controller, callers, ear):
    caller = await callers.dial("700", variables={"__ARI_BRIDGE_MAX_S": "30"})
    leg = await controller.call()
    await set_up(leg, ear)
    assert 20 < float(await caller.variable("TIMEOUT(absolute)")) <= 30
    await caller.hang_up()
    await leg.release()


async def test_the_net_catches(callers, ear, with_settings):
    """Asterisk itself ends a call whose owners are all dead."""
    async with with_settings(max_call_s=1) as controller:
        await callers.dial("700")
        leg = await controller.call()
        await set_up(leg, ear)
    # nobody is connected to our application now
    await callers.ask("DELETE", f"/bridges/{leg.room.id}")  # mixing bridges have no such limit
    await callers.nothing_left()


async def test_a_slow_call_delays_no_other(controller, callers, ear):
    callers_there = [await callers.dial("700") for _ in range(5)]
    legs = {leg.incoming.call_id: leg for leg in [await controller.call() for _ in range(5)]}
    await asyncio.gather(*(set_up(leg, ear) for leg in legs.values()))
    slow, *others = callers_there
    await slow.press("1")  # nobody fetches this one
    for caller in others:
        await caller.press("2")
    events = await asyncio.gather(*(next_event(legs[c.call_id]) for c in others))
    assert [e.digit for e in events] == ["2"] * 4
    await asyncio.gather(*(c.hang_up() for c in callers_there))
    await asyncio.gather(*(leg.release() for leg in legs.values()))
    assert isinstance(legs[slow.call_id].events.get_nowait(), Dtmf)


async def test_the_announced_address_can_be_replaced(callers, ear, with_settings):
    async with with_settings(rtp_address="192.0.2.7") as controller:
        caller = await callers.dial("700")
        leg = await controller.call()
        host, port = await set_up(leg, ear)
        await caller.speak()
        _, source = await asyncio.wait_for(ear.packets.get(), 5)
        assert host == "192.0.2.7"
        assert port == source[1]
        await caller.hang_up()
        await leg.release()


async def test_statistics_of_a_caller_without_rtp_are_empty(controller, callers):
    caller = await callers.dial("700")
    leg = await controller.call()
    assert await leg.statistics() == {}
    await caller.hang_up()
    await leg.release()
