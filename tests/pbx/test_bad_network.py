"""The demo's conversation over a bad network, on the real Asterisk, judged as a phone plays it."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from pathlib import Path

from redis import Redis

from bridge.sessions.model import INDEX, call_key
from tests.demo.__main__ import conclude, hold
from tests.demo.script import SHIPPED, load
from tests.demo.voice import clip
from tests.lab.stack import Stack

LOSS, JITTER_MS = 0.03, 30.0


def test_the_conversation_succeeds_at_3_percent_loss_and_30_ms_jitter(tmp_path: Path) -> None:
    whole = load(SHIPPED)
    # Keys that are pressed while nobody listens are lost: deaths have tests of their own.
    turns = tuple(replace(turn, kill_worker_after_ms=0) for turn in whole.turns)
    script = replace(whole, turns=turns)
    clips = {turn.say: clip(turn.say) for turn in script.turns if turn.say}
    with Stack(loss=LOSS, jitter_ms=JITTER_MS) as stack:
        held = asyncio.run(hold(stack, script, clips, tmp_path, outbound=False))
        said = stack.bridge.log()
        with Redis.from_url(stack.redis.url, decode_responses=True) as redis:
            audio = json.loads(redis.hget(call_key(redis.zrange(INDEX, 0, -1)[-1]), "audio"))
    versions = {"asterisk_version": "", "redis_version": ""}
    conclude(held, script, SHIPPED, tmp_path, versions, outbound=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["turns"] == len(script.turns)
    # What is lost may be the very word by which an answer is known.
    assert summary["agent_understood"] >= summary["turns"] - 1
    assert summary["transfer_reached"]
    assert summary["transcript_in_redis"]
    assert summary["leftover_channels"] == 0
    assert "Traceback" not in said
    # The network was as bad as it says, both ways.
    assert stack.relay is not None
    counts = stack.relay.counts
    assert counts.lost + counts.passed > 2 * 50 * summary["call_s"] * 0.8
    assert 0.02 < counts.lost / (counts.lost + counts.passed) < 0.04
    assert 28 < sum(counts.delays_ms) / len(counts.delays_ms) < 32
    # Both legs' quality says so: we see the caller's gaps, Asterisk both ways of his leg.
    caller = audio["caller"]
    for percent in (audio["loss_percent"], caller["loss_percent"], caller["loss_percent_there"]):
        assert 1 < percent < 6
    assert caller["jitter_ms"] > 5
    assert 3 < audio["mos"] < 4.2
    assert 3 < caller["mos"] < 4.2
    received = [p.seq for p in held.packets if not p.sent]
    assert sum((b - a) & 0xFFFF > 0x8000 for a, b in itertools.pairwise(received)) > 50
