"""What recording costs: `python -m tests.bench.recording [--calls N]`, in process, no network.

Slots advance half a second at a time, as media would have it; the taker reads them, the writer
writes WAV files. Told is all CPU time of both threads, ms a call-second, and what each part takes.
Between two rounds 64 MB of foreign memory are touched, because between two rounds of the real one
other processes have had the caches (docs/decisions.md).
"""

from __future__ import annotations

import argparse
import base64
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bridge.media.settings import MediaSettings
from bridge.media.slots import OPEN, UP_FRAMES, SlotMap
from bridge.recording import notes
from bridge.recording.notes import Notes
from bridge.recording.process import ROUND_S, Writer
from bridge.recording.taker import MOST_WAITING, Taker

FRAMES = round(ROUND_S * 50)


def run(calls: int, rounds: int, folder: Path, key_file: str = "") -> float:
    """ms of CPU a call-second."""
    memory = Path(MediaSettings().runtime_dir).parent
    with tempfile.TemporaryDirectory(prefix="ari-bench-record-", dir=memory) as runtime:
        slots = SlotMap.create(Path(runtime) / "slots", calls, 1000)
        c = slots.columns
        noise = np.random.default_rng(1).integers(-3000, 3000, (calls, UP_FRAMES, 160))
        slots.up[8][:], slots.down[8][:] = noise, noise[::-1]
        for call in range(calls):
            call_id = f"c{call}"
            c["call_id"][call] = call_id.encode()
            path = notes.base(folder, call_id, "demo", time.time())
            notes.order(Path(runtime), Notes(call_id, str(path), key_file=key_file))
        c["record_marks"][:, 0] = 0, 1
        c["record_count"][:], c["record"][:], c["state"][:] = 1, True, OPEN
        writer = Writer(MOST_WAITING)
        taker = Taker(Path(runtime), slots, writer.put)
        foreign = np.zeros(64 << 20, np.uint8)
        taker.round()  # files are made
        spent = 0.0
        for _ in range(rounds):
            foreign += 1
            c["t_head"][:] += FRAMES * 160
            c["down_head"][:] += FRAMES
            before = time.process_time()
            taker.round()
            while writer.waiting:
                time.sleep(0.001)
            spent += time.process_time() - before
        taker.leave()
        writer.close(60)
    return spent * 1000 / (calls * rounds * ROUND_S)


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ari-bench-records-") as folder:
        key = Path(folder) / "key"
        key.write_bytes(base64.b64encode(os.urandom(32)))
        for name, key_file in (("plain", ""), ("encrypted", str(key))):
            found = run(options.calls, options.rounds, Path(folder), key_file)
            print(f"recording_cpu_ms_per_call_second ({name}): {found:.3f}")


if __name__ == "__main__":
    main()
