"""Calls of our own: what comes of them, that nobody is rung twice, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal

import aiohttp
import numpy as np
import pytest
import redis

from bridge.sessions.model import LIVE, call_key
from bridge.sessions.outbound import LIVE_CALLS
from tests.lab.capture import PCMU, RATE, TABLES
from tests.pbx.callers import Callers
from tests.pbx.outbound import NUMBERS, Outbound, far_numbers

OPERATIONS, AT_ONCE = 500, 25


@pytest.fixture(scope="module")
def out():
    with far_numbers() as pbx, Outbound(pbx, workers=2) as out:
        yield out


@pytest.fixture
async def api(out):
    async with out.api() as api, Callers(out.pbx) as callers:
        yield api
        if out.pbx.ended == -signal.SIGSEGV:  # its own fault, seen twice: see FOR_AMD
            print("Asterisk crashed: started again")
            await asyncio.to_thread(out.pbx.restart)
        await callers.nothing_left(timeout_s=90.0)  # the sweep's a minute, where a worker died
        with redis.Redis.from_url(out.redis.url) as server:
            assert server.hlen(LIVE) == 0
            # What is still counted for a worker that died without a word gives way to the next.
            counted = server.zrange(LIVE_CALLS, 0, -1)
            states = {
                call_id: server.hget(call_key(call_id.decode()), "state") for call_id in counted
            }
            assert set(states.values()) <= {None, b"ended"}, states


async def test_what_comes_of_calls(api):

    async def ends(to, result, **more):
        call = await api.call(to, **more)
        call = await api.becomes(call["id"], "ended")
        assert (to, call["result"]) == (to, result), call["reason"]
        assert call["reason"]

    async def talks(to, found, **more):
        """Whoever is there talks with the agent, who is told whether it is a machine."""
        call = await api.call(to, **more)
        call = await api.becomes(call["id"], "talking")
        assert (to, call["variables"]) == (to, [f"machine={found}"])
        await api.verb(call["id"], "hangup")

    await asyncio.gather(
        ends("busy", "busy"),
        ends("congested", "congestion"),
        ends("unknown", "unavailable"),
        ends("nowhere", "unavailable"),
        ends("rings", "no-answer", timeout_s=1),
        ends("hurried", "hung-up"),
        ends("machine", "machine", machine="hang-up"),
        ends("voicemail", "machine", machine="hang-up"),
        talks("human", "no", machine="hang-up"),
        talks("human", "no", machine="tell"),
        talks("machine", "yes", machine="tell"),
    )
    call = await api.call("answers", caller_id="+4930556", variables={"order": "17"})
    assert (call["direction"], call["dialed"]) == ("out", "answers")
    call = await api.becomes(call["id"], "talking")
    assert (call["caller_id"], call["variables"]) == ("+4930556", ["order=17"])
    assert (await api.verb(call["id"], "hangup", reason="enough"))[0] == 204
    call = await api.becomes(call["id"], "ended")
    assert (call["result"], call["reason"]) == ("cancelled", "enough")
    assert (await api.verb(call["id"], "mute"))[0] == 409


async def test_who_looks_on_hears_the_call(api):
    call = await api.call("machine")
    await api.becomes(call["id"], "talking")
    async with api.listen(call["id"]) as sound, api.listen(call["id"]) as other:
        pcm = TABLES[PCMU][np.frombuffer(await sound.readexactly(RATE), np.uint8)]
        spectrum = np.abs(np.fft.rfft(pcm.astype(float)))
        assert abs(int(np.argmax(spectrum)) - 400) <= 2  # a second of it: a bin is a hertz
        assert len(await other.readexactly(RATE // 2)) == RATE // 2
    async with api.listen(call["id"]) as sound:
        await sound.readexactly(160)
        assert (await api.verb(call["id"], "hangup"))[0] == 204
        async with asyncio.timeout(20):
            await sound.read()  # it ends with the call


async def test_nobody_is_rung_twice(out, api):
    """The same key again: while it rings, after the API's death, and after it has ended."""
    key = {"headers": {"Idempotency-Key": "k1"}, "json": {"to": "slow", "agent": "echo"}}
    answers = await asyncio.gather(*(api.ask("POST", "/v1/calls", **key) for _ in range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    (call_id,) = {call["id"] for _, call in answers}
    os.kill(out.bridge.child("web"), signal.SIGKILL)
    await api.up(2)
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


def amd_listens(pbx):
    """To whom; "" if to nobody."""
    lines = [line.split("!") for line in pbx.cli("core show channels concise").splitlines()]
    return next((line[-1] for line in lines if line[1:2] == ["ari-bridge-machine"]), "")


async def test_calls_that_ring_when_their_worker_dies_are_taken_over(out, api):
    """And those that AMD() is listening to."""
    orders = [{"to": "hesitant", "machine": "tell"}] * 2
    orders += [{"to": "slow"}, {"to": "rings", "timeout_s": 6}] * 2
    calls = [call["id"] for call in await asyncio.gather(*(api.call(**o) for o in orders))]
    owners = [(await api.becomes(call_id, "ringing", "talking"))["worker"] for call_id in calls]
    async with asyncio.timeout(20):
        while not (heard := amd_listens(out.pbx)):
            await asyncio.sleep(0.05)
    dead = dict(zip(calls, owners, strict=True))[heard]
    os.kill(int(dead.rsplit("-", 2)[1]), signal.SIGKILL)
    for call_id, order in zip(calls, orders, strict=True):
        if order["to"] == "rings":
            assert (await api.becomes(call_id, "ended"))["result"] == "no-answer"
            continue
        call = await api.becomes(call_id, "talking")
        assert call["worker"] != dead
        assert call["variables"] == (["machine=no"] if "machine" in order else [])
        assert (await api.verb(call_id, "hangup"))[0] == 204
        await api.becomes(call_id, "ended")


async def test_nothing_remains_of_500_random_operations(out, api):
    """Many at a time, in no order that makes sense; and a worker is killed in the middle."""
    chance = random.Random(7)
    left = iter(range(OPERATIONS))
    done: dict[str, int] = {}
    calls: list[str] = []
    kill_at = OPERATIONS // 2

    async def place():
        number = chance.choice([*NUMBERS, "answers", "answers", "+900123", "Local/1@far"])
        order = {"to": number, "agent": chance.choice(["echo"] * 9 + ["nobody"])}
        order["timeout_s"] = chance.choice([1, 2, 45])
        if chance.random() < 0.3:
            order["idempotency_key"] = str(chance.randrange(20))
        status, answer = await api.ask("POST", "/v1/calls", json=order)
        if status in (200, 201):
            calls.append(answer["id"])
        return status, answer

    async def act():
        verb, body = chance.choice(
            [
                *[("hangup", {})] * 3,
                ("mute", {"on": True}),
                ("mute", {"on": False}),
                ("say", {"text": "Hello."}),
                ("transfer", {"to": "hurried"}),
                ("transfer", {"to": "900"}),
                ("mute", {"on": 5}),
            ]
        )
        call_id = chance.choice([*calls[-40:], "nobody"])
        if chance.random() < 0.05:
            with contextlib.suppress(aiohttp.ClientError, asyncio.IncompleteReadError):
                async with api.listen(call_id) as sound:
                    await sound.readexactly(1600)
            return 200, None
        return await api.verb(call_id, verb, **body)

    async def actor():
        for n in left:
            if n == kill_at:
                os.kill(out.bridge.children("worker")[0], signal.SIGKILL)
            status, answer = await (act if calls and chance.random() < 0.6 else place)()
            if answer is not None and status >= 400:
                assert answer["reason"], answer
                done[answer["error"]] = done.get(answer["error"], 0) + 1
            else:
                done[str(status)] = done.get(str(status), 0) + 1
            await asyncio.sleep(chance.random() * 0.3)

    await asyncio.gather(*(actor() for _ in range(AT_ONCE)))
    assert "fault" not in done, done
    assert {"201", "204", "forbidden", "not-found", "ended"} <= set(done), done
    async with asyncio.timeout(60):
        while live := (await api.ask("GET", "/v1/calls?live=true"))[1]["calls"]:
            await asyncio.gather(*(api.verb(call["id"], "hangup") for call in live))
            await asyncio.sleep(0.2)


async def test_who_was_called_is_put_through_to_a_human(out, api):
    call_id = (await api.call("answers"))["id"]
    await api.becomes(call_id, "talking")
    status, refused = await api.verb(call_id, "transfer", to="666")
    assert status == 409
    assert "not in the agent's [transfer]" in refused["reason"]
    assert (await api.verb(call_id, "transfer", to="hurried"))[0] == 204
    call = await api.becomes(call_id, "ended")
    assert (call["result"], call["reason"]) == ("transferred", "hurried")
