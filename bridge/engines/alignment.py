"""When each word of a sentence is over, by what piper's model itself says of its phonemes.

The model's duration predictor knows how long each phoneme lasts, but doesn't give it away: its
tensor (the only `Ceil` in the graph) is no output. An ONNX file is a protocol buffer, in which
what is appended is merged: a few bytes behind the file make the tensor an output, without the
`onnx` package (18 MB) that piper's own tool for this wants.

Phonemes come without words, and espeak-ng runs words together ("of the"). So each word is put into
phonemes by itself as well, and the two sequences are aligned; what has no counterpart belongs to
the word before.

Used within piper's process only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

_GRAPH, _NODE, _OP_TYPE, _NODE_OUTPUT, _GRAPH_OUTPUT, _NAME = 7, 1, 4, 2, 12, 1
"""Field numbers of onnx.proto: ModelProto.graph, GraphProto.node and .output, ..."""

_NOT_SPOKEN = frozenset(" .,;:!?^$_ˈˌː'\"()-")
_WORD = re.compile(r"\S+")


def durations_output(model: bytes) -> str:
    """The name of the tensor that holds the phonemes' durations.

    Raises:
        ValueError: not a model with just one such tensor.
    """
    found = []
    for graph in _fields(model, _GRAPH):
        for node in _fields(graph, _NODE):
            if b"Ceil" in _fields(node, _OP_TYPE):
                found += [name.decode() for name in _fields(node, _NODE_OUTPUT)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} tensors may be the phonemes' durations, not one")
    return found[0]


def with_output(model: bytes, name: str) -> bytes:
    """The model with one more output."""
    value = _field(_NAME, name.encode())
    return model + _field(_GRAPH, _field(_GRAPH_OUTPUT, value))


def marks(voice: Any, text: str, chunk: Any) -> list[tuple[int, int]]:
    """(characters, samples): `text` up to there is over after so many of the chunk's samples.

    Empty where the model tells nothing. `text` is what the chunk says, one sentence.
    """
    if chunk.phoneme_alignments is None:
        return []
    words = [match.end() for match in _WORD.finditer(text)]
    wanted, owner = [], []
    for n, match in enumerate(_WORD.finditer(text)):
        for phonemes in voice.phonemize(match.group()):
            spoken = [p for p in phonemes if p not in _NOT_SPOKEN]
            wanted += spoken
            owner += [n] * len(spoken)
    ends, at = [], 0
    found = []
    for one in chunk.phoneme_alignments:
        at += int(one.num_samples)
        if one.phoneme not in _NOT_SPOKEN:
            found.append(one.phoneme)
            ends.append(at)
    return _ends(words, owner, _pairs(wanted, found), ends)


def _ends(
    words: list[int], owner: list[int], pairs: dict[int, int], ends: list[int]
) -> list[tuple[int, int]]:
    """Where each word's last phoneme ends; what has no counterpart is left out."""
    last = {owner[mine]: ends[theirs] for mine, theirs in sorted(pairs.items())}
    if words and ends:
        last[len(words) - 1] = ends[-1]
    return [(words[n], last[n]) for n in sorted(last)]


def _pairs(wanted: list[str], found: list[str]) -> dict[int, int]:
    matcher = difflib.SequenceMatcher(None, wanted, found, autojunk=False)
    pairs = {}
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind in ("equal", "replace"):
            for n in range(a, b):
                pairs[n] = c + (n - a) * (d - c) // max(1, b - a)
            pairs[b - 1] = d - 1
    return pairs


# Protocol buffers, as much as it takes ------------------------------------------------------------


def _fields(message: bytes, wanted: int) -> list[bytes]:
    return [value for number, value in _walk(message) if number == wanted]


def _walk(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message."""
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(view, at)
            yield tag >> 3, bytes(view[at : at + size]) if size < 1 << 28 else b""
            at += size
        elif kind == 0:
            _, at = _varint(view, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not an ONNX model")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view):
            raise ValueError("not an ONNX model")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _field(number: int, value: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(value)) + value


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
