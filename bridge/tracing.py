"""Traces for OpenTelemetry: one a call, a span a turn.

Theory of operation. All that a trace tells is in the call's record when the call is over: when it
began, was answered and ended, and the stamps of each turn (`dialog.latency`), those before a
takeover included. So nothing is traced while people talk: whoever owns the call at its end makes
all of its spans, with the times at which things happened, in a thread beside the event loop, and
the SDK's own thread sends them. A collector that is slow or away costs spans, never audio.

The trace's id is made from the call's id, so each finds the other. What callers and agents say, the
keys that are pressed and who calls whom are in no span.

It is off, and the SDK isn't even loaded, unless `[telemetry] endpoint` or one of OpenTelemetry's
variables OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set. Its others
count as everywhere: OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER ...
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import bridge
from bridge import metrics
from bridge.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PATH = "/v1/traces"  # OTLP over HTTP: its specification's default
_CURE = "pip install 'ari-bridge[otel]'"
_FAILED = ("failed", "unknown-agent")
_MOST_WAITING = 200
"""Calls whose spans aren't made yet: more are left out (that thread can't get on at all)."""


@dataclass(frozen=True)
class TelemetrySettings:
    """Traces, by OpenTelemetry; figures are Prometheus' affair."""

    endpoint: str = field(default="", repr=False)
    """The collector, OTLP over HTTP, such as `http://127.0.0.1:4318`; takes the extra `otel`.
    Empty: what OTEL_EXPORTER_OTLP_ENDPOINT says, else no traces."""

    def __post_init__(self) -> None:
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError("'endpoint' takes http://… or https://…")


@dataclass(frozen=True)
class CallTrace:
    """A call that is over; times are seconds of the epoch, 0: it didn't happen."""

    call_id: str
    direction: str
    agent: str
    engine: str
    codec: str
    pbx: str
    result: str
    started: float
    answered: float
    ended: float
    turns: Sequence[Mapping[str, Any]]
    """As the call's record has them: `Stopwatch`."""


class Tracer:
    """What makes the spans, and the SDK that sends them."""

    def __init__(self, provider: TracerProvider, ids: Any) -> None:
        self._provider, self._ids = provider, ids
        self._tracer = provider.get_tracer("ari-bridge", bridge.__version__)
        self._maker = ThreadPoolExecutor(1, "tracing")
        self._room = threading.Semaphore(_MOST_WAITING)

    def call(self, one: CallTrace) -> None:
        """Have its spans made; returns at once."""
        if self._room.acquire(blocking=False):
            self._maker.submit(self._make, one).add_done_callback(self._made)

    def close(self) -> None:
        """Send what is left. Takes as long as the collector does."""
        self._maker.shutdown()
        self._provider.force_flush()
        self._provider.shutdown()

    def _made(self, done: Future[None]) -> None:
        self._room.release()
        if error := done.exception():
            log.error("a call's trace could not be made", exc_info=error)

    def _make(self, one: CallTrace) -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        self._ids.trace_id = trace_id(one.call_id)
        root = self._tracer.start_span(
            "call",
            kind=SpanKind.SERVER if one.direction == "in" else SpanKind.CLIENT,
            start_time=_ns(one.started),
            attributes={
                "ari_bridge.call.id": one.call_id,
                "ari_bridge.call.direction": one.direction,
                "ari_bridge.call.result": one.result if one.result in metrics.RESULTS else "other",
                "ari_bridge.agent": one.agent,
                "ari_bridge.engine": one.engine,
                "ari_bridge.codec": one.codec,
                "ari_bridge.pbx": one.pbx,
                "ari_bridge.turns": sum("voice_to_voice_ms" in turn for turn in one.turns),
            },
        )
        if one.answered:
            root.add_event("answered", timestamp=_ns(one.answered))
        inside = set_span_in_context(root)
        for turn in one.turns:
            stamps = sorted((at, name) for name, at in _stamps(turn).items())
            if not stamps:
                continue
            span = self._tracer.start_span(
                "turn" if any(name == "last_voice" for _, name in stamps) else "interruption",
                context=inside,
                start_time=_ns(stamps[0][0]),
                attributes=_attributes(turn),
            )
            for at, name in stamps:
                span.add_event(name, timestamp=_ns(at))
            span.end(_ns(stamps[-1][0]))
        if one.result in _FAILED:
            root.set_status(StatusCode.ERROR)
        root.end(_ns(one.ended))


_tracer: Tracer | None = None


def set_up(settings: TelemetrySettings, worker: str) -> None:
    """Trace from now on, if that is wanted.

    Raises:
        ConfigError: the SDK isn't installed.
    """
    global _tracer
    endpoint = settings.endpoint
    if not endpoint and not any(os.environ.get(name) for name in _VARIABLES):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        if endpoint:
            raise ConfigError(f"[telemetry] endpoint is set, and takes: {_CURE}") from None
        log.warning("no traces, though OTEL_EXPORTER_OTLP_ENDPOINT is set: %s", _CURE)
        return
    # Without one of ours the exporter looks at the variables itself.
    exporter = OTLPSpanExporter(endpoint.rstrip("/") + _PATH if endpoint else None)
    _tracer = make(exporter, worker)


def make(exporter: SpanExporter, worker: str) -> Tracer:
    """What sends to that exporter."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """A new trace's id is the one that was set: they are all made in one thread."""

        trace_id = 0

        def generate_trace_id(self) -> int:
            return self.trace_id

    ids = Ids()
    about = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or "ari-bridge",
        "service.version": bridge.__version__,
        "service.instance.id": worker,
    }
    # At our exit it would wait for a collector that is away; `close` knows for how long.
    provider = TracerProvider(
        resource=Resource.create(about),
        id_generator=ids,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracer(provider, ids)


def call_over(one: CallTrace) -> None:
    """A call of ours is over for everybody."""
    if _tracer is not None:
        _tracer.call(one)


async def close(within_s: float) -> None:
    """Send what is left, but wait no longer than that."""
    global _tracer
    if _tracer is None:
        return
    tracer, _tracer = _tracer, None
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def send() -> None:
        tracer.close()
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(done.set)

    # No thread of an executor's: at its exit the process would wait for that.
    threading.Thread(target=send, daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await done.wait()


def trace_id(call_id: str) -> int:
    """Of the call's trace: the first 128 bits of its id's SHA-256."""
    return int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:16], "big")


def _stamps(turn: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of the epoch; a row that doesn't say where its clock begins tells none."""
    since = turn.get("clock_s")
    return {} if since is None else {name: at + since for name, at in turn["at_s"].items()}


def _attributes(turn: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {"ari_bridge.turn": turn["turn"]}
    if "voice_to_voice_ms" in turn:
        found["ari_bridge.voice_to_voice_ms"] = turn["voice_to_voice_ms"]
    for key in ("path", "own", "interruption"):
        for name, ms in turn.get(f"{key}_ms", {}).items():
            found[f"ari_bridge.{key}.{name}_ms"] = ms
    return found


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
