"""Connecting to Asterisk, losing it, finding it again, and what became of the calls meanwhile."""

import asyncio
import logging
import re
import shutil
from dataclasses import replace

import pytest

from bridge.errors import PbxRefused, PbxUnreachable
from bridge.pbx.asterisk import AsteriskPbx, AsteriskSettings
from bridge.pbx.base import Dtmf
from bridge.pbx.names import parse_name
from tests.lab.asterisk import CONFIG, Asterisk
from tests.lab.root import free_port
from tests.pbx.callers import Callers
from tests.pbx.conftest import TIMEOUT_S, Controller, next_event, over, set_up
from tests.pbx.proxy import Proxy


@pytest.fixture
async def proxy(asterisk):
    async with Proxy(asterisk.ari_port) as proxy:
        yield proxy


@pytest.fixture
async def through(with_settings, proxy):
    """A controller whose every connection leads through the proxy."""
    url = f"http://127.0.0.1:{proxy.port}"
    async with with_settings(url=url, ping_s=0.4, request_timeout_s=2.0) as controller:
        yield controller


async def refusal(settings):
    """The line that an operator gets to see."""
    pbx = AsteriskPbx(settings)
    try:
        with pytest.raises((PbxRefused, PbxUnreachable)) as caught:
            await pbx.connect()
    finally:
        await pbx.close()
    assert "\n" not in str(caught.value)
    return caught.value


# ---- connect: each thing that can be wrong has a line of its own


async def test_connect_learns_the_version(settings, asterisk):
    pbx = AsteriskPbx(settings)
    await pbx.connect()
    assert asterisk.version.startswith(pbx.version)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", pbx.version)
    await pbx.close()


async def test_nobody_listens(settings):
    port = free_port()
    error = await refusal(AsteriskSettings(url=f"http://127.0.0.1:{port}"))
    assert isinstance(error, PbxUnreachable)
    assert f"nobody listens at http://127.0.0.1:{port}" in str(error)
    assert "http.conf" in str(error)


async def test_wrong_password(settings, asterisk):
    error = await refusal(
        AsteriskSettings(url=settings.url, username="ari-bridge", password="a-wrong-one")
    )
    assert isinstance(error, PbxRefused)
    assert "section [ari-bridge] in its ari.conf" in str(error)
    assert "a-wrong-one" not in str(error)


async def test_not_an_asterisk(redis):
    error = await refusal(AsteriskSettings(url=redis.url.replace("redis", "http")[:-2]))
    assert "set url to the address in its http.conf" in str(error)


async def test_it_hangs(settings, proxy):
    proxy.freeze()
    error = await refusal(
        AsteriskSettings(url=f"http://127.0.0.1:{proxy.port}", request_timeout_s=0.2)
    )
    assert isinstance(error, PbxUnreachable)
    assert "did not answer within 0.2 s" in str(error)


@pytest.fixture
def templates(tmp_path):
    """The demo's configuration, to be changed."""
    return shutil.copytree(CONFIG / "demo", tmp_path / "templates")


