"""The voice: piper in a process of its own, which speaks frames on stdin and stdout.

piper-tts is GPL-3; this process is the only thing that ever imports it, and the bridge talks to it
through a pipe. It also keeps the synthesis away from the worker's interpreter lock.

    python -m bridge.engines.piper_process MODEL.onnx

    request   <u32 length> JSON {"text": "...", "rate": 16000}
    answer    <u8 kind> <u32 length> payload
                R  ready (once, after the model is loaded)
                A  audio: int16 little-endian at the rate that was asked for; several may come
                D  done: the request is answered
                E  error: the request can't be answered; one line of UTF-8 that says why

It ends when stdin does. Requests are answered in order.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bridge.engines.base import Pcm
from bridge.engines.rates import resample

GAIN = 0.7
"""piper normalises each sentence to full scale; this leaves room (-3 dB) for filters behind it."""

QUIET = 0.01
"""Samples below this share of full scale at either end are silence."""

LEAD_S, TAIL_S, FADE_S = 0.010, 0.040, 0.005
"""Silence to leave at either end (piper makes 35 to 90 and 150 to 200 ms), and its fade."""


def trim(pcm: Pcm, rate: int) -> Pcm:
    """A sentence without the silence around it, faded at both ends so that a cut is no click."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > QUIET * 32767)
    if not len(loud):
        return pcm[:0]
    start = max(0, int(loud[0]) - int(LEAD_S * rate))
    part = pcm[start : int(loud[-1]) + int(TAIL_S * rate)].astype(np.float32)
    n = min(int(FADE_S * rate), len(part))
    part[:n] *= np.linspace(0, 1, n, dtype=np.float32)
    part[len(part) - n :] *= np.linspace(1, 0, n, dtype=np.float32)
    return part.astype(np.int16)


def load(model: Path) -> Any:
    """A piper voice on one thread that doesn't spin: the machine's other work is real-time."""
    import onnxruntime
    from piper import PiperVoice
    from piper.config import PiperConfig

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(model), sess_options=options, providers=["CPUExecutionProvider"]
    )
    config = json.loads(Path(f"{model}.json").read_text(encoding="utf-8"))
    return PiperVoice(config=PiperConfig.from_dict(config), session=session)


def synthesize(voice: Any, text: str, rate: int) -> Iterator[Pcm]:
    """Audio of a text, a piece a sentence, int16 at `rate` Hz."""
    for chunk in voice.synthesize(text):
        samples = chunk.audio_float_array * (GAIN * 32767)
        pcm = np.clip(samples, -32768, 32767).astype(np.int16)
        yield trim(resample(pcm, chunk.sample_rate, rate), rate)


def write(out: BinaryIO, kind: bytes, payload: bytes = b"") -> None:
    """One frame of an answer."""
    out.write(kind + struct.pack("<I", len(payload)) + payload)
    out.flush()


def serve(voice: Any, source: BinaryIO, out: BinaryIO) -> None:
    """Answer requests until `source` ends."""
    while len(head := source.read(4)) == 4:
        request = json.loads(source.read(struct.unpack("<I", head)[0]))
        try:
            for pcm in synthesize(voice, request["text"], request["rate"]):
                write(out, b"A", pcm.astype("<i2").tobytes())
        except (ValueError, RuntimeError) as error:  # what piper and onnxruntime raise for a text
            write(out, b"E", str(error).splitlines()[0].encode())
        else:
            write(out, b"D")


def main() -> None:
    """Load the model that was named, say that it is there, serve."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever a library prints must not end up between frames
    try:
        voice = load(Path(sys.argv[1]))
        list(synthesize(voice, "Ready.", 16000))  # the first run allocates; nobody should wait
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        write(out, b"E", str(error).splitlines()[0].encode())
        sys.exit(1)
    try:
        write(out, b"R")
        serve(voice, source, out)
    except BrokenPipeError:  # the worker is gone
        sys.exit(0)


if __name__ == "__main__":
    main()
