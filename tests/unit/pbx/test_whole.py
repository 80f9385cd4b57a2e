"""What is begun is carried out, whoever has stopped waiting for it."""

import asyncio
import contextlib

import pytest

from bridge.errors import PbxRefused
from bridge.pbx.whole import Whole


async def test_who_takes_things_away_waits_for_what_nobody_waits_for_any_more():
    whole, answered, made = Whole(asyncio.create_task), asyncio.Event(), []

    async def make():
        await answered.wait()
        made.append("it")

    asked = asyncio.create_task(whole.do(make()))
    await asyncio.sleep(0)
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    removing = asyncio.create_task(whole.done())
    await asyncio.sleep(0)
    assert not removing.done()
    answered.set()
    await removing
    assert made == ["it"]
    await whole.done()


async def test_its_error_is_whose_who_asked_and_holds_nobody_up():
    whole = Whole(asyncio.create_task)

    async def make():
        raise PbxRefused("no")

    with pytest.raises(PbxRefused):
        await whole.do(make())
    await whole.done()
