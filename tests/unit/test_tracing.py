"""Traces, told by the SDK's own exporter in memory, and by what a collector gets."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from bridge import tracing
from bridge.dialog.turns import AgentPaused, AgentResumed, TurnCommitted
from bridge.engines.base import Timing
from bridge.errors import ConfigError
from bridge.stopwatch import Stopwatch
from bridge.tracing import CallTrace, TelemetrySettings
from tests.lab.collector import Collector


def two_turns() -> list[dict[str, object]]:
    """One that was answered and one interruption that was none, as the stopwatch writes them."""
    now = [1.0]
    watch = Stopwatch(lambda text: None, clock=lambda: now[0])
    watch.arrived(1000)
    now[0] = 2.0
    watch.acted(TurnCommitted(1, 0, 900), 1)
    watch.timed(Timing(1, transcript=2.1, first_token=2.2, first_audio=2.3))
    now[0] = 2.4
    watch.sent(20)
    now[0] = 3.0
    watch.acted(AgentPaused(2000), 2)
    now[0] = 3.5
    watch.acted(AgentResumed(2500), 2)
    rows = watch.rows
    return [{**row, "clock_s": 1_700_000_000.0} for row in rows]


ONE = CallTrace(
    call_id="asterisk-1700000000.1",
    direction="in",
    agent="demo",
    engine="offline",
    codec="PCMU",
    pbx="",
    result="hung-up",
    started=1_700_000_000.5,
    answered=1_700_000_000.6,
    ended=1_700_000_004.0,
    turns=two_turns(),
)


def spans(one: CallTrace):
    exporter = InMemorySpanExporter()
    tracer = tracing.make(exporter, "worker-1")
    tracer.call(one)
    tracer.close()
    return exporter.get_finished_spans()


def test_a_call_is_a_trace_and_a_turn_a_span():
    turn, pause, call = spans(ONE)
    assert [span.name for span in (turn, pause, call)] == ["turn", "interruption", "call"]
    assert {span.context.trace_id for span in (turn, pause, call)} == {
        tracing.trace_id("asterisk-1700000000.1")
    }
    assert call.parent is None
    assert turn.parent.span_id == pause.parent.span_id == call.context.span_id
    assert call.kind is SpanKind.SERVER
    assert (call.start_time, call.end_time) == (1_700_000_000_500_000_000, 1_700_000_004 * 10**9)
    assert [event.name for event in call.events] == ["answered"]
    assert call.attributes["ari_bridge.call.id"] == "asterisk-1700000000.1"
    assert call.attributes["ari_bridge.turns"] == 1
    assert call.resource.attributes["service.instance.id"] == "worker-1"


def test_a_turn_tells_its_stages():
    turn, pause, _ = spans(ONE)
    names = [event.name for event in turn.events]
    stages = ["last_voice", "received", "decided", "transcript", "first_token", "first_audio"]
    assert names == [*stages, "first_packet"]
    assert turn.attributes["ari_bridge.voice_to_voice_ms"] == 1500.0
    paths = {k: v for k, v in turn.attributes.items() if k.startswith("ari_bridge.path.")}
    assert round(sum(paths.values())) == 1500
    assert (turn.start_time, turn.end_time) == (turn.events[0].timestamp, turn.events[-1].timestamp)
    assert turn.end_time - turn.start_time == pytest.approx(1.5e9, abs=1e6)
    assert turn.start_time == pytest.approx(1_700_000_000.9e9, abs=1e6)
    assert pause.attributes["ari_bridge.interruption.resumed_ms"] > 0


def test_a_call_that_failed_is_an_error_and_one_of_ours_a_client():
    failed = dataclasses.replace(ONE, result="failed", direction="out", answered=0.0, turns=())
    (call,) = spans(failed)
    assert call.status.status_code is StatusCode.ERROR
    assert call.kind is SpanKind.CLIENT
    assert not call.events


def test_nobodys_words_become_a_result():
    (call,) = spans(dataclasses.replace(ONE, result="he said 1234", turns=()))
    assert call.attributes["ari_bridge.call.result"] == "other"


def test_a_row_of_another_version_is_left_out():
    rows = [{name: row[name] for name in row if name != "clock_s"} for row in ONE.turns]
    assert [span.name for span in spans(dataclasses.replace(ONE, turns=rows))] == ["call"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(autouse=True)
def _off(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tracing, "_tracer", None)


async def traced(settings: TelemetrySettings) -> None:
    tracing.set_up(settings, "worker-1")
    tracing.call_over(ONE)
    await tracing.close(20.0)


@pytest.mark.parametrize("by", ["settings", "environment"])
async def test_a_collector_gets_them(collector, monkeypatch, by):
    if by == "environment":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    await traced(TelemetrySettings(collector.url if by == "settings" else ""))
    ((path, _),) = collector.got
    assert path == "/v1/traces"
    found = collector.spans()
    assert [span.name for span in found] == ["turn", "interruption", "call"]
    assert {span.trace_id.hex() for span in found} == {f"{tracing.trace_id(ONE.call_id):032x}"}


async def test_nothing_is_loaded_unless_it_is_asked_for():
    script = (
        "import sys; from bridge import tracing; "
        "tracing.set_up(tracing.TelemetrySettings(), 'w'); "
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await process.wait() == 0


def test_without_the_sdk_the_error_names_the_extra(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"\[telemetry\] endpoint .*ari-bridge\[otel\]"):
        tracing.set_up(TelemetrySettings("http://127.0.0.1:4318"), "w")
    # It may be set for every program of a cluster: then calls matter more.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    tracing.set_up(TelemetrySettings(), "w")
    assert "ari-bridge[otel]" in caplog.text


async def test_what_never_gets_on_holds_nobody_up():
    silent = threading.Event()
    tracer = tracing.make(InMemorySpanExporter(), "w")
    tracer._maker.submit(silent.wait)
    tracing._tracer = tracer
    for _ in range(1000):
        tracing.call_over(ONE)
    assert tracer._maker._work_queue.qsize() <= tracing._MOST_WAITING
    await tracing.close(0.01)
    silent.set()
    tracer.close()


def test_an_endpoint_is_an_url():
    with pytest.raises(ValueError, match="http://"):
        TelemetrySettings("localhost:4318")
