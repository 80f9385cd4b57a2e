"""Recordings: for each agent that records, what the recorder needs when the first call comes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bridge.agent import Agent
from bridge.check.finding import Finding
from bridge.check.pbx import media_runs
from bridge.errors import ConfigError
from bridge.media.settings import MediaSettings
from bridge.recording import notes

_LEAST_MIB = 1024.0
_MIB_PER_HOUR = 110.0
"""Of a call: two channels of 16 bits at 8 kHz (docs/recording.md)."""


def findings(agents: Iterable[Agent], media: MediaSettings) -> list[Finding]:
    """One an agent that records; and, of a bridge that runs, whether anybody writes it down."""
    found = [_of(agent) for agent in agents if agent.recording.enabled]
    runtime = Path(media.runtime_dir)
    if found and media_runs(media) and not notes.recorder_runs(runtime):
        said = "the bridge runs without its recorder: nothing is recorded"
        cure = "start `ari-bridge recorder` beside the workers (`ari-bridge run` does)"
        found.append(Finding("recorder", "fail", said, cure))
    return found


def _of(agent: Agent) -> Finding:
    name, folder = f"recording {agent.name}", agent.recording_folder
    # What isn't there yet is made when it is needed, below what is there.
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"may we?")
        size = os.statvfs(there)
    except OSError as error:
        cure = "make it our user's, or set 'folder' in the agent's [recording]"
        return Finding(name, "fail", f"{folder} can't be written ({error.strerror})", cure)
    if agent.recording_key is not None:
        try:
            from bridge.recording.sealed import Key

            Key.read(agent.recording_key)
        except ConfigError as error:
            said, _, cure = str(error).partition("; ")
            return Finding(name, "fail", said, cure)
        except ModuleNotFoundError:
            said = "it is to be encrypted, and the package cryptography is missing"
            return Finding(name, "fail", said, "pip install 'ari-bridge[encrypt]'")
    if agent.recording.format != "wav" and shutil.which("ffmpeg") is None:
        said = f"it is to be {agent.recording.format}, and ffmpeg is not there: it stays a WAV"
        return Finding(name, "fail", said, 'install ffmpeg, or set format = "wav"')
    free = size.f_bavail * size.f_frsize / 2**20
    said = f"in {folder}, {free / 1024:.1f} GiB free: about {free / _MIB_PER_HOUR:.0f} h of calls"
    figures = {"free_mib": round(free, 1)}
    if free < _LEAST_MIB:
        return Finding(name, "warn", said, "make room, or set retention_days", figures)
    return Finding(name, "ok", said, "", figures)
