"""Resource: a call's page as one file, to be kept or sent: its words, its pictures, its sound.

The file is made of the page's own style sheet and modules (`static/`), so it shows what the page
shows. Modules can't be fetched from a disk: they are in it as `data:` addresses, and an import map
gives them their names. The one that asks the API is replaced by `saved.js`, which answers with what
is in the file. Nothing runs in it but what we wrote (Content-Security-Policy by hashes), and it
reaches no network: what callers said can be neither run nor sent away.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bridge.sessions import export
from bridge.sessions.model import Record
from bridge.web import recordings
from bridge.web.errors import Refused
from bridge.web.history import Transcript
from bridge.web.page import STATIC
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route, jsonable
from bridge.web.shapes import CallDetail

MOST_BYTES = 32 << 20
"""Of sound: all of it is held in memory, and again in the browser. 17 minutes of G.711 as WAV."""
_PIECE = 3 << 18
"""Bytes that are sent at once: a multiple of what base64 takes together."""
_MOST_PEAKS = 12_000
_MODULES = ("api", "bars", "call", "desk", "dom", "feed", "live", "player", "timeline", "words")
_NAME = "ari-bridge/"
_IMPORT = re.compile(r"from '\./(\w+)\.js'")

_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>A call, {day}</title>
<style>{style}</style>
</head>
<body>
<header class="bar"><span class="brand"><span>ari-bridge</span></span>
<p class="about">A call's page, saved {saved}</p></header>
<main id="main"></main>
<noscript><p class="empty">This page needs JavaScript.</p></noscript>
<script type="application/json" id="saved">{data}</script>
"""
_SOUND = '<script type="text/plain" id="sound-{part}" data-kind="{kind}">', "</script>\n"
_END = """<script type="importmap">{modules}</script>
<script type="module">{start}</script>
</body>
</html>
"""
_START = """
import { id } from 'ari-bridge/api.js'
import { show } from 'ari-bridge/call.js'
show(document.getElementById('main'), id)
"""


@dataclass(frozen=True, slots=True)
class Sound:
    """One part of the recording."""

    part: int
    kind: str
    """Its media type."""
    data: bytes = field(repr=False)


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""

    async def saved(asked: Asked) -> web.Response:
        return await _page(parts, asked)

    path = "/v1/calls/{id}/page.html"
    return [Route("GET", path, "A call that is over as one file, with its sound", saved)]


async def _page(parts: Parts, asked: Asked) -> web.Response:
    record = await recordings.load(parts.reader, asked)
    if record.state != "ended":
        raise Refused(409, "goes-on", "the call goes on: its page can be saved when it is over")
    lines = await parts.reader.transcript(record.call_id)
    now = time.time()
    answers: dict[str, object] = {
        "": CallDetail.all_of(record, lines, now),
        "transcript.json": Transcript(
            record.call_id, export.zero(record), export.place(record, lines)
        ),
    }
    sounds: list[Sound] = []
    async with parts.heavy:
        await _record(record, answers, sounds)
    name = re.sub(r"[^\w.-]", "_", record.call_id, flags=re.ASCII)[:80]
    return web.Response(
        body=_pieces(jsonable(answers), sounds, record.started, now),
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Content-Disposition": f'attachment; filename="call-{name}.html"',
            "Content-Security-Policy": "sandbox",  # it is to be saved, not to be run as ours
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


async def _record(record: Record, answers: dict[str, object], sounds: list[Sound]) -> None:
    """Add what this host has of its recording. Raises `Refused`."""
    size = 0
    for part in range(len(recordings.told(record)["parts"])):
        try:
            about = await recordings.about(record, part)
        except Refused:  # deleted, or another host's: the page says that it isn't there
            continue
        if not about.duration_ms:
            continue
        one = await recordings.notes_of(record, part)
        size += one.sound_file.stat().st_size
        if size > MOST_BYTES:
            raise Refused(
                *(409, "too-large"),
                f"its recording has over {MOST_BYTES >> 20} MB: too much for one file; "
                'GET …/recording has it ([recording] format = "opus" makes smaller ones)',
            )
        per_s = min(200, max(20, _MOST_PEAKS * 1000 // about.duration_ms))
        data = await recordings.off_loop(recordings.whole, one)
        sounds.append(Sound(part, recordings.kind(one), data))
        answers[f"recording.json?part={part}"] = about
        answers[f"peaks?part={part}"] = await recordings.peaks(one, per_s)


async def _pieces(
    answers: Mapping[str, Any], sounds: Sequence[Sound], began: float, now: float
) -> AsyncIterator[bytes]:
    """The file, as it is sent.

    `answers`: of the API, by what stands behind `/v1/calls/ID/` in their paths; `began`: when the
    call did, seconds since 1970; `now` the same of the saving.
    """
    # A `<` could end the element, or begin a comment in it.
    data = json.dumps(answers, separators=(",", ":")).replace("<", "\\u003c")
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    modules = json.dumps({"imports": dict(_modules())}, separators=(",", ":"))
    policy = (
        f"default-src 'none'; script-src {_hash(modules)} {_hash(_START)} data:; "
        f"style-src {_hash(style)}; media-src blob:; base-uri 'none'; form-action 'none'"
    )
    days = {"day": _day(began), "saved": _day(now)}
    yield _SHELL.format(policy=policy, style=style, data=data, **days).encode()
    for sound in sounds:
        yield _SOUND[0].format(part=sound.part, kind=sound.kind).encode()
        for at in range(0, len(sound.data), _PIECE):
            yield base64.b64encode(sound.data[at : at + _PIECE])
        yield _SOUND[1].encode()
    yield _END.format(modules=modules, start=_START).encode()


def _modules() -> Iterator[tuple[str, str]]:
    for name in _MODULES:
        source = "saved" if name == "api" else name
        text = (STATIC / f"{source}.js").read_text(encoding="utf-8")
        text = _IMPORT.sub(rf"from '{_NAME}\1.js'", text)
        yield (
            f"{_NAME}{name}.js",
            "data:text/javascript;base64," + base64.b64encode(text.encode()).decode(),
        )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
