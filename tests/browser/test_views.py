"""The dashboard in a real browser, on a real Redis: what is stored there is to be seen."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.stage import READER, TOKEN, Stage, a_bookshop, stage
from tests.lab.browser import browser
from tests.lab.redis import Redis

expect.set_options(timeout=40_000)
SMALL = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage(redis, tmp_path_factory.mktemp("stage")) as running:
        a_bookshop(running)
        running.loud("c1", 8000)
        await running.written()
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[BrowserContext]:
    async with browser(viewport={"width": 1280, "height": 800}) as context:
        yield context


@pytest_asyncio.fixture(loop_scope="module")
async def page(shown: Stage, chromium: BrowserContext) -> AsyncIterator[Page]:
    """With the token given, and without a complaint of the browser's at its end."""
    page = await chromium.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{shown.url}#token={TOKEN}")
    yield page
    await page.close()
    # A browser notes whatever is refused: a recording or Asterisk that isn't there, an order.
    known = ("404", "502", "403")
    assert [c for c in complaints if not any(status in c for status in known)] == []


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_calls_in_progress_are_cards(page: Page, shown: Stage) -> None:
    cards = page.get_by_role("list", name="Calls in progress").locator(".card")
    await expect(cards).to_have_count(4)
    assert TOKEN not in page.url
    first = cards.filter(has_text="7946")
    await expect(first).to_contain_text("Sorry, do you sell gift cards?")
    await expect(first.locator(".badge")).to_have_text(["went on", "interrupted"])
    await expect(first.locator(".columns rect").first).to_be_visible()
    await expect(first.get_by_role("meter", name="Caller")).not_to_have_attribute(
        "aria-valuenow", "0"
    )
    second, third = cards.filter(has_text="support"), cards.filter(has_text="901820")
    await expect(second.locator(".badge")).to_have_text("taken over")
    await expect(third.locator(".badge")).to_have_text(["audio lost", "line poor, 7.4 % lost"])


async def test_what_is_said_appears_and_who_hangs_up_disappears(page: Page, shown: Stage) -> None:
    shown.call("c5", caller="900")
    card = page.locator(".card").filter(has_text="900 →")
    await expect(card).to_be_visible()
    shown.says("c5", "caller", "Is anybody there?", time.time())
    await expect(card).to_contain_text("Is anybody there?")
    shown.store.put("c5", state="ended", ended=time.time(), result="hung-up")
    await expect(card).to_have_count(0)


async def test_a_call_that_is_over_tells_what_was_heard_and_what_was_cut(page: Page) -> None:
    await page.get_by_role("link", name="History").click()
    await page.get_by_role("row").filter(has_text="transferred").get_by_role("link").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("demo")
    words = page.get_by_role("list", name="Transcript")
    await expect(words).to_contain_text("cut off by the caller after 8.7 s")
    await expect(words).to_contain_text("another worker took over")
    await expect(words.locator(".turn")).to_have_count(3)
    time_in_call = page.get_by_role("slider", name="Time in the call")
    await time_in_call.focus()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("ArrowRight")
    await expect(time_in_call).to_have_attribute("aria-valuetext", "0:04")
    await expect(words.locator("li.now")).to_contain_text("Harbor Street Books")
    shows = "aria-description"
    await page.keyboard.press("+")
    await expect(time_in_call).to_have_attribute(shows, "shows 0:02 to 0:31")
    await time_in_call.hover()
    await page.mouse.wheel(0, -100)
    await expect(time_in_call).to_have_attribute(shows, re.compile("shows 0:0[45] to 0:2[78]"))
    await page.keyboard.press("0")
    await expect(time_in_call).to_have_attribute(shows, "shows 0:00 to 0:58")
    box = await time_in_call.bounding_box()
    assert box is not None
    await time_in_call.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    await expect(time_in_call).to_have_attribute("aria-valuetext", re.compile("0:29|0:3"))
    await page.get_by_role("button", name="Pause", exact=True).click()  # a click plays from there
    await page.get_by_label("Speed").select_option("2")
    await words.get_by_role("button", name="Do you sell gift cards?").click()
    await expect(words.locator("li.now")).to_contain_text("gift cards?")
    await page.get_by_role("button", name="Pause", exact=True).click()  # it plays from there
    await page.get_by_role("button", name="Play", exact=True).click()
    await expect(words.locator("li.now")).to_contain_text("ten to a hundred")


