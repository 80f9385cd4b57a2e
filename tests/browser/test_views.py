"""The dashboard in a real browser, on a real Redis: what is stored there is to be seen."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.stage import TOKEN, Stage, a_bookshop, stage
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
    # Not every call is recorded: the page asks, and takes the no. Nor is Asterisk there.
    assert [c for c in complaints if "404" not in c and "502" not in c] == []


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
    await expect(third.locator(".badge")).to_have_text("line poor, 7.4 % lost")


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
    await words.get_by_role("button", name="Do you sell gift cards?").click()
    await expect(words.locator("li.now")).to_contain_text("gift cards?")
    await page.get_by_role("button", name="Pause", exact=True).click()  # it plays from there
    await page.get_by_role("button", name="Play", exact=True).click()
    await expect(words.locator("li.now")).to_contain_text("ten to a hundred")


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