async def test_ari_is_disabled(templates):
    ari = templates / "ari.conf"
    ari.write_text(ari.read_text().replace("enabled = yes", "enabled = no"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Asterisk, "_answers", lambda self: "fully booted" in _booted(self))
        with Asterisk(templates=templates) as asterisk:
            error = await refusal(AsteriskSettings(url=asterisk.ari_url))
    assert isinstance(error, PbxRefused)
    assert "has no ARI: set enabled=yes in its ari.conf" in str(error)


def _booted(asterisk):
    if not (asterisk.directory / "run" / "asterisk.ctl").exists():
        return ""
    return asterisk.cli("core waitfullybooted")


async def test_our_user_may_only_read(templates):
    with (templates / "ari.conf").open("a") as ari:
        ari.write("\n[reader]\ntype = user\nread_only = yes\npassword = secret\n")
    with Asterisk(templates=templates) as asterisk:
        error = await refusal(
            AsteriskSettings(url=asterisk.ari_url, username="reader", password="secret")
        )
    assert isinstance(error, PbxRefused)
    assert "set read_only=no" in str(error)


async def test_no_secret_is_logged(settings, controller, callers, ear, caplog):
    caplog.set_level(logging.DEBUG)
    async with Controller(settings).run() as other:  # takes the place of `controller`
        caller = await callers.dial("700")
        leg = await other.call()
        await set_up(leg, ear)
        await caller.hang_up()
        await leg.release()
    assert "externalMedia" in caplog.text  # the loggers below us were heard
    assert settings.password not in caplog.text
    assert settings.password not in repr(settings)


async def test_the_websocket_outlives_the_request_timeout(with_settings, callers):
    async with with_settings(request_timeout_s=0.3, ping_s=30.0) as controller:
        await asyncio.sleep(1)
        caller = await callers.dial("700")
        leg = await controller.call()
        assert controller.ups.empty()
        await caller.hang_up()
        await leg.release()


async def test_its_opening_does_not(with_settings, proxy):
    url = f"http://127.0.0.1:{proxy.port}"
    async with with_settings(url=url, request_timeout_s=0.3, ping_s=0.2) as controller:
        proxy.freeze()
        await controller.is_up(False)
        await asyncio.sleep(1)  # it tries in vain meanwhile
        proxy.cut()
        proxy.thaw()
        await controller.is_up()


# ---- the events WebSocket is lost; calls are not


async def test_calls_go_on_when_the_websocket_is_cut(through, callers, ear, proxy):
    caller = await callers.dial("700")
    leg = await through.call()
    await set_up(leg, ear)
    for _ in range(5):
        proxy.cut()
        await through.is_up(False)
        await through.is_up()
    assert leg.events.empty()
    await caller.press("3")
    assert isinstance(await next_event(leg), Dtmf)
    await caller.hang_up()
    await leg.release()


async def test_a_call_whose_set_up_falls_into_the_cut_is_set_up_after_it(
    through, callers, ear, proxy
):
    caller = await callers.dial("700")
    leg = await through.call()
    proxy.cut()
    await through.is_up(False)
    await set_up(leg, ear)  # what is put into an application that nobody listens to ends at once
    await caller.hang_up()
    assert await over(leg) == "hangup"
    await leg.release()


async def test_a_call_that_ended_meanwhile_is_lost(through, callers, ear, proxy):
    caller, staying = [await callers.dial("700") for _ in range(2)]
    legs = {leg.incoming.call_id: leg for leg in [await through.call() for _ in range(2)]}
    await set_up(legs[staying.call_id], ear)
    stayings = {i for i in await callers.ids() if parse_name(i)}
    await set_up(legs[caller.call_id], ear)
    proxy.refuse(True)
    await through.is_up(False)
    await caller.hang_up()
    proxy.refuse(False)
    await through.is_up()
    assert await over(legs[caller.call_id]) == "lost"
    assert legs[staying.call_id].events.empty()
    await legs[caller.call_id].release()
    await callers.nothing_left(staying, stay=stayings)
    await staying.hang_up()
    await legs[staying.call_id].release()


async def test_external_media_that_ended_meanwhile_is_told(through, callers, ear, proxy):
    caller = await callers.dial("700")
    leg = await through.call()
    await set_up(leg, ear)
    proxy.refuse(True)
    await through.is_up(False)
    media = next(i for i in await callers.ids() if (n := parse_name(i)) and n.n)
    await callers.ask("DELETE", f"/channels/{media}")
    while media in await callers.ids():
        await asyncio.sleep(0.01)
    proxy.refuse(False)
    await through.is_up()
    assert type(await next_event(leg)).__name__ == "MediaLost"
    await caller.hang_up()
    await leg.release()


async def test_a_caller_whose_start_was_lost_is_taken(through, callers, ear, proxy):
    proxy.freeze()  # Asterisk doesn't notice: it hands the call over, and nobody hears of it
    caller = await callers.dial("700")
    while await caller.where() != ("ari-bridge-call", "700"):
        await asyncio.sleep(0.01)
    await through.is_up(False)  # our ping did notice
    proxy.cut()
    proxy.thaw()
    await through.is_up()
    leg = await through.call()
    assert leg.incoming.resumed
    assert leg.incoming.call_id == caller.call_id
    assert leg.incoming.args == ("demo",)
    assert leg.incoming.dialed == "700"
    await set_up(leg, ear)
    await caller.hang_up()
    assert await over(leg) == "hangup"
    await leg.release()


async def test_a_websocket_that_is_open_and_brings_nothing_is_opened_again(
    controller, callers, caplog
):
    """As where Asterisk shut the application while it cleared away after our last WebSocket."""
    nothing = {"allowed": [{"type": "DeviceStateChanged"}]}
    await callers.ask("PUT", "/applications/ari-bridge/eventFilter", body=nothing)
    await controller.is_up(False)
    await controller.is_up()
    assert "application 'ari-bridge' gets no events" in caplog.text
    caller = await callers.dial("700")
    leg = await controller.call()
    await caller.hang_up()
    assert await over(leg) == "hangup"
    await leg.release()


async def test_release_waits_for_asterisk_to_come_back(with_settings, callers, ear, proxy):
    url = f"http://127.0.0.1:{proxy.port}"
    async with with_settings(url=url) as controller:
        caller = await callers.dial("700")
        leg = await controller.call()
        await set_up(leg, ear)
        proxy.refuse(True)
        await controller.is_up(False)
        await caller.hang_up()
        releasing = asyncio.create_task(leg.release())
        before = proxy.refused
        while proxy.refused < before + 12:  # more than one try for each of its three requests
            assert not releasing.done()
            await asyncio.sleep(0.02)
        assert await callers.ids()
        proxy.refuse(False)
        await asyncio.wait_for(releasing, TIMEOUT_S)
        await callers.nothing_left()


async def test_a_caller_whose_release_failed_goes_on_later(with_settings, callers, ear, proxy):
    url = f"http://127.0.0.1:{proxy.port}"
    async with with_settings(url=url, release_timeout_s=0.2) as controller:
        caller = await callers.dial("700")
        leg = await controller.call()
        await set_up(leg, ear)
        proxy.refuse(True)
        await asyncio.wait_for(leg.release(), TIMEOUT_S)
        proxy.refuse(False)
        assert await over(leg) == "left"
        await callers.nothing_left(caller)
        await caller.hang_up()


async def test_release_works_while_no_one_listens_to_events(settings, callers, ear):
    """At shutdown: run() has ended, and calls are given back."""
    async with Controller(settings).run() as controller:
        caller = await callers.dial("700")
        leg = await controller.call()
        await set_up(leg, ear)
        await abandon(controller)
        await leg.release()
        await callers.nothing_left(caller)
        await caller.hang_up()


async def test_release_is_bounded_and_the_rest_is_swept(with_settings, callers, ear, proxy):
    url = f"http://127.0.0.1:{proxy.port}"
    async with with_settings(url=url, release_timeout_s=0.2, orphan_grace_s=0.2) as controller:
        caller = await callers.dial("700")
        leg = await controller.call()
        await set_up(leg, ear)
        proxy.refuse(True)
        await asyncio.wait_for(leg.release(), TIMEOUT_S)
        await caller.hang_up()
        assert await callers.ids()  # what we made is still there
        proxy.refuse(False)
        await callers.nothing_left()


# ---- our own process dies, or there are two


async def abandon(controller):
    """As `kill -9` would: no release, no goodbye."""
    controller.running.cancel()
    await asyncio.wait([controller.running])


async def test_a_new_process_takes_the_calls_of_a_dead_one(settings, callers, ear):
    async with Controller(settings).run() as dead:
        caller = await callers.dial("700")
        leg = await dead.call()
        await set_up(leg, ear)
        before = {i for i in await callers.ids() if parse_name(i)}
        assert len(before) == 2
        await abandon(dead)
    async with Controller(settings).run() as controller:
        leg = await controller.call()
        assert leg.incoming.resumed
        assert leg.incoming.call_id == caller.call_id
        await set_up(leg, ear)
        after = {i for i in await callers.ids() if parse_name(i)}
        assert len(after) == 2
        assert not before & after
        await caller.hang_up()
        await leg.release()


async def test_what_a_worker_made_and_could_not_note_goes_once_its_heir_has_the_call(
    settings, callers, ear
):
    async with Controller(settings).run() as dead:
        caller = await callers.dial("700")
        leg = await dead.call()
        await set_up(leg, ear)
        made = {i for i in await callers.ids() if parse_name(i)}
        await abandon(dead)
    heir = Controller(settings)
    heir.pbx = AsteriskPbx(settings, worker="heir")
    async with heir.run():
        leg = await heir.pbx.adopt(replace(leg.incoming, resumed=True), {}, near=False)
        async with asyncio.timeout(TIMEOUT_S):
            while made & set(await callers.ids()):
                await asyncio.sleep(0.05)
        await caller.hang_up()
        await leg.release()


async def test_what_a_dead_process_left_is_swept(with_settings, callers, ear):
    async with with_settings() as dead:
        caller = await callers.dial("700")
        await set_up(await dead.call(), ear)
        await abandon(dead)
    await caller.hang_up()
    async with with_settings():
        await asyncio.sleep(0.5)  # the first look is over, the grace is not
        assert len(await callers.ids()) == 2
    async with with_settings(orphan_grace_s=0.3) as controller:
        await callers.nothing_left()
        assert controller.legs.empty()


async def test_anothers_calls_are_left_alone(settings, with_settings, callers, ear, caplog):
    async with Controller(settings).run() as one:
        caller = await callers.dial("700")
        leg = await one.call()
        await set_up(leg, ear)
        there = await callers.ids()
        caplog.set_level(logging.INFO)
        async with with_settings(app="other", orphan_grace_s=0.05, sweep_s=0.05) as other:
            await asyncio.sleep(0.5)  # some ten looks
            assert await callers.ids() == there
            assert other.legs.empty()
        await caller.hang_up()
        await leg.release()


async def test_a_second_program_takes_over(settings, callers, ear):
    async with Controller(settings).run() as first:
        caller = await callers.dial("700")
        old = await first.call()
        await set_up(old, ear)
        async with Controller(settings).run() as second:
            assert await over(old) == "taken"
            with pytest.raises(PbxRefused, match="another program"):
                await first.running
            new = await second.call()
            await set_up(new, ear)
            await old.release()
            (bridge,) = await callers.ask("GET", "/bridges")
            assert len(bridge["channels"]) == 2  # the old one's end did not touch it
            await caller.hang_up()
            assert await over(new) == "hangup"
            await new.release()


async def test_who_stops_does_not_say_that_asterisk_went(with_settings, callers):
    async with with_settings() as controller:
        pass
    assert controller.ups.empty()


# ---- Asterisk itself dies


async def test_asterisk_dies_and_comes_back(ear):
    with Asterisk() as asterisk:
        settings = AsteriskSettings(
            url=asterisk.ari_url,
            username=asterisk.ari_username,
            password=asterisk.ari_password,
            release_timeout_s=0.5,
        )
        async with Controller(settings).run() as controller:
            async with Callers(asterisk) as callers:
                await callers.dial("700")
                leg = await controller.call()
                await set_up(leg, ear)
                asterisk.kill()
            await controller.is_up(False)
            with pytest.raises(PbxUnreachable, match="nobody listens"):
                await leg.get_variable("CHANNEL(language)")
            await asyncio.to_thread(asterisk.start)
            await controller.is_up()
            assert await over(leg) == "lost"
            await leg.release()
            async with Callers(asterisk) as callers:
                caller = await callers.dial("700")
                leg = await controller.call()
                assert not leg.incoming.resumed
                await set_up(leg, ear)
                await caller.hang_up()
                await leg.release()
                await callers.nothing_left()


async def test_it_may_start_before_asterisk_does(settings, callers, proxy):
    proxy.refuse(True)
    url = f"http://127.0.0.1:{proxy.port}"
    controller = Controller(AsteriskSettings(**{**vars(settings), "url": url}))
    async with controller.run(up=False):
        await asyncio.sleep(0.3)
        assert controller.ups.empty()
        proxy.refuse(False)
        await controller.is_up()
        caller = await callers.dial("700")
        leg = await controller.call()
        await caller.hang_up()
        await leg.release()
