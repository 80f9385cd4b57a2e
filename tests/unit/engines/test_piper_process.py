import io
import json
import struct
from types import SimpleNamespace

import numpy as np

from bridge.engines.piper_process import FADE_S, GAIN, LEAD_S, TAIL_S, serve, trim

RATE = 16000


class Voice:
    """Says a sentence for each word: a tenth of a second of full scale between silences.

    A word in capitals comes with its phonemes, its letters, evenly spread over the loud part.
    """

    def synthesize(self, text, include_alignments):
        for word in text.split():
            if word == "bad":
                raise ValueError("no phonemes\nfor this")
            audio = np.concatenate([np.zeros(1000), np.ones(2205), np.zeros(3000)])
            said = [SimpleNamespace(phoneme=p, num_samples=2205 // len(word)) for p in word]
            said = [SimpleNamespace(phoneme="^", num_samples=1000), *said]
            yield SimpleNamespace(
                audio_float_array=audio.astype(np.float32),
                sample_rate=22050,
                phoneme_alignments=said if include_alignments and word.isupper() else None,
            )

    def phonemize(self, text):
        return [list(text)]


def frames(data):
    while data:
        size = struct.unpack("<I", data[1:5])[0]
        yield data[:1], data[5 : 5 + size]
        data = data[5 + size :]


def ask(*texts):
    requests = [json.dumps({"text": text, "rate": RATE}).encode() for text in texts]
    source = io.BytesIO(b"".join(struct.pack("<I", len(r)) + r for r in requests))
    out = io.BytesIO()
    serve(Voice(), source, out)
    return list(frames(out.getvalue()))


def test_a_request_is_answered_with_audio_at_the_rate_that_was_asked_for():
    (kind, payload), end = ask("word")
    assert (kind, end) == (b"A", (b"D", b""))
    pcm = np.frombuffer(payload, "<i2")
    loud = np.abs(pcm.astype(int)) > 10_000
    assert abs(loud.sum() - 1600) < 30
    assert abs(np.median(pcm[loud]) - GAIN * 32767) < 50


def test_a_sentence_a_frame_and_a_text_that_fails_does_not_end_it():
    kinds = [kind for kind, _ in ask("one two", "bad", "three")]
    assert kinds == [b"A", b"A", b"D", b"E", b"A", b"D"]
    assert ask("bad") == [(b"E", b"no phonemes")]


def test_silence_at_the_ends_is_cut_with_a_fade():
    pcm = np.zeros(RATE, np.int16)
    pcm[4000:8000] = 9000
    cut = trim(pcm, RATE)
    assert len(cut) == 4000 + int(LEAD_S * RATE) + int(TAIL_S * RATE) - 1
    assert np.abs(np.diff(cut[: int(FADE_S * RATE)].astype(int))).max() == 0
    assert cut.max() == 9000


def test_speech_up_to_the_edge_is_faded_so_that_it_cannot_click():
    cut = trim(np.full(4000, 9000, np.int16), RATE)
    assert cut[0] == 0
    assert cut[-1] == 0
    assert np.abs(np.diff(cut.astype(int))).max() < 9000 / (FADE_S * RATE) + 120


def test_nothing_but_silence_is_nothing():
    assert len(trim(np.zeros(4000, np.int16), RATE)) == 0


def test_it_tells_when_the_words_are_over_in_the_audio_that_is_left():
    (kind, payload), (_, audio), _ = ask("WORD")
    assert kind == b"W"
    [(end, ms)] = json.loads(payload)
    assert end == 4
    assert abs(ms - (100 + LEAD_S * 1000)) <= 2
    assert ms <= len(audio) / 2 / RATE * 1000
    assert [kind for kind, _ in ask("TWO WORDS")] == [b"A", b"A", b"D"]  # two sentences
