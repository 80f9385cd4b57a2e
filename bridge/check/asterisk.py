"""Asterisk: reached, of a version, with rights and modules that calls need."""

from __future__ import annotations

import time

from bridge.check.finding import Finding
from bridge.errors import PbxError
from bridge.pbx.ari import Ari
from bridge.pbx.settings import AsteriskSettings

_MODULES: dict[str, str] = {
    "app_stasis.so": "the dialplan can't hand calls over",
    "bridge_simple.so": "nobody hears anybody",
    "bridge_softmix.so": "a mixing bridge can't be made",
    "chan_rtp.so": "there is no external media",
    "func_cdr.so": "each call makes a call detail record for its external media, too",
    "func_channel.so": "the caller's codec isn't known, so everything is transcoded",
    "func_dialplan.so": "no transfer: extensions can't be looked up",
    "func_timeout.so": "nobody ends a call if everything of ours dies",
    "res_ari_applications.so": "events can't be had",
    "res_ari_bridges.so": "a mixing bridge can't be made",
    "res_ari_channels.so": "a call can't be answered",
    "res_ari_events.so": "events can't be had",
    "res_rtp_asterisk.so": "there is no RTP",
    "res_stasis.so": "the dialplan can't hand calls over",
    "res_stasis_answer.so": "a call can't be answered",
}
"""What a call needs, and what fails without."""
_BY_WEBSOCKET: dict[str, str] = {
    "chan_websocket.so": 'no audio with media_transport = "websocket"',
    "res_http_websocket.so": "events and audio can't be had",
}
"""Instead of `chan_rtp.so`, where a WebSocket carries audio."""
_WORKS_WITHOUT = ("func_cdr.so", "func_channel.so", "func_timeout.so")


async def findings(ari: Ari, settings: AsteriskSettings) -> list[Finding]:
    """Open `ari`, and look. It is open where none has failed."""
    try:
        await ari.open()
    except PbxError as error:
        return [Finding("asterisk", "fail", *_cut(str(error)))]
    try:
        begun = time.monotonic()
        await ari.call("asterisk.getInfo", only="status")
        took_ms = (time.monotonic() - begun) * 1000
        said = f"{ari.version} at {settings.url}, user '{settings.username}' may write; "
        told = {"answer_ms": round(took_ms, 1)}
        found = [Finding("asterisk", "ok", f"{said}answers in {took_ms:.0f} ms", "", told)]
        if took_ms > 100:
            why = "a call's set-up asks some ten times: bring the two nearer to each other"
            found = [Finding("asterisk", "warn", f"{said}answers in {took_ms:.0f} ms", why, told)]
        return [*found, await _modules(ari, settings)]
    except PbxError as error:
        return [Finding("asterisk", "fail", *_cut(str(error)))]


async def _modules(ari: Ari, settings: AsteriskSettings) -> Finding:
    needed = _MODULES
    if settings.media_transport == "websocket":
        needed = {n: why for n, why in _MODULES.items() if n != "chan_rtp.so"} | _BY_WEBSOCKET
    listed = await ari.call("asterisk.listModules")
    running = {one["name"] for one in listed if one.get("status", "Running") == "Running"}
    missing = [name for name in needed if name not in running]
    if not missing:
        return Finding("modules", "ok", f"all {len(needed)} that calls need are running")
    said = "; ".join(f"{name} isn't running: {needed[name]}" for name in missing)
    harmless = all(name in _WORKS_WITHOUT for name in missing)
    first = missing[0]
    return Finding(
        *("modules", "warn" if harmless else "fail", said),
        f"no 'noload = {first}' in its modules.conf, then asterisk -rx 'module load {first}'",
    )


def _cut(text: str) -> tuple[str, str]:
    """What is wrong, and the cure behind it, of one of our errors."""
    said, _, cure = text.partition(": ")
    return (said, cure) if cure else (text, "")
