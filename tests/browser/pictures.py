"""`python -m tests.browser.pictures [--staged]`: the dashboard's pictures in docs/, of real calls.

Four phones talk with the demo agent at the same time; one of them holds the conversation of `make
demo`, in which it interrupts, says "okay", and its worker is killed. Looked at meanwhile and when
it is over, dark and light, wide and as small as a phone. `--staged`: of calls that are only written
down as the tests of the views do, with all that can happen in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.browser.stage import TOKEN, a_bookshop, save, stage
from tests.demo.__main__ import hold, recorded_agents
from tests.demo.script import SHIPPED, load
from tests.demo.voice import clip
from tests.lab.browser import browser
from tests.lab.capture import RATE
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY
from tests.lab.stack import AGENT_EXTENSION, Stack

WIDE, SMALL = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
OTHERS = (
    ("What are your opening hours?", "Where can I park?"),
    ("Do you sell gift cards?", "How long do I have to return a book?"),
    ("What events do you have coming up?", "Do you have anything for children?"),
)
SEEK = 3
"""Times 10 s, where the playhead stands."""
GREETED_S, ANSWERED_S = 7.0, 14.0
LOOKS_S = (28.0, 40.0, 52.0, 64.0, 76.0)


async def chat(stack: Stack, questions: tuple[str, ...], after_s: float) -> None:
    """A caller who asks one thing after the other, as long as nobody stops him."""
    await asyncio.sleep(after_s)
    async with stack.phone() as phone:
        await phone.dial(AGENT_EXTENSION)
        await asyncio.sleep(GREETED_S)
        while True:
            for question in questions:
                await phone.speak(clip(question).pcm, RATE)
                await asyncio.sleep(ANSWERED_S)


async def look(stack: Stack, out: Path) -> None:
    """Pictures of calls in progress."""
    async with (
        browser(viewport=WIDE, color_scheme="dark") as dark,
        browser(viewport=SMALL, color_scheme="light", device_scale_factor=2) as small,
    ):
        pages = {"live-dark": await dark.new_page(), "live-small": await small.new_page()}
        for page in pages.values():
            await page.goto(stack.dashboard)
        slept = 0.0
        for second in LOOKS_S:
            await asyncio.sleep(second - slept)
            slept = second
            for name, page in pages.items():
                await save(page, out / f"{name}-{second:.0f}.png")


async def look_back(stack: Stack, call_id: str, out: Path) -> None:
    """Pictures of the call that is over."""
    kinds: dict[str, dict[str, Any]] = {
        "call-light": {"viewport": WIDE, "color_scheme": "light"},
        "call-dark": {"viewport": WIDE, "color_scheme": "dark"},
        "call-small": {"viewport": SMALL, "color_scheme": "light", "device_scale_factor": 2},
    }
    for name, options in kinds.items():
        async with browser(**options) as context:
            page = await context.new_page()
            await page.goto(f"{stack.dashboard}&to=/call/{call_id}")
            await page.get_by_role("button", name="Play", exact=True).wait_for()
            await page.get_by_role("slider", name="Time in the call").focus()
            for _ in range(SEEK):
                await page.keyboard.press("Shift+ArrowRight")
            await asyncio.sleep(0.5)
            await page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
            await asyncio.sleep(0.3)
            await save(page, out / f"{name}.png")
            await page.evaluate("location.hash = '#/history'")
            await asyncio.sleep(0.5)
            await save(page, out / f"{name.replace('call', 'history')}.png")


async def run(stack: Stack, out: Path) -> None:
    """Hold the calls and look."""
    script = load(SHIPPED)
    clips = {turn.say: clip(turn.say) for turn in script.turns if turn.say}
    others = [
        asyncio.create_task(chat(stack, questions, 2.0 * n)) for n, questions in enumerate(OTHERS)
    ]
    await asyncio.sleep(2.0 * len(OTHERS) + 2.0)
    looking = asyncio.create_task(look(stack, out))
    try:
        held = await hold(stack, script, clips, out, outbound=False)
        await looking
    finally:
        for task in (looking, *others):
            task.cancel()
        await asyncio.gather(looking, *others, return_exceptions=True)
    await asyncio.sleep(3.0)  # the recording is finished off the call's way
    await look_back(stack, held.call_id, out)


async def staged(redis: Redis, folder: Path, out: Path) -> None:
    """Pictures of `stage.a_bookshop`."""
    async with stage(redis, folder) as shown:
        a_bookshop(shown)
        for call_id, amplitude in (("c1", 8000), ("c2", 900), ("c3", 3000)):
            shown.loud(call_id, amplitude)
        await shown.written()
        kinds: dict[str, dict[str, Any]] = {
            "dark": {"viewport": WIDE, "color_scheme": "dark"},
            "light": {"viewport": WIDE, "color_scheme": "light"},
            "small": {"viewport": SMALL, "color_scheme": "light", "device_scale_factor": 2},
        }
        for name, options in kinds.items():
            async with browser(**options) as context:
                page = await context.new_page()
                await page.goto(f"{shown.url}#token={TOKEN}")
                await page.locator(".card").nth(3).wait_for()
                await asyncio.sleep(1.0)
                await save(page, out / f"staged-live-{name}.png")
                await page.evaluate("location.hash = '#/call/c1'")
                await page.get_by_role("button", name="Hang up").wait_for()
                await page.get_by_role("button", name="Say …").click()
                await asyncio.sleep(0.5)
                await save(page, out / f"staged-going-{name}.png")
                await page.evaluate("location.hash = '#/call/over'")
                slider = page.get_by_role("slider", name="Time in the call")
                await slider.focus()
                for _ in range(SEEK):
                    await page.keyboard.press("Shift+ArrowRight")
                await page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
                await asyncio.sleep(0.5)
                await save(page, out / f"staged-call-{name}.png")


def main() -> int:
    """Leaves the pictures in out/pictures; who looks at them copies the good ones to docs/."""
    out = REPOSITORY / "out" / "pictures"
    out.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:] == ["--staged"]:
        with Redis() as redis, tempfile.TemporaryDirectory() as folder:
            asyncio.run(staged(redis, Path(folder), out))
        return 0
    with contextlib.ExitStack() as up:
        agents = recorded_agents(Path(up.enter_context(tempfile.TemporaryDirectory())))
        stack = up.enter_context(
            Stack(
                browser="test",
                settings={"agents": {"folder": str(agents)}},
                options=("--workers", "2"),
            )
        )
        stack.wait_for_workers(2)
        asyncio.run(run(stack, out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
