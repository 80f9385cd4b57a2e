"""What becomes of a recording once its call is over: the asked-for format, and its end.

Run as a process of its own with the lowest priority (`python -m bridge.recording.finish FILE`), one
at a time: no call waits for it. WAV stays what it is. Opus and MP3 are made by ffmpeg; where that
fails or isn't installed the WAV stays, and the notes say why. ffmpeg reads and writes pipes: with a
key the sound is in no file in clear, and whoever is killed leaves nothing. A second one for the
same recording (of another host that shares the folder, or of a recorder that has died) does
nothing: who is at it locks the sound, which stays until the notes say what has become of it. What
is erased meanwhile stays erased: what was made of it counts only with its notes.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.errors import BridgeError, RecordingError
from bridge.recording.notes import Notes, held
from bridge.recording.sealed import Key, pieces, seal_bytes
from bridge.recording.wav import HEADER, PAIR, header

PEAKS_PER_S = 10
_BLOCK = 1 << 16
"""Samples of both channels that are read at once."""
_ENCODERS = {
    "opus": ("-c:a", "libopus", "-b:a", "32k", "-f", "opus"),
    "mp3": ("-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0", "-f", "mp3"),
}
"""What ffmpeg is to make. The bitrates are of both channels together: speech. MP3's table of places
(Xing) would be written into its beginning at the end, which a pipe can't."""


