"""Call records to a service of the operator's, each until it is taken.

    call ends ─▶ record in Redis, its id into a stream ─▶ any worker sends it ─▶ 2xx: off the stream
                                                              └─ else: again, ever more seldom

The stream (`ari-bridge:{records}:stream`) has one consumer group; each worker is a consumer. What a
worker took and didn't get rid of, because the service was away or the worker died, any other takes
up again. So a record comes at least once, and may come twice: `delivery` tells. After `GIVE_UP_S`
it is given up, with a line in the log.

Every request is signed (`Ari-Bridge-Signature: t=SECONDS,v1=HEX`): HMAC-SHA256 with the operator's
secret over "SECONDS.BODY" (RFC 2104), so that nobody else can send records, nor an old one again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from bridge.errors import StoreUnreachable
from bridge.sessions import export
from bridge.sessions.model import RECORDS, Line, Record
from bridge.sessions.reader import Reader
from bridge.sessions.settings import HistorySettings

log = logging.getLogger(__name__)

GROUP = "webhook"
SIGNATURE = "Ari-Bridge-Signature"
GIVE_UP_S = 3 * 86_400.0
_LOOK_S, _TIMEOUT_S = 1.0, 10.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 15.0, 900.0
"""Longer than a request may take: nobody else takes up what is being sent."""
_AT_ONCE = 5
"""So many new ones, and so many that are due again, are sent at the same time."""
_PAGE = 200
"""So many of those that wait are looked at in a round."""
Entry = tuple[str, Mapping[str, str]]


def body(record: Record, lines: Sequence[Line], delivery: str) -> dict[str, Any]:
    """What is sent of a call."""
    return {
        "event": "call.ended",
        "delivery": delivery,
        "call": about(record),
        "zero": export.zero(record),
        "transcript": [
            {
                "role": line.role,
                "text": line.text,
                "heard_ms": line.heard_ms,
                "cut": line.cut,
                "begin_ms": line.begin_ms,
                "end_ms": line.end_ms,
            }
            for line in export.place(record, lines)
        ],
    }


def about(record: Record) -> dict[str, Any]:
    """A call's record, without what is said."""
    return {
        "id": record.call_id,
        "direction": record.direction,
        "caller": record.caller,
        "dialed": record.dialed,
        "agent": record.agent,
        "engine": record.engine,
        "started": record.started,
        "answered": record.answered or None,
        "ended": record.ended or None,
        "seconds": round(max(0.0, (record.ended or record.started) - record.started), 3),
        "result": record.result,
        "reason": record.reason,
        "recorded": bool(record.recording),
        "latency": json.loads(record.latency or "[]"),
        "audio": json.loads(record.audio or "{}"),
    }


def signature(secret: str, text: bytes, at: int) -> str:
    """The header's value."""
    made = hmac.new(secret.encode(), f"{at}.".encode() + text, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}"


