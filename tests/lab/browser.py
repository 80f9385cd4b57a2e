"""A Chromium of the lab's own, and what its user hears.

    async with browser(microphone=wav) as context:
        page = await context.new_page()

Debian's, from the private root (tests/lab/setup.sh browser), driven by Playwright. It talks to
loopback only, and needs neither a sound card nor a person who allows the microphone.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.async_api import BrowserContext, Page, async_playwright

from tests.lab.capture import RATE, Pcm
from tests.lab.root import REPOSITORY, LabError

_EXECUTABLE = REPOSITORY / ".lab-browser" / "bin" / "chromium-headless-shell"
_TIMEOUT_MS = 40_000

# Collects what the telephone's <audio> plays, as 16-bit samples, from when it has anything to play.
_LISTEN = """(rate) => {
  const context = new AudioContext({ sampleRate: rate })
  const tap = context.createScriptProcessor(4096, 1, 1)
  globalThis.heard = []
  tap.onaudioprocess = ({ inputBuffer }) =>
    globalThis.heard.push(Int16Array.from(inputBuffer.getChannelData(0), (x) => x * 32767))
  tap.connect(context.destination)
  const audio = document.getElementById('phone-audio')
  const waiting = setInterval(() => {
    if (!audio.srcObject) return
    clearInterval(waiting)
    context.createMediaStreamSource(audio.srcObject).connect(tap)
  }, 10)
}"""
_HEARD = """() => {
  let text = ''
  for (const part of globalThis.heard)
    for (const byte of new Uint8Array(part.buffer)) text += String.fromCharCode(byte)
  return btoa(text)
}"""


@contextlib.asynccontextmanager
async def browser(microphone: Path | None = None, **options: Any) -> AsyncIterator[BrowserContext]:
    """One with a profile of its own.

    Args:
        microphone: what is said into it, a WAV, from when a page opens it, once.
        options: of Playwright's `Browser.new_context`.
    """
    if not _EXECUTABLE.exists():
        raise LabError("the lab has no browser: run 'tests/lab/setup.sh browser'")
    words = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--allow-loopback-in-peer-connection",  # where else would Asterisk be
        "--disable-background-networking",
        "--autoplay-policy=no-user-gesture-required",
    ]
    if microphone is not None:
        words.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    async with async_playwright() as player:
        chromium = await player.chromium.launch(executable_path=_EXECUTABLE, args=words)
        try:
            context = await chromium.new_context(permissions=["microphone"], **options)
            context.set_default_timeout(_TIMEOUT_MS)
            yield context
        finally:
            await chromium.close()


async def listen(page: Page) -> None:
    """From now on keep what the page's telephone plays."""
    await page.evaluate(_LISTEN, RATE)


async def heard(page: Page) -> Pcm:
    """What it has played since `listen`: 8 kHz."""
    return np.frombuffer(base64.b64decode(await page.evaluate(_HEARD)), "<i2")