def finish(notes: Notes) -> None:
    """Make of an ended recording what it is to be, and note it. Raises `OSError`."""
    before, made = notes.sound_file, None
    try:
        if notes.state != "ended":  # whoever wrote it has died
            notes.duration_ms = len(samples(notes)) * 1000 // notes.rate
        if notes.format != "wav":
            made = _converted(notes)
    except (BridgeError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        notes.fault = f"no {notes.format}, it is WAV: {reason}"
    notes.state = "ready"
    with held(notes.file) as there:
        if made is not None:
            if there:
                made.replace(notes.sound_file)
            else:
                made.unlink(missing_ok=True)
        if not there:  # it was erased meanwhile
            return
        notes.save()
        if notes.sound_file != before:
            before.unlink(missing_ok=True)


def samples(notes: Notes) -> NDArray[np.int16]:
    """The sound of one that is WAV (still), (n, 2).

    Raises:
        RecordingError: it is sealed with another key, or isn't WAV.
        OSError: it can't be read.
    """
    _check_wav(notes)
    if not notes.key_file:
        data: NDArray[np.int16] = np.fromfile(notes.sound_file, "<i2", offset=HEADER)
        return data[: len(data) // 2 * 2].reshape(-1, 2)
    found = list(pieces(notes.sound_file, Key.read(Path(notes.key_file))))
    length = max((at + len(data) // PAIR for at, data in found), default=0)
    sound = np.zeros((length, 2), np.int16)
    for at, piece in found:
        part = np.frombuffer(piece, "<i2").reshape(-1, 2)
        sound[at : at + len(part)] = part
    return sound


def _check_wav(notes: Notes) -> None:
    if not notes.sound.removesuffix(".sealed").endswith(".wav"):
        raise RecordingError(f"{notes.sound} is not WAV")


def wav(notes: Notes) -> Iterator[bytes]:
    """One that is WAV (still) as a whole file, in pieces. Raises as `samples`."""
    sound = samples(notes)
    yield header(notes.rate, sound.nbytes)
    step = 1 << 16
    for at in range(0, len(sound), step):
        yield sound[at : at + step].tobytes()


def fineness(rate: int, per_s: int) -> int:
    """How many peaks a second at most that are all of the same number of samples, and so lie where
    they seem to, however long the call is."""
    return next(fine for fine in range(max(per_s, 1), 0, -1) if rate % fine == 0)


def peaks_of(notes: Notes, per_s: int) -> NDArray[np.uint8]:
    """`peaks` of one that is WAV (still), never the whole of it in memory; `per_s` as `fineness`
    has it. Raises as `samples`."""
    size = max(1, notes.rate // per_s)
    found: list[tuple[int, NDArray[np.uint8]]] = []
    for at, sound in _blocks(notes):
        led = np.pad(sound, ((at % size, 0), (0, 0)))
        found.append((at // size, peaks(led, notes.rate, per_s)))
    loud = np.zeros((2, max((at + part.shape[1] for at, part in found), default=0)), np.uint8)
    for at, part in found:
        span = loud[:, at : at + part.shape[1]]
        np.maximum(span, part, out=span)
    return loud


def _blocks(notes: Notes) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """The sound in pieces, (position, (n, 2)). Raises as `samples`."""
    _check_wav(notes)
    if notes.key_file:
        for at, piece in pieces(notes.sound_file, Key.read(Path(notes.key_file))):
            yield at, np.frombuffer(piece, "<i2").reshape(-1, 2)
        return
    with notes.sound_file.open("rb") as file:
        file.seek(HEADER)
        at = 0
        while len(data := file.read(_BLOCK * PAIR)) >= PAIR:
            sound = np.frombuffer(data[: len(data) // PAIR * PAIR], "<i2").reshape(-1, 2)
            yield at, sound
            at += len(sound)


def peaks(sound: NDArray[np.int16], rate: int, per_s: int) -> NDArray[np.uint8]:
    """The loudest sample of each piece, 0 to 255, of both channels: (2, pieces)."""
    size = max(1, rate // per_s)
    whole = -(-len(sound) // size)
    padded = np.zeros((whole * size, 2), np.int16)
    padded[: len(sound)] = sound
    loud = np.abs(padded.reshape(whole, size, 2).astype(np.int32)).max(axis=1, initial=0)
    found: NDArray[np.uint8] = (np.minimum(loud, 32767) >> 7).astype(np.uint8).T
    return found


def _encoded(sound: bytes, kind: str) -> bytes:
    """A WAV file in another format. Raises `RecordingError`, `OSError`."""
    if shutil.which("ffmpeg") is None:
        raise RecordingError("ffmpeg is not installed")
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "wav", "-i", "pipe:0"]
    done = subprocess.run(
        [*command, *_ENCODERS[kind], "pipe:1"], input=sound, capture_output=True, check=False
    )
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RecordingError(f"ffmpeg failed: {said[-1] if said else 'it says nothing'}")
    return done.stdout


def _converted(notes: Notes) -> Path:
    """Where the sound is now, in its format; the notes name what it is to be called."""
    sound = samples(notes)
    key = Key.read(Path(notes.key_file)) if notes.key_file else None
    data = _encoded(header(notes.rate, sound.nbytes) + sound.tobytes(), notes.format)
    name = Path(notes.path).name + f".{notes.format}" + (".sealed" if key is not None else "")
    fresh = notes.file.with_name(f".{name}.new")
    try:
        if key is not None:
            seal_bytes(fresh, data, key)
        else:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    loud = peaks(sound, notes.rate, PEAKS_PER_S)
    notes.peaks = {
        "per_s": PEAKS_PER_S,
        "caller": base64.b64encode(loud[0].tobytes()).decode(),
        "agent": base64.b64encode(loud[1].tobytes()).decode(),
    }
    notes.sound = name
    return fresh


@contextlib.contextmanager
def _alone(sound: Path) -> Iterator[bool]:
    """Whether nobody else finishes the recording with this sound, until the end of the block."""
    with contextlib.ExitStack() as stack:
        # Without a sound nothing can be lost. (Over NFS a lock needs a file open for writing.)
        with contextlib.suppress(FileNotFoundError):
            file = stack.enter_context(sound.open("r+b"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True


def main() -> int:
    """Finish one recording: its notes' file."""
    os.nice(19)
    file = Path(sys.argv[1])
    try:
        with _alone(Notes.read(file).sound_file) as alone:
            notes = Notes.read(file)  # another may just have been done with it
            if alone and notes.state in ("recording", "ended"):
                finish(notes)
    except RecordingError:
        if file.exists():
            raise  # else it was erased before we came to it
    return 0


if __name__ == "__main__":
    sys.exit(main())
