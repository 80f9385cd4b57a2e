"""A call from the telephone in the dashboard's page: a real browser, a real Asterisk, the agent."""

from __future__ import annotations

import asyncio
import re
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from playwright.async_api import Page

from bridge.sessions.model import INDEX, Line, transcript_key
from tests.demo.__main__ import recorded_agents
from tests.demo.hear import Listener
from tests.demo.voice import clip
from tests.lab.browser import browser, heard, listen
from tests.lab.capture import RATE
from tests.lab.stack import Stack

QUESTION = "What are your opening hours?"
BEFORE_S, AFTER_S, TIMES = 8.0, 15.0, 5
"""Silence before the question, for the greeting, and after it. It is asked again and again: on a
busy machine nobody may be there yet when it is asked first."""
TIMEOUT_S = BEFORE_S + TIMES * AFTER_S
WRITTEN_MS = 30_000
GREETING = {"street", "books", "help"}
ANSWER = {"open", "nine", "morning", "close", "six", "evening", "monday", "saturday"}
ENOUGH = 7
"""So many words of the greeting and the answer a small model finds even in sound with gaps."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    agents = recorded_agents(tmp_path_factory.mktemp("recorded"))
    with Stack(browser="test", settings={"agents": {"folder": str(agents)}}) as stack:
        yield stack


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("microphone") / "question.wav"
    before, after = (np.zeros(round(s * RATE), np.int16) for s in (BEFORE_S, AFTER_S))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.concatenate([before, *([clip(QUESTION).pcm, after] * TIMES)]).tobytes())
    return path


async def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        await asyncio.sleep(0.1)


async def test_both_sides_hear_each_other(stack: Stack, microphone: Path) -> None:
    client = redis.Redis.from_url(stack.redis.url, decode_responses=True)

    def lines(role: str) -> str:
        ids = client.zrange(INDEX, 0, 0)
        entries = client.xrange(transcript_key(ids[0])) if ids else []
        said = [Line.from_fields(fields) for _, fields in entries]
        return " ".join(line.text for line in said if line.role == role).lower()

    async with browser(microphone) as context:
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(stack.dashboard)
        await page.get_by_role("button", name="Phone", exact=True).click()
        await listen(page)
        await page.get_by_role("button", name="Call", exact=True).click()
        await page.locator("#phone-state", has_text="Talking").wait_for()
        await until(lambda: "saturday" in lines("agent"), "the agent has answered the question")
        sdp = stack.pbx.cli("pjsip show channelstats")
        await page.get_by_role("button", name="Hang up").click()
        await page.locator("#phone-state", has_text="The call is over").wait_for()
        sound = await heard(page)
        await its_page(page)
    assert "opus" in sdp.lower()
    assert "opening" in lines("caller")  # the last word may be misheard
    assert complaints == []
    listener = Listener()
    texts = [text.lower() for text in listener.texts(sound)]
    listener.close()
    understood = max(len((GREETING | ANSWER) & set(re.findall(r"[a-z]+", text))) for text in texts)
    assert understood >= ENOUGH, texts
    assert stack.pbx.wait_idle() == []


async def its_page(page: Page) -> None:
    """The call, now that it is over: both voices as waveforms, and its sound, by the words."""
    await page.get_by_role("button", name="Close the phone").click()
    await page.get_by_role("link", name="History").click()
    await page.get_by_role("table").get_by_role("link").click()
    await page.get_by_role("button", name="Play", exact=True).wait_for(timeout=WRITTEN_MS)
    call_id = page.url.rpartition("/")[2]
    peaks = await page.evaluate(
        """async (id) => {
            const { get } = await import('/static/api.js')
            return get(`/v1/calls/${id}/peaks`)
        }""",
        call_id,
    )
    assert min(max(peaks["caller"]), max(peaks["agent"])) > 20, "both sides are loud somewhere"
    words = page.get_by_role("list", name="Transcript")
    await words.get_by_role("button", name="opening").first.click()  # plays from there
    await page.get_by_role("button", name="Pause", exact=True).wait_for()
    await words.locator("li.now.caller").wait_for()
    await words.locator("li.now.agent").wait_for()  # the sound goes on, and the words with it
