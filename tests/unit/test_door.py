"""Who becomes whose at the front door."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from bridge.door import Door
from bridge.errors import PbxUnreachable
from bridge.pbx.base import Incoming
from bridge.sessions.base import Member
from bridge.sessions.model import Record


class Leases:
    name = "me"
    members = {}  # noqa: RUF012

    def __init__(self, held_up, owners):
        self.woke = time.monotonic() - (0.1 if held_up else 60)
        self._owners = owners

    async def owners(self, call_ids):
        return {c: o for c, o in self._owners.items() if c in call_ids}


class Leg:
    def __init__(self):
        self.incoming = SimpleNamespace(
            call_id="c1", resumed=False, sent=False, caller_number="100"
        )
        self.forgotten = self.released = False
        self.left = None

    async def leave(self, variables):
        self.left = variables

    async def release(self):
        self.released = True

    def forget(self):
        self.forgotten = True


@pytest.mark.parametrize(
    ("held_up", "owner", "ours"),
    [(True, "other", False), (True, "me", True), (True, None, True), (False, "other", True)],
)
async def test_who_was_held_up_takes_nobody_whom_another_has_taken(held_up, owner, ours):
    begun, tasks = [], []
    leg = Leg()
    door = Door(
        Leases(held_up, {"c1": owner} if owner else {}),
        *(None, {}, SimpleNamespace(begin=lambda leg, memory: begun.append(leg)), None),
        spawn=lambda work: tasks.append(asyncio.ensure_future(work)),
        takeover=True,
        ready=lambda: True,
    )
    door.take(leg)
    await asyncio.gather(*tasks)
    assert (begun == [leg]) is ours
    assert leg.forgotten is not ours


async def test_without_what_must_be_there_a_caller_goes_on_in_the_dialplan():
    begun, tasks = [], []
    leg = Leg()
    door = Door(
        Leases(False, {}),
        *(None, {}, SimpleNamespace(begin=lambda leg, memory: begun.append(leg)), None),
        spawn=lambda work: tasks.append(asyncio.ensure_future(work)),
        takeover=True,
        ready=lambda: False,
    )
    door.take(leg)
    await asyncio.gather(*tasks)
    assert leg.left["ARI_BRIDGE_RESULT"] == "failed"
    assert leg.released
    assert begun == []


@pytest.mark.parametrize("sent", [True, False])
async def test_a_number_that_calls_too_often_goes_on_in_the_dialplan(sent):
    """Not so whom another has let in: he was counted there."""
    begun, tasks = [], []
    door = Door(
        Leases(False, {}),
        *(None, {}, SimpleNamespace(begin=lambda leg, memory: begun.append(leg)), None),
        spawn=lambda work: tasks.append(asyncio.ensure_future(work)),
        takeover=True,
        per_minute=2,
    )
    legs = [Leg() for _ in range(3)]
    for leg in legs:
        leg.incoming.sent = sent
        door.take(leg)
    await asyncio.gather(*tasks)
    assert len(begun) == (3 if sent else 2)
    assert sent or "too many calls" in legs[2].left["ARI_BRIDGE_REASON"]


@pytest.mark.parametrize("sent", [True, False])
async def test_who_was_passed_on_to_us_is_not_passed_on_again(sent):
    """Loads are a beat old: each might think that the other has fewer calls."""
    begun, tasks, passed = [], [], []
    leases = Leases(False, {})
    leases.members = {
        "me": Member("me", alive=True, started=0.0, load=3, takes=True),
        "door": Member("door", alive=True, started=0.0, load=0, takes=True),
    }
    store = SimpleNamespace(
        begin=lambda call_id: None,
        put=lambda call_id, **fields: None,
        written=lambda call_id, timeout_s: asyncio.sleep(0),
        forget=lambda call_id: None,
    )

    async def pass_on(worker):
        passed.append(worker)

    leg = Leg()
    leg.pass_on = pass_on
    leg.incoming = Incoming("c1", ("demo",), "100", "", "700", "en", "PCMU", sent=sent)
    door = Door(
        *(leases, store, {}, SimpleNamespace(begin=lambda leg, memory: begun.append(leg)), None),
        spawn=lambda work: tasks.append(asyncio.ensure_future(work)),
        takeover=True,
    )
    door.take(leg)
    await asyncio.gather(*tasks)
    assert (begun, passed) == (([leg], []) if sent else ([], ["door"]))


def found_by(leases, record, stopping=False):
    """A door whose worker finds a caller of whom that is remembered."""
    begun, strays, homes, tasks = [], [], [], []

    async def load(call_id):
        return record

    async def send_home(call_id, worker):
        homes.append(worker)

    pbx = SimpleNamespace(send_home=send_home)
    reconciler = SimpleNamespace(
        dead=lambda worker: strays.append(("dead", worker)),
        stray=lambda call_id, owner: strays.append((call_id, owner)),
    )
    door = Door(
        *(leases, SimpleNamespace(load=load), {"": pbx}),
        *(SimpleNamespace(begin=lambda leg, memory: begun.append(leg)), reconciler),
        spawn=lambda work: tasks.append(asyncio.ensure_future(work)),
        takeover=True,
    )
    door.stopping = stopping
    leg = Leg()
    leg.incoming = SimpleNamespace(call_id="c1", resumed=True, pbx="")
    door.take(leg)
    return leg, begun, strays, homes, tasks


async def test_who_is_found_goes_home_and_whose_owner_is_dead_is_taken():
    leases = Leases(False, {})
    leases.members = {"other": Member("other", alive=True, started=0.0, load=0, takes=True)}
    for owner, taken, sent in (
        ("other", [], ["other"]),
        ("gone", [("dead", "gone"), ("c1", "gone")], []),
        ("me", [("c1", "me")], []),
    ):
        leg, begun, strays, homes, tasks = found_by(leases, Record("c1", worker=owner))
        await asyncio.gather(*tasks)
        assert (strays, homes, begun) == (taken, sent, [])
        assert leg.forgotten


@pytest.mark.parametrize("record", [None, Record("c1", state="ended")])
@pytest.mark.parametrize("stopping", [True, False])
async def test_who_is_found_and_unknown_is_new_unless_we_are_leaving(record, stopping):
    leg, begun, strays, _, tasks = found_by(Leases(False, {}), record, stopping)
    await asyncio.gather(*tasks)
    assert (begun == [leg]) is not stopping
    assert strays == []
    if stopping:
        assert leg.left["ARI_BRIDGE_RESULT"] == "again"


async def test_whom_nobody_could_be_given_is_free_when_he_comes_again():
    tasks, told = [], {}
    store = SimpleNamespace(
        begin=lambda call_id: None,
        put=lambda call_id, **fields: told.update(fields),
        written=lambda call_id, timeout_s: asyncio.sleep(0),
    )
    other = Member("other", alive=True, started=0.0, load=0, takes=True)

    async def nobody_there(worker):
        raise PbxUnreachable("no answer")

    leg = Leg()
    leg.pass_on = nobody_there
    leg.incoming = Incoming("c1", ("demo",), "100", "", "700", "en", "PCMU")
    leases = Leases(False, {})
    leases.members = {"other": other}
    door = Door(
        *(leases, store, {}, None, None),
        spawn=lambda work: tasks.append(asyncio.ensure_future(work)),
        takeover=True,
    )
    door.stopping = True
    door.take(leg)
    await asyncio.gather(*tasks)
    assert told["worker"] == "other"
    assert told["state"] == "ended", "else nobody but that worker could have him"
    assert leg.left["ARI_BRIDGE_RESULT"] == "again"