async def test_a_recording_of_several_parts_plays_as_one(page: Page) -> None:
    await page.evaluate("location.hash = '#/call/two'")
    words = page.get_by_role("list", name="Transcript")
    happened = page.get_by_role("list", name="What happened").get_by_role("button")
    await expect(happened).to_have_text(["0:03nobody recorded", "0:03another worker took over"])
    await expect(page.get_by_text("0:00 / 0:07")).to_be_visible()
    await page.get_by_label("Speed").select_option("2")
    await words.get_by_role("button", name="Where can I park").click()
    await expect(words.locator("li.now.caller")).to_be_visible()
    await expect(words.locator("li.now.agent")).to_be_visible()  # across the gap, by itself
    await expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()  # its end
    await expect(page.get_by_text("0:07 / 0:07")).to_be_visible()


async def ordered(shown: Stage, count: int) -> None:
    """Return when the worker has been told so often."""
    async with asyncio.timeout(40):
        while len(shown.orders) < count:
            await asyncio.sleep(0.02)


async def test_a_call_that_goes_on_can_be_ordered_about(page: Page, shown: Stage) -> None:
    shown.call("c6", caller="600", recording='{"parts": ["/nowhere"], "on": true}')
    shown.says("c6", "agent", "Hello.", time.time(), heard_ms=500)
    await page.locator(".card").filter(has_text="600").click()
    can = page.get_by_role("region", name="What can be done")
    await expect(can.get_by_role("button", name="Mute agent")).to_be_visible()
    await page.keyboard.press("m")
    await ordered(shown, 1)
    shown.says("c6", "event", "agent muted", time.time())
    await expect(can.get_by_role("button", name="Unmute agent")).to_be_visible()
    await can.get_by_role("button", name="Pause recording").click()
    await ordered(shown, 2)
    shown.says("c6", "event", "recording paused", time.time())
    await expect(can.get_by_role("button", name="Resume recording")).to_be_visible()
    await page.keyboard.press("s")
    await page.keyboard.type("One moment, please.")
    await page.keyboard.press("Enter")
    await expect(can.get_by_label("What the agent is to say")).to_be_hidden()
    shown.answer = {"error": "forbidden", "reason": "this agent may not transfer to 911"}
    await page.keyboard.press("t")
    await page.keyboard.type("911")
    await page.keyboard.press("Enter")
    await expect(can.get_by_role("alert")).to_have_text("this agent may not transfer to 911")
    await page.keyboard.press("Escape")
    shown.answer = {}
    await page.keyboard.press("h")
    await expect(can.get_by_role("button", name="Really hang up?")).to_be_focused()
    await page.keyboard.press("h")
    await ordered(shown, 5)
    assert [(order.verb, dict(order.arguments)) for order in shown.orders] == [
        ("mute", {"on": True}),
        ("record", {"on": False}),
        ("say", {"text": "One moment, please."}),
        ("transfer", {"to": "911"}),
        ("hang_up", {"reason": "hung up in the dashboard"}),
    ]
    shown.store.put("c6", state="ended", ended=time.time(), result="hung-up")
    await expect(page.locator(".state")).to_have_text("hung-up")


async def test_who_may_only_look_is_shown_no_buttons(
    shown: Stage, chromium: BrowserContext
) -> None:
    shown.orders.clear()
    page = await chromium.new_page()
    async with page.expect_response("**/v1/token"):
        await page.goto(f"{shown.url}#token={READER}&to=/call/c1")
    await expect(page.get_by_role("list", name="Transcript")).to_contain_text("gift cards")
    await expect(page.locator(".desk")).to_be_hidden()
    await page.keyboard.press("m")
    refused = await page.evaluate(
        """async () => {
            const { ask } = await import('/static/api.js')
            return ask('/v1/calls/c1/mute', { method: 'POST', body: '{"on": true}' })
                .then(() => 'done', (error) => error.status)
        }"""
    )
    await page.close()
    assert (refused, shown.orders) == (403, [])


EVIL = "</script><img src=x onerror='globalThis.pwned=1'><script>globalThis.pwned=1</script>"


