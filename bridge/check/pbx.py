"""One Asterisk, from its version to a test call through its dialplan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bridge.agent import Agent
from bridge.check import asterisk
from bridge.check.finding import Finding
from bridge.check.rtp import CONTEXT, PROBE, TestCall
from bridge.errors import MediaError, PbxError, PbxRefused
from bridge.media import control
from bridge.media.settings import MediaSettings
from bridge.media.udp import open_socket
from bridge.pbx.ari import Ari
from bridge.pbx.destinations import QUEUE_MODULE, QUEUES, place_of
from bridge.pbx.settings import AsteriskSettings
from bridge.relay.client import relay_serves


async def findings(
    settings: AsteriskSettings, media: MediaSettings, agents: Iterable[Agent], call: str = ""
) -> list[Finding]:
    """All that is to be said of it; `call`: an agent that a bridge that runs is to answer with."""
    ari = Ari(settings)
    try:
        found = await asterisk.findings(ari, settings)
        if not ari.is_open:
            said = "not tried: Asterisk can't be asked"
            return [*found, Finding("rtp", "skip", said), Finding("dialplan", "skip", said)]
        return found + await _called(ari, settings, media, agents, call)
    finally:
        await ari.close()


async def _called(
    ari: Ari, settings: AsteriskSettings, media: MediaSettings, agents: Iterable[Agent], agent: str
) -> list[Finding]:
    call = TestCall(ari, settings, media)
    found: list[Finding] = []
    by_relay = settings.media_transport == "websocket"
    try:
        # The port of calls itself, unless the bridge has it: then another one of that address.
        running = media_runs(media) or (await _held(ari, settings) and not _is_free(media))
        async with call.open(0 if running or by_relay else media.port):
            found.append(await call.measure())
            if running and not by_relay and found[0].state == "fail":
                cure = f"{found[0].cure}; tried on port {call.port}, because the bridge itself has "
                cure += (
                    f"{media.port}: if only that is let through, stop the bridge and check again"
                )
                found[0] = replace(found[0], cure=cure)
            if found[0].state != "fail":
                found.append(await call.codecs())
            if call.channel:
                found += await _dialplan(ari, settings, call, agent, found[0].state != "fail")
                found += await _transfers(call, agents)
        if by_relay and media_runs(media) and not relay_serves(Path(media.runtime_dir)):
            said = "the bridge runs, and its relay doesn't: calls have no audio"
            found.append(Finding("relay", "fail", said, "start `ari-bridge relay`, or `run` anew"))
    except MediaError as error:
        said, _, cure = str(error).partition(": ")
        found.append(Finding("rtp", "fail", said, cure))
    except TimeoutError:
        said = "Asterisk's external media does not come up"
        found.append(Finding("rtp", "fail", said, "see its log"))
    except PbxError as error:
        name = "rtp" if not found else "dialplan"
        found.append(Finding(name, "fail", str(error)))
    return found


async def _held(ari: Ari, settings: AsteriskSettings) -> bool:
    """Whether a bridge takes the calls of this Asterisk."""
    found = await ari.call("applications.get", applicationName=settings.app, ok=(404,))
    return found is not None


def _is_free(media: MediaSettings) -> bool:
    """Whether the port of calls is nobody's; that of a bridge that another user runs isn't."""
    try:
        open_socket(media.listen_address, media.port).close()
    except MediaError:
        return False
    return True


def media_runs(media: MediaSettings) -> bool:
    """Whether a media process of ours serves this directory."""
    sock = control.new_socket()
    try:
        sock.connect(str(control.socket_path(Path(media.runtime_dir))))
    except OSError:
        return False
    finally:
        sock.close()
    return True


async def _dialplan(
    ari: Ari, settings: AsteriskSettings, call: TestCall, agent: str, heard: bool
) -> list[Finding]:
    if await call.function(f"DIALPLAN_EXISTS({CONTEXT},{PROBE},1)") != "1":
        said = f"it has no context {CONTEXT}, so callers get no second try and no fallback"
        cure = "include ari-bridge-extensions.conf, unless a line of your own says "
        cure += f"Stasis({settings.app},AGENT)"
        return [Finding("dialplan", "warn", said, cure)]
    found = []
    if await _held(ari, settings):
        found.append(Finding("dialplan", "ok", f"context {CONTEXT} is there; the bridge runs"))
        if agent and heard:
            found.append(await call.served(agent))
    elif heard:
        found.append(await call.through(settings.app))
    fallback = await call.function("ARI_BRIDGE_FALLBACK")
    if fallback and await call.function(f"DIALPLAN_EXISTS({fallback})") != "1":
        said = f"ARI_BRIDGE_FALLBACK is {fallback}, and the dialplan has no such place"
        cure = "set it to context,extension,priority of one that it has"
        found.append(Finding("fallback", "fail", said, cure))
    return found


async def _transfers(call: TestCall, agents: Iterable[Agent]) -> list[Finding]:
    places: dict[tuple[str, str], list[str]] = {}
    for agent in agents:
        settings = agent.transfer
        for there in settings.named.values():
            if (place := place_of(there.to, settings.context)) is not None:
                places.setdefault((place[1], place[0]), []).append(agent.name)
            if there.kind != "dialplan":
                places.setdefault(("ari-bridge-join", "s"), []).append(agent.name)
    found = []
    for (context, extension), names in places.items():
        if await call.function(f"DIALPLAN_EXISTS({context},{extension},1)") != "1":
            who = ", ".join(dict.fromkeys(names))
            said = f"context {context} has no extension {extension}, where {who} "
            cure = "write it, or take it out of [transfer] in the agent's file"
            if context in ("ari-bridge-join", QUEUES):
                cure = "take the present ari-bridge-extensions.conf in, and reload the dialplan"
            found.append(Finding("transfer", "fail", f"{said}transfers to", cure))
        elif context == QUEUES and not await _has_queue(call, extension):
            who = ", ".join(dict.fromkeys(names))
            said = f"Asterisk has no queue '{extension}', where {who} transfers to"
            cure = f"write it into queues.conf, and load {QUEUE_MODULE}"
            found.append(Finding("transfer", "fail", said, cure))
    if places and not found:
        told = ", ".join(f"{extension}@{context}" for context, extension in places)
        found.append(Finding("transfer", "ok", f"{told}: in the dialplan"))
    return found


async def _has_queue(call: TestCall, name: str) -> bool:
    try:
        return await call.function(f"QUEUE_EXISTS({name})") == "1"
    except PbxRefused:  # without app_queue there is no such function
        return False
