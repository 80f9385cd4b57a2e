"""Who is dead: what is known, and what isn't while Redis is slow."""

import json

from bridge.sessions.members import BEAT_S, HOST_TTL_S, TTL_S, dead, last_heard, member, next_look_s


def one(name, idle_s, place="here", **said):
    about = {"place": place, "takes": True, **said}
    return member(name, (TTL_S - idle_s) * 1000, json.dumps(about))


def test_what_a_worker_says_of_itself():
    read = one("a", 0.5, started=2.0, load=3, active=2, kept=False)
    assert (read.alive, read.started, read.load, read.active) == (True, 2.0, 3, 2)
    assert (read.kept, read.place, read.idle_s) == (False, "here", 0.5)
    assert member("a", 1, "{}").takes is False
    assert member("a", 1, '{"from": "a newer version"}').kept is True
    assert not one("a", TTL_S + 0.1).alive
    assert not one("a", 0.0, left=True).alive


def test_a_lease_that_has_run_out():
    workers = [one("a", TTL_S + 0.1), one("b", 0.1)]
    assert dead(workers, "here", trusted_s=TTL_S) == ["a"]
    assert dead(workers, "here", trusted_s=TTL_S - 0.1) == [], "Redis was away a moment ago"


def test_who_leaves_says_so():
    assert dead([one("a", 0.0, left=True)], "elsewhere", trusted_s=0.0) == ["a"]


def test_a_host_is_dead_when_none_of_its_workers_is_heard_of():
    silent = HOST_TTL_S + 0.1
    host = [one("b1", silent, "there"), one("b2", silent + 1, "there")]
    assert dead(host, "here", trusted_s=HOST_TTL_S) == ["b1", "b2"]
    assert dead(host, "here", trusted_s=HOST_TTL_S - 0.1) == []
    assert dead(host, "there", trusted_s=TTL_S) == [], "of our own the media process tells"
    host[0] = one("b1", 0.1, "there")
    assert dead(host, "here", trusted_s=TTL_S) == [], "it is only held up"


def test_who_leaves_does_not_keep_its_host_alive():
    silent = HOST_TTL_S + 0.1
    host = [one("b1", 0.0, "there", left=True), one("b2", silent, "there")]
    assert dead(host, "here", trusted_s=HOST_TTL_S) == ["b1", "b2"]


def test_the_next_look_comes_when_a_host_would_be_dead():
    assert last_heard([one("a", 0.5), one("b", 0.25)]) == {"here": 0.25}
    assert next_look_s([one("a", 1.4)], "here") == BEAT_S
    assert abs(next_look_s([one("a", 1.4, "there")], "here") - 0.11) < 1e-6
    assert next_look_s([one("a", 9.0, "there")], "here") == BEAT_S
    assert next_look_s([one("a", 1.499, "there")], "here") == 0.05
