"""What is counted, and that a killed worker's counts stay."""

import os
import subprocess
import sys
import textwrap

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge import metrics
from bridge.dialog.latency import TurnLatency
from bridge.web import metrics as collected


@pytest.fixture
def meters(monkeypatch):
    monkeypatch.setattr(metrics, "_meters", None)
    return metrics.meters()


def value(meters, name, **labels):
    return meters.registry.get_sample_value(f"ari_bridge_{name}", labels)


def test_calls(meters):
    metrics.call_begun("in", taken_over=False)
    metrics.call_begun("in", taken_over=True)
    metrics.call_talks(0.06)
    metrics.call_ended("in", "hung-up", 42.0)
    metrics.call_ended("in", "what a caller's dialplan said", 1.0)
    assert value(meters, "calls_begun_total", direction="in") == 1
    assert value(meters, "takeovers_total") == 1
    assert value(meters, "call_setup_seconds_bucket", le="0.05") == 0
    assert value(meters, "call_setup_seconds_bucket", le="0.1") == 1
    assert value(meters, "calls_ended_total", direction="in", result="hung-up") == 1
    assert value(meters, "calls_ended_total", direction="in", result="other") == 1
    assert value(meters, "call_duration_seconds_sum") == 43


def test_turns_against_the_agents_budget(meters):
    for end in (1.9, 2.5):
        one = TurnLatency(1, last_voice=1.0, received=1.1, decided=1.5, first_packet=end)
        metrics.turn("demo", "offline", 1200, one.voice_to_voice_ms, one.path(), {})
    metrics.turn("demo", "offline", 1200, None, {}, {"paused": 40.0, "resumed": 300.0})
    assert value(meters, "turns_total", agent="demo") == 2
    assert value(meters, "turns_over_budget_total", agent="demo") == 1
    assert value(meters, "voice_to_voice_seconds_sum", engine="offline") == pytest.approx(2.4)
    assert value(meters, "turn_stage_seconds_sum", stage="silence") == pytest.approx(0.8)
    assert value(meters, "barge_in_seconds_count", reaction="paused") == 1
    assert value(meters, "barge_in_seconds_count", reaction="resumed") is None


def test_audio_is_counted_once(meters):
    ours = {"received": 0.0, "lost": 0.0, "concealed_ms": 0.0, "late_ms_p95": 12.0}
    meter = metrics.AudioMeter(ours)
    caller = {"received": 100.0, "lost": 2.0, "round_trip_ms": 40.0, "jitter_ms": 5.0}
    meter.count({**ours, "received": 500.0, "lost": 5.0, "concealed_ms": 100.0}, {})
    meter.count({**ours, "received": 900.0, "lost": 5.0, "concealed_ms": 100.0}, caller)
    assert value(meters, "audio_packets_received_total", leg="pbx") == 900
    assert value(meters, "audio_packets_lost_total", leg="pbx") == 5
    assert value(meters, "audio_packets_lost_total", leg="caller") == 2
    assert value(meters, "audio_concealed_seconds_total") == pytest.approx(0.1)
    # 12 late and 20 of a frame; with 40 / 2 + 5 of the caller's leg
    assert value(meters, "one_way_delay_seconds_sum") == pytest.approx(0.032 + 0.057)
    meter.count(ours, {**caller, "round_trip_ms": 65_000.0, "jitter_ms": 9e9})  # a phone's nonsense
    assert value(meters, "one_way_delay_seconds_sum") == pytest.approx(0.032 + 0.057 + 0.032)
    # Another worker takes the call over: what was counted counts no more.
    heir = metrics.AudioMeter({**ours, "received": 900.0, "lost": 5.0, "concealed_ms": 100.0})
    heir.count({**ours, "received": 950.0, "lost": 5.0, "concealed_ms": 100.0}, caller)
    heir.count({**ours, "received": 950.0, "lost": 5.0}, {**caller, "received": 130.0})
    assert value(meters, "audio_packets_received_total", leg="pbx") == 950
    assert value(meters, "audio_packets_received_total", leg="caller") == 130


def test_faults_are_counted_as_they_come(meters, monkeypatch):
    monkeypatch.setattr(metrics, "_told", type(metrics._told)())
    about = {"calls": 3, "ready": True, "redis": False, "asterisks": {"north": True}, "lag_s": 0.0}
    for count in (1, 1, 3):
        metrics.health(**about, faults={("echo", "lost"): count})
    assert value(meters, "engine_faults_total", engine="echo", kind="lost") == 3
    assert (value(meters, "calls"), value(meters, "redis_up")) == (3, 0)
    assert value(meters, "asterisk_up", asterisk="north") == 1


def test_names_are_as_prometheus_wants_them(meters):
    metrics.heard(20)
    for family in meters.registry.collect():
        assert family.name.startswith("ari_bridge_")
        assert family.documentation.endswith(".")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


WORKER = """
    import sys, time
    from pathlib import Path
    from bridge import metrics
    metrics.share(Path(sys.argv[1]))
    metrics.call_begun("in", taken_over=False)
    metrics.call_talks(0.05)
    metrics.health(calls=2, ready=True, redis=True, asterisks={"a": True}, faults={}, lag_s=0)
    print("counted", flush=True)
    time.sleep(60)
"""


def start(folder):
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(folder)], stdout=subprocess.PIPE
    )
    assert worker.stdout.readline() == b"counted\n"
    return worker


def sums(folder):
    found = collected.of_workers(metrics.folder(folder))
    return {sample.name: sample.value for one in found for sample in one.samples}


def test_the_killed_count_on_in_sums_and_not_in_what_is_now(tmp_path):
    workers = [start(tmp_path), start(tmp_path)]
    try:
        both = sums(tmp_path)
        workers[0].kill()
        workers[0].wait()
        one = sums(tmp_path)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            worker.stdout.close()
    assert (both["ari_bridge_calls_begun_total"], both["ari_bridge_calls"]) == (2, 4)
    assert (one["ari_bridge_calls_begun_total"], one["ari_bridge_calls"]) == (2, 2)
    assert one["ari_bridge_call_setup_seconds_count"] == 2
    assert one["ari_bridge_worker_ready"] == 1
    assert "ari_bridge_worker_ready" not in sums(tmp_path)


def test_many_dead_ones_are_put_together(tmp_path, monkeypatch):
    folder = metrics.folder(tmp_path)
    worker = start(tmp_path)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    before = sums(tmp_path)
    (counter,) = folder.glob("counter_*.db")
    (histogram,) = folder.glob("histogram_*.db")
    monkeypatch.setattr(metrics, "MOST_DEAD", 3)
    monkeypatch.setattr(metrics, "_lives", lambda pid: False)
    for pid in range(900_001, 900_004):
        for path in (counter, histogram):
            path.with_name(f"{path.name.split('_')[0]}_{pid}.db").write_bytes(path.read_bytes())
    for _ in range(2):  # putting together twice changes nothing
        after = sums(tmp_path)
        assert after["ari_bridge_calls_begun_total"] == 4 * before["ari_bridge_calls_begun_total"]
        assert after["ari_bridge_call_setup_seconds_count"] == 4
        assert sorted(p.name for p in folder.iterdir()) == [
            *("counter_dead.db", "histogram_dead.db", "lock")
        ]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(metrics.ConfigError, match="runtime_dir"):
        metrics.share(tmp_path / "file" / "x")
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_text_is_what_prometheus_reads(meters):
    from prometheus_client import generate_latest

    metrics.call_begun("in", taken_over=False)
    text = generate_latest(meters.registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "ari_bridge_calls_begun" in names
