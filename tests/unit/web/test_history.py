"""Recordings over the API: what costs memory is done for one request at a time."""

from __future__ import annotations

import asyncio
import json
import threading

import numpy as np
import pytest

from bridge.recording.notes import Notes
from bridge.sessions.model import Record
from bridge.web import recordings


@pytest.mark.parametrize("what", ["peaks", "recording"])
async def test_one_recording_is_gone_through_at_a_time(api, sessions, tmp_path, monkeypatch, what):
    one = Notes("c", str(tmp_path / "a"), sound="a.wav.sealed", key_file="/key", rate=8000)
    one.save()
    sessions.add(Record("c", state="ended", recording=json.dumps({"parts": [one.path]})))
    together, both = [], threading.Barrier(2)

    def meet():
        try:
            both.wait(0.5)
            together.append(True)
        except threading.BrokenBarrierError:
            both.reset()  # the other waits until this one is done

    def loud(one, per_s):
        meet()
        return per_s, np.zeros((2, 1), np.uint8)

    def opened(one):
        meet()
        return b"sound"

    monkeypatch.setattr(recordings, "_loud", loud)
    monkeypatch.setattr(recordings, "_opened", opened)
    asked = await asyncio.gather(*(api.get(f"/v1/calls/c/{what}") for _ in range(2)))
    assert [answer.status for answer in asked] == [200, 200]
    assert together == []
