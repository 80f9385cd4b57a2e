"""The desk: gives orders to whichever worker can carry them out, and has calls placed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bridge import agent, outbound
from bridge.errors import ConfigError
from bridge.orders import new_call_id
from bridge.outbound import NotAllowed
from bridge.reconcile import takers
from bridge.sessions.model import Record
from bridge.sessions.orders import NotAnswered, NotTaken, Order, give
from bridge.sessions.outbound import OutboundBook, Reserved
from bridge.web.errors import Refused, not_found
from bridge.web.parts import Parts
from bridge.web.shapes import CallOrder

log = logging.getLogger(__name__)

T = TypeVar("T")

WITHIN_S = 10.0
"""So long a request waits: a takeover may be under way."""
_TRY_S, _AGAIN_S = 4.0, 0.2
_STATUS = {
    "forbidden": 403,
    "ended": 409,
    "refused": 409,
    "can-not-say": 409,
    "not-recorded": 409,
    "placed": 409,
    "not-ready": 503,
    "store-away": 503,
    "fault": 500,
}
_FOR_OTHERS = ("not-here", "not-ready")
"""Refusals that another worker may not have."""


class Desk:
    """One web process'."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._reader = parts, parts.reader
        self._book = OutboundBook(parts.reader.server)

    async def ask(self, call_id: str, verb: str, **arguments: Any) -> Mapping[str, Any]:
        """Have a call's owner do something with it; gives its answer.

        Raises:
            Refused: there is no such call, it has ended, or its owner refuses or doesn't answer.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + WITHIN_S
        while clock() < until:
            record = await self._reader.load(call_id)
            if record is None:
                raise not_found(f"there is no call '{call_id}', or it ended too long ago")
            if record.state == "ended":
                raise Refused(409, "ended", f"the call has ended: {record.result} {record.reason}")
            order, owner = Order(verb, call_id, arguments), record.worker

            async def still(owner: str = owner) -> bool:
                now = await self._reader.load(call_id)
                return now is not None and now.worker == owner and now.state != "ended"

            answer = await self._give(owner, order, until - clock(), still)
            if answer is not None and answer.get("error") not in _FOR_OTHERS:
                return _good(answer)
            await asyncio.sleep(_AGAIN_S)
        raise Refused(
            503, "no-worker", "the call's worker doesn't answer, and nobody has taken it over yet"
        )

    async def place(self, order: CallOrder, key: str) -> tuple[Record, bool]:
        """Have somebody called.

        Returns:
            The call's record, and whether it is a new call: a key that was used before gives the
            call that it was used for.

        Raises:
            Refused: the operator's rules don't allow it, a cap is reached, or nobody can.
        """
        arguments = self._checked(order)
        pbx = next(one for one in self._parts.config.asterisk if one.name == arguments["asterisk"])
        settings = self._parts.config.outbound
        fingerprint = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[
            :16
        ]
        reserved = await self._ask(
            self._book.reserve(
                *(pbx.call_of(new_call_id()), key, fingerprint),
                *(settings.max_calls, settings.max_per_minute),
            )
        )
        call_id = self._reserved(reserved, fingerprint)
        log.info("call %s: agent %s is to call %s", call_id, order.agent, arguments["to"])
        if reserved.what == "known" and (record := await self._reader.load(call_id)) is not None:
            return record, False
        try:
            await self._place(call_id, arguments)
        except Refused as refused:
            if refused.code != "unknown":  # else it may ring
                await self._ask(self._book.give_up(call_id, key))
            raise
        return await self._begun(call_id), reserved.what == "reserved"

    def _checked(self, order: CallOrder) -> dict[str, Any]:
        """The request, if the operator's rules allow it."""
        config = self._parts.config
        settings = config.outbound
        try:
            arguments = {
                "to": outbound.destination(settings, order.to),
                "agent": outbound.agent(settings, order.agent),
                "caller_id": outbound.caller_id(settings, order.caller_id),
                "variables": outbound.variables(order.variables),
                "timeout_s": outbound.ring_s(settings, order.timeout_s),
                "machine": order.machine,
                "asterisk": order.asterisk or settings.asterisk or config.asterisk[0].name,
            }
        except NotAllowed as error:
            raise Refused(403, "forbidden", str(error)) from None
        if arguments["asterisk"] not in [one.name for one in config.asterisk]:
            have = ", ".join(one.name or "one without a name" for one in config.asterisk)
            reason = f"no [[asterisk]] is named '{arguments['asterisk']}'; there is: {have}"
            raise Refused(400, "bad-request", reason)
        try:
            agent.load(Path(config.agents.folder), order.agent)
        except ConfigError as error:
            raise Refused(400, "bad-request", str(error)) from None
        return arguments

    def _reserved(self, reserved: Reserved, fingerprint: str) -> str:
        """The call's id. Raises `Refused`."""
        settings = self._parts.config.outbound
        match reserved.what:
            case "calls":
                raise Refused(
                    *(429, "too-many-calls"),
                    f"{settings.max_calls} calls are under way, as many as [outbound] max_calls "
                    "allows: wait for the end of one, or raise it",
                )
            case "rate":
                raise Refused(
                    *(429, "too-fast"),
                    f"[outbound] max_per_minute ({settings.max_per_minute}) is reached: again in "
                    f"{reserved.wait_s:.0f} s",
                )
            case "known" if reserved.fingerprint != fingerprint:
                reason = "this idempotency key was used for another request: take another key"
                raise Refused(409, "key-used", reason)
        return reserved.call_id

    async def _place(self, call_id: str, arguments: dict[str, Any]) -> None:
        """Have the least-loaded worker call; the next one, if it doesn't take the order."""
        members = await self._reader.members()
        able = sorted(takers(members.values()), key=lambda m: m.load)
        for member in able[:3]:
            order = Order("place", call_id, arguments)
            answer = await self._give(member.name, order, _TRY_S)
            if answer is None or answer.get("error") in _FOR_OTHERS:
                continue
            if answer.get("error") != "placed":  # by an earlier request of the same key
                _good(answer)
            return
        raise Refused(503, "no-worker", "no worker takes calls now: start 'ari-bridge run'")

    async def _begun(self, call_id: str) -> Record:
        """The call's record: its worker writes it at once."""
        clock = asyncio.get_running_loop().time
        until = clock() + _TRY_S
        while (record := await self._reader.load(call_id)) is None:
            if clock() > until:
                raise Refused(503, "unknown", f"whether call {call_id} was placed is not known yet")
            await asyncio.sleep(0.01)
        return record

    async def _give(
        self,
        worker: str,
        order: Order,
        within_s: float,
        *still: Callable[[], Awaitable[bool]],
    ) -> Mapping[str, Any] | None:
        """What a worker says to an order; None: nobody has begun with it, nor will."""
        try:
            return await self._ask(give(self._reader.server, worker, order, within_s, *still))
        except NotTaken:
            return None
        except NotAnswered:
            raise Refused(
                *(504, "unknown"),
                f"worker {worker} has begun with it and doesn't answer: look at the call itself",
            ) from None

    async def _ask(self, question: Awaitable[T]) -> T:
        return await self._reader.ask(question)


def _good(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if (code := answer.get("error")) is not None:
        raise Refused(_STATUS.get(str(code), 409), str(code), str(answer.get("reason", "")))
    return answer
