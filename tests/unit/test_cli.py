import os

import pytest

from bridge import cli


@pytest.mark.parametrize(
    ("cores", "words", "crew"),
    [
        ({1, 4, 5}, [], (2, 1)),
        ({1, 4}, [], (1, 1)),
        ({4}, [], (1, 0)),
        ({1, 4, 5}, ["--spares", "0"], (2, 0)),
        ({1, 4, 5}, ["--workers", "3"], (3, 0)),
        ({1, 4, 5}, ["--workers", "1", "--spares", "2"], (1, 2)),
    ],
)
def test_a_core_stays_free_of_workers_unless_told_otherwise(monkeypatch, cores, words, crew):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    options = cli._parser().parse_args(["run", *words])
    assert cli.crew(options.workers, options.spares) == crew
