"""The dialplan's half of a call: what becomes of the caller, whatever the bridge does.

A caller is never left in silence: while nobody listens the dialplan asks again for 5 s, and a call
that comes back without having been served goes on to a place of the operator's, or to an
announcement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.lab import sipp
from tests.lab.ari import Ari, listen
from tests.lab.asterisk import Asterisk

HUMAN_HZ = (650, 1450)  # extension 200 of the demo


@pytest.fixture
def pbx() -> Iterator[Asterisk]:
    with Asterisk() as pbx:
        yield pbx


def dial(
    pbx: Asterisk, extension: str = "700", hang_up_after_s: float | None = 1.5
) -> asyncio.Task[sipp.Call]:
    return asyncio.create_task(
        asyncio.to_thread(sipp.call, pbx, extension, hang_up_after_s=hang_up_after_s)
    )


async def answered(ari: Ari) -> str:
    """Take the next call as the bridge does; gives its channel."""
    start = await ari.event("StasisStart")
    channel: str = start["channel"]["id"]
    await ari.request("post", f"channels/{channel}/answer")
    return channel


def reached_human(call: sipp.Call) -> bool:
    return any(abs(call.loudest_hz() - tone) < 10 for tone in HUMAN_HZ)


def test_a_demo_pbx_starts_without_a_warning(pbx: Asterisk) -> None:
    log = pbx.log_path.read_text().splitlines()
    assert [line for line in log if "WARNING" in line or "ERROR" in line] == []


def test_nobody_listens_and_the_caller_hears_an_announcement(pbx: Asterisk) -> None:
    call = sipp.call(pbx, "700", hang_up_after_s=None)
    assert call.answered, call.said
    assert call.ended_as_expected, call.said  # Asterisk hung up after the announcement
    assert 100 < call.loudest_hz() < 3400
    assert len(call.packets) > 50
    assert "no bridge is connected" in pbx.log_path.read_text()


async def test_a_bridge_that_comes_back_within_seconds_gets_the_call(pbx: Asterisk) -> None:
    caller = dial(pbx)
    await asyncio.sleep(1.2)
    async with listen(pbx) as ari:
        await answered(ari)
        assert (await caller).ended_as_expected
    assert pbx.wait_idle() == []


async def test_a_caller_whom_a_stopping_bridge_gives_back_is_tried_again(pbx: Asterisk) -> None:
    pbx.cli("dialplan set global ARI_BRIDGE_FALLBACK internal,200,1")
    async with listen(pbx) as ari:
        caller = dial(pbx, hang_up_after_s=2.0)
        start = await ari.event("StasisStart")
        await ari.leave(start["channel"]["id"], "again")
        channel = await answered(ari)
        assert await ari.variable(channel, "ARI_BRIDGE_RESULT") == ""
        call = await caller
    assert call.ended_as_expected, call.said
    assert not reached_human(call)


@pytest.mark.parametrize("result", ["failed", "unknown-agent", ""])
async def test_a_call_that_was_not_served_goes_on_to_the_operators_place(
    pbx: Asterisk, result: str
) -> None:
    pbx.cli("dialplan set global ARI_BRIDGE_FALLBACK internal,200,1")
    async with listen(pbx) as ari:
        caller = dial(pbx, hang_up_after_s=2.5)
        channel = await answered(ari)
        await ari.leave(channel, result)
        await ari.event("StasisEnd")
        call = await caller
    assert call.ended_as_expected, call.said
    assert reached_human(call)


async def test_a_fallback_that_does_not_exist_is_named_and_announced(pbx: Asterisk) -> None:
    pbx.cli("dialplan set global ARI_BRIDGE_FALLBACK nowhere,1,1")
    async with listen(pbx) as ari:
        caller = dial(pbx, hang_up_after_s=None)
        await ari.leave(await answered(ari), "failed")
        call = await caller
    assert call.ended_as_expected, call.said
    assert 100 < call.loudest_hz() < 3400
    assert "ARI_BRIDGE_FALLBACK names nowhere,1,1" in pbx.log_path.read_text()


async def test_a_call_that_is_done_is_hung_up(pbx: Asterisk) -> None:
    async with listen(pbx) as ari:
        caller = dial(pbx, hang_up_after_s=None)
        await ari.leave(await answered(ari), "done")
        call = await caller
    assert call.ended_as_expected, call.said
    assert call.loudest_hz() == 0


async def test_asterisk_ends_the_call_itself_if_nobody_else_does(pbx: Asterisk) -> None:
    pbx.cli("dialplan set global ARI_BRIDGE_MAX_S 2")
    async with listen(pbx) as ari:
        caller = dial(pbx, hang_up_after_s=None)
        await answered(ari)
    # the bridge is gone for good, its call is in Stasis still
    call = await caller
    assert call.ended_as_expected, call.said
    assert call.seconds < 20
    assert pbx.wait_idle() == []


async def test_the_net_holds_while_with_the_bridge_and_not_longer(pbx: Asterisk) -> None:
    pbx.cli("dialplan set global ARI_BRIDGE_FALLBACK internal,200,1")
    pbx.cli("dialplan set global ARI_BRIDGE_MAX_S 3")
    async with listen(pbx) as ari:
        caller = dial(pbx, hang_up_after_s=4.5)
        channel = await answered(ari)
        assert 0 < float(await ari.variable(channel, "TIMEOUT(absolute)")) <= 3
        await ari.leave(channel, "failed")
        call = await caller
    assert call.ended_as_expected, call.said  # talked to the human for longer than the net
