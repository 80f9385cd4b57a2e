"""What is told of a call as a whole, when it begins, talks and ends: record, figures, trace, log.

The session store, the metrics, the trace and the log each get their own words for the same few
facts, which are kept here: whose agent it was, when it began and was answered, what came of it. A
call that goes on at another worker isn't over: only its last owner tells of its end.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence

from bridge import metrics, tracing
from bridge.pbx.base import Incoming
from bridge.sessions.base import Store
from bridge.sessions.model import Record
from bridge.stages import Stages
from bridge.tools import Outcome

log = logging.getLogger(__name__)


class CallRecord:
    """One call's."""

    def __init__(
        self, incoming: Incoming, worker: str, store: Store, before: Record | None
    ) -> None:
        """It is ours now; `before`: what another process wrote down of it."""
        self._id, self._store = incoming.call_id, store
        self._direction = "in" if incoming.outgoing is None else "out"
        self._began = time.monotonic()
        self.stages = Stages(incoming.came_s)
        """How long its set-up took."""
        self.stages.mark("handed over")
        self.agent = before.agent if before else (*incoming.args, "")[0]
        """Its name."""
        self.engine = ""
        """The agent's."""
        self._started = before.started if before else time.time()
        self._answered = before.answered if before else 0.0
        metrics.call_begun(self._direction, taken_over=before is not None)
        if before is None:
            store.begin(self._id)
            store.put(self._id, **about(incoming, worker))

    def talks(self, rate: int) -> None:
        """The caller hears the agent from now on, whose engine speaks at `rate` Hz."""
        self._answered = time.time()
        self._store.put(self._id, state="talking", answered=self._answered, rate=rate)
        metrics.call_talks(time.monotonic() - self._began)

    def over(
        self, incoming: Incoming, outcome: Outcome, turns: Sequence[dict[str, object]]
    ) -> None:
        """It has ended; `turns`: how long each of them took."""
        log.info("call ended: %s %s", outcome.result, outcome.reason)
        now = time.time()
        if not outcome.elsewhere and self._store.owns(self._id):
            self._log(incoming, outcome, now)
            metrics.call_ended(self._direction, outcome.result, max(0.0, now - self._started))
            tracing.call_over(
                tracing.CallTrace(
                    call_id=self._id,
                    direction=self._direction,
                    agent=self.agent,
                    engine=self.engine,
                    codec=incoming.codec,
                    pbx=incoming.pbx,
                    result=outcome.result,
                    started=self._started,
                    answered=self._answered,
                    ended=now,
                    turns=turns,
                )
            )
        self._store.put(
            self._id, state="ended", ended=now, result=outcome.result, reason=outcome.reason
        )

    def _log(self, incoming: Incoming, outcome: Outcome, now: float) -> None:
        """One line for whoever collects call records from the log."""
        table = {
            "id": self._id,
            "caller": incoming.caller_number,
            "dialed": incoming.dialed,
            "agent": self.agent,
            "started": round(self._started, 3),
            "answered": round(self._answered, 3) if self._answered else None,
            "ended": round(now, 3),
            "seconds": round(now - self._started, 3),
            "result": outcome.result,
            "reason": outcome.reason,
            "setup_ms": self.stages.ms,
        }
        log.info("call record %s", json.dumps(table, ensure_ascii=False))


def about(incoming: Incoming, worker: str) -> dict[str, str | float]:
    """What a new call's record begins with."""
    record: dict[str, str | float] = {
        "worker": worker,
        "state": "setup",
        "started": time.time(),
        "pbx": incoming.pbx,
        "caller": incoming.caller_number,
        "dialed": incoming.dialed,
        "codec": incoming.codec,
        "agent": incoming.args[0] if incoming.args else "",
        "variables": json.dumps(incoming.args[1:]),
    }
    if (out := incoming.outgoing) is not None:
        record |= {
            "direction": "out",
            "caller_id": out.caller_id,
            "order": json.dumps(dataclasses.asdict(out)),
        }
    return record