async def test_what_callers_and_agents_say_is_text_and_nothing_else(
    page: Page, shown: Stage
) -> None:
    shown.call("<b>evil", caller=EVIL, agent=EVIL, reason=EVIL, dialed=EVIL, engine=EVIL)
    for role in ("caller", "agent", "event", "dtmf"):
        shown.says("<b>evil", role, EVIL, time.time())
    await expect(page.locator(".card").filter(has_text=f"caller: {EVIL}")).to_be_visible()
    await page.locator(".card").filter(has_text=EVIL).click()
    await expect(page.get_by_role("list", name="Transcript")).to_contain_text(EVIL)
    shown.store.put("<b>evil", state="ended", ended=time.time(), result=EVIL)
    await expect(page.locator(".state")).to_have_text(EVIL)
    for place in ("#/history", "#/call/%3Cb%3Eevil"):
        await page.evaluate("place => location.hash = place", place)
        await expect(page.locator("#main")).to_contain_text(EVIL)
        assert await page.locator("#main img, #main script").count() == 0
    assert not await page.evaluate("globalThis.pwned")
    file = await saved(page, shown.folder)
    await page.goto(file.as_uri())
    await expect(page.get_by_role("list", name="Transcript")).to_contain_text(EVIL)
    assert await page.locator("img").count() == 0
    assert not await page.evaluate("globalThis.pwned")


async def saved(page: Page, folder: Path) -> Path:
    """The call's page that is shown, as one file."""
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Save").click()
    file = folder / (await download.value).suggested_filename
    await (await download.value).save_as(file)
    return file


async def test_a_saved_page_shows_and_plays_the_call_without_us(
    page: Page, shown: Stage, chromium: BrowserContext
) -> None:
    await page.evaluate("location.hash = '#/call/over'")
    happened = page.get_by_role("list", name="What happened").get_by_role("button")
    await expect(happened).to_have_count(5)
    want = await happened.all_text_contents()
    heading = await page.get_by_role("heading", level=1).text_content()
    file = await saved(page, shown.folder)
    await chromium.set_offline(True)
    try:
        await page.goto(file.as_uri())
        await expect(page.get_by_role("heading", level=1)).to_have_text(str(heading))
        await expect(happened).to_have_text(want)
        kinds = [await one.get_attribute("class") for one in await happened.all()]
        assert kinds == ["reversed", "cut", "network", "takeover", "muted"]
        words = page.get_by_role("list", name="Transcript")
        await page.get_by_label("Speed").select_option("2")
        await words.get_by_role("button", name="opening hours").click()
        await expect(words.locator("li.now.caller")).to_be_visible()
        await expect(words.locator("li.now.agent")).to_contain_text("We open at nine")
        await page.get_by_role("button", name="Pause", exact=True).click()
    finally:
        await chromium.set_offline(False)


async def test_the_telephone_says_that_asterisk_is_away(page: Page) -> None:
    await page.get_by_role("button", name="Phone", exact=True).click()
    phone = page.get_by_role("region", name="Phone")
    await phone.get_by_role("button", name="Call", exact=True).click()
    await expect(phone).to_contain_text("the way to Asterisk is closed")
    await expect(phone.get_by_role("button", name="Call", exact=True)).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(phone).to_be_hidden()


async def test_the_token_is_asked_for_once(shown: Stage, chromium: BrowserContext) -> None:
    page = await chromium.new_page()
    await page.goto(shown.url)
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Token").fill("a wrong one")
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("does not hold")
    await dialog.get_by_label("Token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await expect(page.locator(".card")).to_have_count(4)
    await page.reload()
    await expect(page.locator(".card")).to_have_count(4)
    await page.close()


@pytest.mark.parametrize("path", ["", "history", "call/c1", "call/over"])
async def test_it_fits_a_phones_screen(page: Page, path: str) -> None:
    await page.set_viewport_size(SMALL)  # type: ignore[arg-type]
    await page.evaluate("path => location.hash = '#/' + path", path)
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"]


async def test_no_script_but_ours_can_run(shown: Stage, chromium: BrowserContext) -> None:
    page = await chromium.new_page()
    await page.goto(shown.url)
    ran = await page.evaluate(
        """() => {
            const script = document.createElement('script')
            script.textContent = 'globalThis.ran = true'
            document.head.append(script)
            return globalThis.ran === true
        }"""
    )
    await page.close()
    assert not ran
