"""The voice: piper in a process of its own, which speaks frames on stdin and stdout.

piper-tts is GPL-3; this process is the only thing that ever imports it, and the bridge talks to it
through a pipe. It also keeps the synthesis away from the worker's interpreter lock.

    python -m bridge.engines.piper_process MODEL.onnx

    request   <u32 length> JSON {"text": "...", "rate": 16000}
    answer    <u8 kind> <u32 length> payload
                R  ready (once, after the model is loaded)
                W  words: JSON [[characters, ms], ...]: the text up to there is over after so
                   much of the audio; only where the voice tells, and before D
                A  audio: int16 little-endian at the rate that was asked for; several may come
                D  done: the request is answered
                E  error: the request can't be answered; one line of UTF-8 that says why

It ends when stdin does. Requests are answered in order.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bridge.engines.alignment import durations_output, marks, with_output
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


def lead(pcm: Pcm, rate: int) -> int:
    """Samples that `trim` takes off at the beginning."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > QUIET * 32767)
    return max(0, int(loud[0]) - int(LEAD_S * rate)) if len(loud) else 0


def load(model: Path) -> Any:
    """A piper voice on one thread that doesn't spin: the machine's other work is real-time.

    It tells how long its phonemes last, if the model can.
    """
    import onnxruntime
    from piper import PiperVoice
    from piper.config import PiperConfig

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    network = model.read_bytes()
    with contextlib.suppress(ValueError):  # a voice of another make: words are estimated then
        network = with_output(network, durations_output(network))
    session = onnxruntime.InferenceSession(
        network, sess_options=options, providers=["CPUExecutionProvider"]
    )
    config = json.loads(Path(f"{model}.json").read_text(encoding="utf-8"))
    return PiperVoice(config=PiperConfig.from_dict(config), session=session)


def synthesize(voice: Any, text: str, rate: int) -> tuple[list[Pcm], list[tuple[int, int]]]:
    """Audio of a text, a piece a sentence, int16 at `rate` Hz; and when its words are over, as
    (characters, ms), if it is one sentence and the voice tells."""
    pieces, words = [], []
    for chunk in voice.synthesize(text, include_alignments=True):
        samples = chunk.audio_float_array * (GAIN * 32767)
        pcm = np.clip(samples, -32768, 32767).astype(np.int16)
        whole = resample(pcm, chunk.sample_rate, rate)
        pieces.append(trim(whole, rate))
        before_ms = lead(whole, rate) * 1000 / rate
        length_ms = len(pieces[-1]) * 1000 / rate
        words = [
            (end, int(min(max(at * 1000 / chunk.sample_rate - before_ms, 0), length_ms)))
            for end, at in marks(voice, text, chunk)
        ]
    return pieces, words if len(pieces) == 1 else []


def write(out: BinaryIO, kind: bytes, payload: bytes = b"") -> None:
    """One frame of an answer."""
    out.write(kind + struct.pack("<I", len(payload)) + payload)
    out.flush()


def serve(voice: Any, source: BinaryIO, out: BinaryIO) -> None:
    """Answer requests until `source` ends."""
    while len(head := source.read(4)) == 4:
        request = json.loads(source.read(struct.unpack("<I", head)[0]))
        try:
            pieces, words = synthesize(voice, request["text"], request["rate"])
            if words:
                write(out, b"W", json.dumps(words).encode())
            for pcm in pieces:
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
        synthesize(voice, "Ready.", 16000)  # the first run allocates; nobody should wait
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
