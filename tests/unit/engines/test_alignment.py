from itertools import pairwise
from types import SimpleNamespace

import pytest

from bridge.engines.alignment import durations_output, marks, with_output


class Voice:
    """Its phonemes are letters; it says "of" as "uv" by itself and "u" before "the"."""

    def phonemize(self, word):
        return [list({"of": "uv"}.get(word, word))]


def said(text, samples=100):
    phonemes = ["^", *text, "$"]
    return SimpleNamespace(
        phoneme_alignments=[SimpleNamespace(phoneme=p, num_samples=samples) for p in phonemes]
    )


def test_words_end_with_their_last_phonemes():
    assert marks(Voice(), "ab cde f", said("ab cde f")) == [(2, 300), (6, 700), (8, 900)]


def test_a_pause_belongs_to_the_word_behind_it():
    assert marks(Voice(), "ab, cd", said("ab,   cd")) == [(3, 300), (6, 900)]


def test_words_that_were_run_together_end_where_they_can():
    found = marks(Voice(), "out of the box", said("out uthe box"))
    assert found[0] == (3, 400)
    assert found[-2:] == [(10, 900), (14, 1300)]
    assert all(a < b and s <= t for (a, s), (b, t) in pairwise(found))


def test_a_voice_that_tells_nothing_has_no_words():
    assert marks(Voice(), "ab", SimpleNamespace(phoneme_alignments=None)) == []


def _model(*tensors):
    nodes = b"".join(
        b"\x0a" + bytes([len(n)]) + n
        for n in (b"\x12" + bytes([len(t)]) + t + b"\x22\x04Ceil" for t in tensors)
    )
    return b"\x08\x08" + b"\x3a" + bytes([len(nodes)]) + nodes


def test_the_tensor_of_durations_becomes_an_output():
    model = _model(b"/Ceil_output_0")
    name = durations_output(model)
    assert name == "/Ceil_output_0"
    more = with_output(model, name)[len(model) :]
    assert more == b"\x3a\x12\x62\x10\x0a\x0e/Ceil_output_0"


@pytest.mark.parametrize("model", [b"", _model(), _model(b"a", b"b"), b"\x3b", b"\x3a\xff"])
def test_what_is_no_such_model_is_refused(model):
    with pytest.raises(ValueError):
        durations_output(model)
