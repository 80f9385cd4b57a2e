"""Where a call may be sent to, in an operator's words, and why it didn't get there.

    200             an extension of the context that is given beside
    200@internal    an extension of that context
    queue:sales     a queue (app_queue), by the fragment's context `ari-bridge-queue`
    sip:a@b.example a SIP URI, by a PJSIP endpoint that is given beside

An extension or a queue is reached by a Local channel that isn't optimised away (`/n`): the channel
that we made is the one that we know by name until its end.
"""

from __future__ import annotations

import re
from typing import Final

from bridge.errors import PbxRefused

QUEUES: Final = "ari-bridge-queue"
QUEUE_MODULE: Final = "app_queue.so"
# What may stand in a dialplan's context or extension, and nothing that its functions would parse.
DIALPLAN_WORD: Final = re.compile(r"[A-Za-z0-9_*#+.\-]{1,79}")
_SIP = re.compile(
    r"sips?:[A-Za-z0-9_.!~*'()&=+$,;?/%\-]+@[A-Za-z0-9.\-\[\]:]+(;[A-Za-z0-9=;.\-]*)?"
)
_ENDPOINT = re.compile(r"[A-Za-z0-9_.\-]{1,79}")

# Q.850 section 2.2.7, in words that complete "the call to X: ...".
_WHY: Final = {
    1: "there is no such number",
    3: "there is no such number",
    16: "it was not taken",
    17: "busy",
    18: "nobody answered",
    19: "nobody answered",
    20: "not reachable: its phone is not registered or away",
    21: "refused",
    22: "the number has changed",
    27: "not reachable: its phone is not registered or away",
    28: "there is no such number",
    31: "it was not taken",
    34: "all lines are busy",
    38: "the network is out of order",
    41: "the network failed",
    42: "all lines are busy",
    44: "all lines are busy",
    58: "no codec in common",
    65: "no codec in common",
    88: "no codec in common",
    127: "it failed beyond the PBX",
}


# The same of a queue, whose causes `ari-bridge-queue` gives.
_WHY_QUEUE: Final = {
    1: "there is no such queue",
    17: "the queue is full",
    20: "nobody serves the queue now",
}


def no_queue(name: str) -> str:
    """What is wrong with a queue that Asterisk doesn't have, and the cure."""
    return f"Asterisk has no queue '{name}': write it into queues.conf, and load {QUEUE_MODULE}"


def place_of(to: str, context: str) -> tuple[str, str] | None:
    """Extension and context that a destination leads to; None for a SIP URI.

    Raises:
        PbxRefused: that can't be a destination.
    """
    if to.startswith(("sip:", "sips:")):
        return None
    extension, at, where = to.partition("@")
    if to.startswith("queue:"):
        extension, where = to.removeprefix("queue:"), QUEUES
    elif not at:
        where = context
    if not (DIALPLAN_WORD.fullmatch(extension) and DIALPLAN_WORD.fullmatch(where)):
        raise PbxRefused(
            f"'{to}' can't be called: name an extension (200), one of another context "
            "(200@internal), a queue (queue:sales) or a SIP URI (sip:user@host)"
        )
    return extension, where


def endpoint_of(to: str, context: str, via: str = "") -> str:
    """What Asterisk dials.

    Args:
        to: the destination.
        context: where an extension without one is looked for.
        via: the PJSIP endpoint that SIP URIs are called by.

    Raises:
        PbxRefused: that can't be a destination.
    """
    place = place_of(to, context)
    if place is not None:
        return f"Local/{place[0]}@{place[1]}/n"
    if not _SIP.fullmatch(to):
        raise PbxRefused(f"'{to}' is no SIP URI: write sip:user@host")
    if not _ENDPOINT.fullmatch(via):
        raise PbxRefused(
            f"'{to}' can't be called without a PJSIP endpoint: name one in 'sip_endpoint'"
        )
    return f"PJSIP/{via}/{to}"


def why(cause: int, to: str = "") -> str:
    """Why a call to that destination was not answered, of its hang-up cause."""
    if to.startswith("queue:") and cause in _WHY_QUEUE:
        return _WHY_QUEUE[cause]
    return _WHY.get(cause, "not reachable" + (f" (cause {cause})" if cause else ""))
