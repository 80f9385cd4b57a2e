import os

from bridge import cli


def test_a_worker_a_core_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 4, 5})
    parser = cli._parser()
    assert parser.parse_args(["run"]).workers == 3
    assert parser.parse_args(["run", "--workers", "1"]).workers == 1
