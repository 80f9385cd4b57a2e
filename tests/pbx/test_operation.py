"""What an operator does, and what callers notice of it: nothing. Real calls, on one stage.

Two Asterisks, one bridge of two workers, and the drill's agents, whose every sentence is a tone.
The tests go on where the one before left the stage; the last ones kill what serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import redis as redis_client

from bridge.keeper import somebody_stands_by
from tests.drill import engine
from tests.drill.callers import Callers
from tests.drill.judge import Call
from tests.drill.rounds import SHORT
from tests.drill.stage import Options, Stage
from tests.lab import sipp
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge, asterisk
from tests.lab.root import REPOSITORY, LabError
from tests.lab.versions import MOOD, is_neighbour, neighbour

PATIENCE_S = 20.0
PRESS_EVERY_S = 0.4
UNNOTICED_MS = 500
"""Far more than a hand-over takes, far less than a caller who is lost misses."""
KEY = 2
NEW_HZ = 1500


class Site(Stage):
    """A stage with a second Asterisk."""

    def prepare(self, started: contextlib.ExitStack) -> None:
        self._code = Path(self.environment[engine.TASKS_FOLDER]) / "bridge"
        self.install(REPOSITORY / "bridge")
        self.second = started.enter_context(Asterisk())
        self.made["asterisk"] = [
            asterisk(self.stack.pbx, name="one"),
            asterisk(self.second, name="two"),
        ]

    def install(self, package: Path) -> None:
        """What starts from now on runs this version of the program."""
        new = self._code.with_suffix(".new")
        new.symlink_to(package)
        new.rename(self._code)

    def complete(self) -> bool:
        """Whether nobody is missing: who died has a successor."""
        takers = {int(name.split("-")[-2]) for name in self.stack.takers()}
        try:
            self.bridge.serving()  # who has the port stands by no more
        except LabError:
            return False
        return (
            len(takers) == 2
            and takers == set(self.bridge.children("worker"))
            and somebody_stands_by(self.bridge.runtime_dir)
        )

    def record(self, number: int) -> dict[str, str]:
        """What Redis holds of that caller's call."""
        url = self.stack.redis.url
        with redis_client.Redis.from_url(url, decode_responses=True) as server:
            for key in server.scan_iter("ari-bridge:*:call"):
                record: dict[str, str] = server.hgetall(key)
                if record.get("caller") == str(number):
                    return record
        return {}

    def owner(self, number: int) -> int:
        """The process that owns that caller's call."""
        return self.stack.owner(self.record(number)["call_id"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site("operation", Options(out=tmp_path_factory.mktemp("operation"))) as site:
        yield site


def wait(true: Callable[[], object], what: str, step: Callable[[], None] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        if step:
            step()
        else:
            time.sleep(0.02)


class Talk:
    """Callers who stay, and what they hear."""

    def __init__(self, site: Site, count: int, number: int) -> None:
        self._site, self._number = site, number
        self.callers = Callers(site.stack.pbx, [SHORT], count, 120.0, number=number)
        self._capture = self.callers.capture(site.options.out / f"{number}.pcap")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._capture)
        self._stack.enter_context(self.callers)
        try:
            self.wait(lambda: self.callers.answered() == self.callers.count, "all are answered")
            self.wait(
                lambda: all(
                    self._site.record(n).get("state") == "talking"
                    for n in range(self._number, self._number + self.callers.count)
                ),
                "all is written down",
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.callers.hang_up()
        self.callers.finished(5.0)
        self._stack.close()

    def wait(self, true: Callable[[], object], what: str) -> None:
        wait(true, what, lambda: self.callers.pump(0.05))

    def answers(self, n: int = 0) -> float:
        """Press a key until it is answered, as people do; how long that took, s."""
        began, pressed = time.time(), 0.0
        hz = engine.hz_of_key(KEY)

        def press() -> None:
            nonlocal pressed
            if time.time() - pressed > PRESS_EVERY_S:
                pressed = time.time()
                self.callers.press(n, KEY)
            self.callers.pump(0.02)

        wait(lambda: self.callers.heard(n, hz, began), "a key is answered", press)
        return time.time() - began

    def heard(self, n: int = 0) -> Call:
        """What that caller's phone received so far."""
        port = self.callers.port(n)
        return Call([p for p in self._capture.packets if p.port == port and not p.sent])


def ended(pid: int) -> bool:
    """Whether that process is over: it has no command line any more before it lets go of locks."""
    return not Path(f"/proc/{pid}").exists()


def longest_gap_ms(heard: Call, since: float) -> float:
    """Until the last packet that was looked at: looking takes a while, and he has had an answer."""
    return heard.gap_ms(since, heard.ended_at)


def greeted_hz(pbx: Asterisk) -> float:
    call = sipp.call(pbx, SHORT, hang_up_after_s=0.6)
    assert call.answered, call.said
    return round(call.loudest_hz(), -1)


async def test_one_bridge_serves_two_asterisks(site: Site) -> None:
    heard = await asyncio.gather(
        *(asyncio.to_thread(greeted_hz, pbx) for pbx in (site.stack.pbx, site.second))
    )
    assert heard == [engine.GREETING_HZ[1]] * 2
    assert [pbx.wait_idle() for pbx in (site.stack.pbx, site.second)] == [[], []]
    with redis_client.Redis.from_url(site.stack.redis.url, decode_responses=True) as server:
        keys = server.scan_iter("ari-bridge:*:call")
        assert sorted(server.hget(key, "pbx") or "" for key in keys) == ["one", "two"]


def test_a_worker_that_is_told_to_stop_hands_its_calls_over(site: Site) -> None:
    with Talk(site, 2, 200) as talk:
        leaving, name = site.owner(200), site.record(200)["worker"]
        moves = [n for n in (200, 201) if site.record(n)["worker"] == name]
        began = time.time()
        os.kill(leaving, signal.SIGTERM)
        with Talk(site, 1, 210):  # who calls meanwhile is answered, by another
            assert site.record(210)["worker"] != name
        talk.wait(lambda: ended(leaving), "it has ended")
        assert name not in site.stack.takers(), "it takes no calls any more"
        assert site.record(200)["worker"] == site.record(201)["worker"] != name
        for n in range(2):
            talk.answers(n)
        for n in range(2):
            assert longest_gap_ms(talk.heard(n), began) < UNNOTICED_MS
            assert not talk.heard(n).two_voices()
    told = site.records.take([200, 201])
    assert [n for n in (200, 201) if "taken over" in told[n].events] == moves
    site.ready()  # the launcher has started another
    assert not any(site.leftovers.find().values())


def reload(site: Site, says: str) -> None:
    """SIGHUP to the launcher, who tells the workers."""
    before = site.bridge.log().count(says)
    os.kill(site.bridge.pid, signal.SIGHUP)
    wait(lambda: site.bridge.log().count(says) >= before + 2, f"both say {says!r}")


def test_agents_and_settings_are_read_again_and_what_is_broken_changes_nothing(site: Site) -> None:
    agent = Path(str(site.made["agents"]["folder"])) / "echo.toml"  # type: ignore[index, call-overload]
    was = agent.read_text()
    old, new = (engine.sentence(hz, long=False) for hz in (engine.GREETING_HZ[1], NEW_HZ))
    agent.write_text(was.replace(old, new))
    reload(site, "settings reloaded")
    assert greeted_hz(site.stack.pbx) == NEW_HZ

    agent.write_text(was.replace('"\n', "\n"))
    reload(site, "agent 'echo' stays as it was")
    [said] = {
        line.partition("ERROR")[2]
        for line in site.bridge.log().splitlines()
        if "stays as it was" in line
    }
    assert str(agent) in said

    config = site.bridge.directory / "bridge.toml"
    settings = config.read_text()
    config.write_text("[media\n")
    reload(site, f"not reloaded: {config} is no TOML")
    config.write_text(settings)
    assert greeted_hz(site.stack.pbx) == NEW_HZ, "as it was before it was broken"
    agent.write_text(was)


def test_two_versions_of_the_program_hand_calls_to_each_other(site: Site, tmp_path: Path) -> None:
    """An upgrade of a site that serves, one process at a time, and then the way back."""
    theirs, calls = neighbour(tmp_path), range(500, 502)

    def all_of(them: bool) -> bool:
        return all(is_neighbour(site.record(n)["worker"]) is them for n in calls)

    def replace(talk: Talk, workers_end_by: signal.Signals) -> None:
        """Workers first: each version's talk to a media process of the other meanwhile."""
        for pid in site.bridge.children("worker"):
            os.kill(pid, workers_end_by)
            talk.wait(lambda pid=pid: ended(pid), "it has ended")
            talk.wait(site.complete, "another has come")
        for pid in site.bridge.children("media"):  # who serves and who stands by
            os.kill(pid, signal.SIGKILL)
            talk.wait(lambda pid=pid: ended(pid), "it has died")
            talk.wait(site.complete, "another stands by")

    def judge(talk: Talk, began: float) -> None:
        for n in range(2):
            talk.answers(n)
            heard = talk.heard(n)
            assert longest_gap_ms(heard, began) < UNNOTICED_MS
            assert not heard.two_voices()
            assert heard.heard_ms(engine.GREETING_HZ[1]) <= engine.SHORT_MS + 220

    try:
        with Talk(site, 2, 500) as talk:
            assert all_of(False)
            began = time.time()
            site.install(theirs)
            replace(talk, signal.SIGTERM)
            assert all_of(True), "the older version's calls are the newer's"
            assert all(site.record(n)["mood"] == MOOD for n in calls)
            judge(talk, began)
        site.records.take(calls)
        # Without calls a media process makes slots of its own version.
        os.kill(site.bridge.serving(), signal.SIGKILL)
        wait(site.complete, "its heir serves")
        with Talk(site, 2, 500) as talk:
            assert all_of(True)
            began = time.time()
            site.install(REPOSITORY / "bridge")
            replace(talk, signal.SIGKILL)
            assert all_of(False), "the newer version's calls are the older's"
            assert all(site.record(n)["mood"] == MOOD for n in calls), "what we don't know is kept"
            assert all(json.loads(site.record(n)["progress"])["mood"] == MOOD for n in calls)
            judge(talk, began)
    finally:
        site.install(REPOSITORY / "bridge")
    told = site.records.take(calls)
    assert all("taken over" in told[n].events for n in calls)
    os.kill(site.bridge.serving(), signal.SIGKILL)
    wait(site.complete, "its heir serves")
    assert not any(site.leftovers.find().values())


def test_another_host_takes_over_when_all_of_one_is_killed(site: Site) -> None:
    """Two bridges with a media process each stand for two hosts."""
    other = Bridge(
        *(site.stack.pbx, site.stack.redis),
        settings=site.made,
        options=("--workers", "1"),
        environment=site.environment,
    )
    with Talk(site, 1, 300) as talk:
        with other:
            wait(lambda: len(site.stack.takers()) == 3, "the other host is there")
            struck = time.time()
            bridge = site.bridge
            for pid in [bridge.pid, *bridge.children("worker"), *bridge.children("media")]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            talk.answers()
            record = site.record(300)
            assert record["media_address"] == f"127.0.0.1:{other.media_port}"
            assert int(record["worker"].rsplit("-", 2)[1]) in other.children("worker")
            media = [c for c in site.stack.pbx.channels() if "UnicastRTP" in c]
            assert len(media) == 1, "the dead host's external media is gone"
            assert talk.heard().ended_at > struck
            bridge.kill()
            bridge.start()  # a host that comes back
            wait(lambda: len(site.stack.takers()) == 3, "it has come back")
            talk.answers()
            left = time.time()
        talk.wait(lambda: len(site.stack.takers()) == 2, "the other host has left")
        talk.answers()  # and has handed its call over
        assert longest_gap_ms(talk.heard(), left) < 2 * UNNOTICED_MS
    told = site.records.take([300])
    assert told[300].events.count("taken over") == 2
    assert site.stack.pbx.wait_idle() == []


def test_without_takeover_a_dead_workers_calls_are_nobodys(site: Site) -> None:
    """What shows that the other tests would see it."""
    config = site.bridge.directory / "bridge.toml"
    config.write_text(config.read_text().replace("takeover = true", "takeover = false"))
    site.bridge.restart()
    wait(lambda: len(site.stack.takers()) == 2, "both workers are there")
    with Talk(site, 1, 400) as talk:
        struck = time.time()
        name = site.record(400)["worker"]
        os.kill(site.owner(400), signal.SIGKILL)
        talk.callers.press(0, KEY)
        # Longer than a lease, and than the grace after which anybody would take it.
        talk.callers.pump(6.0)
        assert site.record(400)["worker"] == name
        assert not talk.callers.heard(0, engine.hz_of_key(KEY), struck)
        assert talk.heard().gap_ms(struck, time.time() - 0.2) < UNNOTICED_MS, "silence is played"