class Webhook:
    """One worker's part in it. `run` it until it is cancelled."""

    def __init__(self, settings: HistorySettings, reader: Reader, worker: str) -> None:
        """Take records off the stream under the worker's name."""
        self._settings, self._reader, self._worker = settings, reader, worker
        self._away = ""
        self._seen = ""
        """Of those that wait, the last that was looked at; empty: begin with the oldest."""

    async def run(self) -> None:
        """Send what comes."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            made = False
            while True:
                try:
                    made = made or await self._make_group()
                    busy = await self.round(session)
                except StoreUnreachable:  # the store says so itself; or Redis has come back empty
                    made = busy = False
                except Exception:  # the webhook's boundary: other records are still to be sent
                    log.exception("a fault of ours while sending call records; trying again")
                    busy = False
                if not busy:
                    await asyncio.sleep(_LOOK_S)

    async def round(self, session: aiohttp.ClientSession) -> bool:
        """Send what is new and what is due again; returns whether there may be more of it."""
        fresh, due = await self._fresh(), await self._due()
        sent = [self._deliver(session, entry) for entry in [*fresh, *due]]
        for fault in await asyncio.gather(*sent, return_exceptions=True):
            if fault is not None:
                raise fault
        return bool(fresh) or len(due) == _AT_ONCE

    async def _deliver(self, session: aiohttp.ClientSession, entry: Entry) -> None:
        delivery, fields = entry
        why = await self._tell(session, delivery, fields.get("call_id", ""))
        if why:
            if why != self._away:
                log.warning("the webhook doesn't take call records: %s; trying again", why)
            self._away = why
            if time.time() - int(delivery.partition("-")[0]) / 1000 < GIVE_UP_S:
                return
            log.error("a call's record was never taken by the webhook: %s", fields)
        elif why is not None and self._away:
            self._away = ""
            log.info("the webhook takes call records again")
        stream = self._reader.server
        await self._reader.ask(stream.xack(RECORDS, GROUP, delivery))
        await self._reader.ask(stream.xdel(RECORDS, delivery))

    async def _tell(
        self, session: aiohttp.ClientSession, delivery: str, call_id: str
    ) -> str | None:
        """Empty if it was taken, else why it wasn't; None: there is nothing to tell."""
        try:
            record = await self._reader.load(call_id) if call_id else None
            if record is None or record.state != "ended":
                return None  # it was erased, has expired, or goes on with another worker
            lines = await self._reader.transcript(call_id)
            return await self._send(session, body(record, lines, delivery))
        except StoreUnreachable:
            raise
        except Exception as error:  # one record's boundary: it waits as if nobody had taken it
            log.exception("call %s: its record can't be sent", call_id)
            return f"a fault of ours ({type(error).__name__})"

    async def _send(self, session: aiohttp.ClientSession, what: Mapping[str, Any]) -> str:
        """Empty if it was taken; else why it wasn't."""
        text = json.dumps(what, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        if self._settings.webhook_secret:
            headers[SIGNATURE] = signature(self._settings.webhook_secret, text, int(time.time()))
        try:
            async with session.post(
                self._settings.webhook_url, data=text, headers=headers, allow_redirects=False
            ) as answer:
                return "" if 200 <= answer.status < 300 else f"it answers {answer.status}"
        except TimeoutError:
            return f"no answer within {_TIMEOUT_S:g} s"
        except aiohttp.ClientError as error:
            return " ".join(str(error).split()) or type(error).__name__

    # The stream -----------------------------------------------------------------------------------

    async def _make_group(self) -> bool:
        try:
            await self._reader.ask(
                self._reader.server.xgroup_create(RECORDS, GROUP, "0", mkstream=True)
            )
        except StoreUnreachable as error:
            if "BUSYGROUP" not in str(error):
                raise
        return True

    async def _fresh(self) -> list[Entry]:
        """What nobody has taken yet."""
        answer = await self._reader.ask(
            self._reader.server.xreadgroup(GROUP, self._worker, {RECORDS: ">"}, count=_AT_ONCE)
        )
        return [(i, fields) for _, entries in answer or () for i, fields in entries]

    async def _due(self) -> list[Entry]:
        """What was taken, not got rid of, and has waited long enough since."""
        stream = self._reader.server
        waiting = await self._reader.ask(
            stream.xpending_range(
                *(RECORDS, GROUP),
                min=f"({self._seen}" if self._seen else "-",
                max="+",
                count=_PAGE,
                idle=int(_FIRST_WAIT_S * 1000),
            )
        )
        due: list[Entry] = []
        for row in waiting:
            if len(due) == _AT_ONCE:
                return due
            self._seen = row["message_id"]
            times, idle_ms = int(row["times_delivered"]), int(row["time_since_delivered"])
            wait_ms = int(min(_FIRST_WAIT_S * 2 ** min(times - 1, 16), _LONGEST_WAIT_S) * 1000)
            if idle_ms < wait_ms:
                continue
            # Whoever claims it first has it: for another's claim it hasn't waited any more.
            claimed: list[Entry] = await self._reader.ask(
                stream.xclaim(RECORDS, GROUP, self._worker, wait_ms, [row["message_id"]])
            )
            due += [(i, fields) for i, fields in claimed if fields]
        if len(waiting) < _PAGE:
            self._seen = ""
        return due
