"""Calls of our own: what comes of them, that nobody is rung twice, and what is refused."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.pbx.callers import Callers
from tests.pbx.outbound import Outbound, far_numbers


@pytest.fixture(scope="module")
def pbx():
    with far_numbers() as pbx:
        yield pbx


@pytest.fixture
async def out(pbx):
    async with Outbound(pbx, workers=2) as out, Callers(pbx) as callers:
        yield out
        await callers.nothing_left()


async def test_what_comes_of_calls(out):
    api = out.api

    async def ends(to, result, **more):
        call = await api.call(to, **more)
        call = await api.becomes(call["id"], "ended")
        assert (to, call["result"]) == (to, result), call["reason"]
        assert call["reason"]

    await asyncio.gather(
        ends("busy", "busy"),
        ends("congested", "congestion"),
        ends("unknown", "unavailable"),
        ends("nowhere", "unavailable"),
        ends("rings", "no-answer", timeout_s=1),
        ends("hurried", "hung-up"),
    )
    call = await api.call("answers", caller_id="+4930556", variables={"order": "17"})
    assert (call["direction"], call["dialed"]) == ("out", "answers")
    call = await api.becomes(call["id"], "talking")
    assert (call["caller_id"], call["variables"]) == ("+4930556", ["order=17"])
    assert (await api.verb(call["id"], "hangup", reason="enough"))[0] == 204
    call = await api.becomes(call["id"], "ended")
    assert (call["result"], call["reason"]) == ("cancelled", "enough")
    assert (await api.verb(call["id"], "mute"))[0] == 409


async def test_nobody_is_rung_twice(out):
    """The same key again: while it rings, after the API's death, and after it has ended."""
    api = out.api
    key = {"headers": {"Idempotency-Key": "k1"}, "json": {"to": "slow", "agent": "echo"}}
    answers = await asyncio.gather(*(api.ask("POST", "/v1/calls", **key) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    (call_id,) = {call["id"] for _, call in answers}
    os.kill(out.bridge.child("web"), signal.SIGKILL)
    await out.up()
    status, call = await api.ask("POST", "/v1/calls", **key)
    assert (status, call["id"]) == (200, call_id)
    status, refused = await api.ask(
        *("POST", "/v1/calls"), headers=key["headers"], json={"to": "rings", "agent": "echo"}
    )
    assert (status, refused["error"]) == (409, "key-used")
    await api.becomes(call_id, "talking")
    assert (await api.verb(call_id, "hangup"))[0] == 204
    await api.becomes(call_id, "ended")
    status, call = await api.ask("POST", "/v1/calls", **key)
    assert (status, call["id"], call["state"]) == (200, call_id, "ended")


async def one(api, call_id):
    return (await api.ask("GET", f"/v1/calls/{call_id}"))[1]


async def test_a_call_that_rings_when_its_worker_dies_is_taken_over(out):
    api = out.api
    calls = [(await api.call("slow"))["id"], (await api.call("rings", timeout_s=3))["id"]]
    for call_id in calls:
        call = await api.becomes(call_id, "ringing")
        os.kill(int(call["worker"].rsplit("-", 2)[1]), signal.SIGKILL)
        dead = call["worker"]
        async with asyncio.timeout(10):
            while (await one(api, call_id))["worker"] == dead:
                await asyncio.sleep(0.05)
        await out.up()
    assert (await api.becomes(calls[0], "talking"))["result"] == ""
    assert (await api.becomes(calls[1], "ended"))["result"] == "no-answer"
    assert (await api.verb(calls[0], "hangup"))[0] == 204
    await api.becomes(calls[0], "ended")
