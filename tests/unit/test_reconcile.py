"""Who inherits what of a dead worker."""

import asyncio

from bridge.errors import PbxGone
from bridge.reconcile import Reconciler, share_out, takers
from bridge.sessions.base import Member
from bridge.sessions.model import Record


def member(name, load=0, started=1.0, alive=True, takes=True):
    return Member(name, alive, started, load, takes)


def test_spares_are_the_youngest():
    workers = [member("c", started=3.0), member("a", started=1.0), member("b", started=2.0)]
    assert [m.name for m in takers(workers, 2)] == ["a", "b"]
    assert len(takers(workers)) == 3
    gone = [member("a", alive=False), *workers[::2], member("d", takes=False)]
    assert [m.name for m in takers(gone, 2)] == ["b", "c"]


def test_calls_are_shared_out_so_that_loads_become_even():
    shares = share_out([f"c{n}" for n in range(6)], [member("a", load=4), member("b")])
    assert sorted(shares.values()) == ["a"] + ["b"] * 5
    assert share_out(["c"], []) == {}


class Leases:
    name = "me"

    def __init__(self, live, members):
        self.owners_of, self.members, self.buried = dict(live), members, []

    async def live(self):
        return dict(self.owners_of)

    async def claim(self, call_id, owner):
        if self.owners_of.get(call_id) != owner:
            return None
        self.owners_of[call_id] = self.name
        return Record(call_id, worker=self.name, state="talking", agent="demo", bridge_id="b")

    async def bury(self, worker):
        self.buried.append(worker)
        self.members.pop(worker, None)


class Store:
    def __init__(self):
        self.put_fields = {}

    async def transcript(self, call_id):
        return []

    def adopt(self, record, lines):
        pass

    def put(self, call_id, **fields):
        self.put_fields[call_id] = fields


class Pbx:
    def __init__(self, gone=()):
        self.gone = gone

    async def adopt(self, incoming, handles):
        if incoming.call_id in self.gone:
            raise PbxGone("hung up")
        return incoming, dict(handles)


async def settle(reconciler):
    while reconciler._busy:
        await asyncio.gather(*reconciler._busy.values())


def others(*names):
    return {name: member(name) for name in ("me", "dead", *names)}


async def test_our_part_is_taken_at_once_and_the_rest_if_nobody_does(monkeypatch):
    monkeypatch.setattr("bridge.reconcile.GRACE_S", 0)
    leases = Leases({"c1": "dead", "c2": "dead", "x": "other"}, others("other"))
    begun = []
    store, pbx = Store(), Pbx(gone={"c2"})
    reconciler = Reconciler(leases, store, pbx, lambda leg, memory: begun.append((leg, memory)))
    reconciler.dead("dead")
    reconciler.dead("dead")  # told twice
    reconciler.dead("me")
    await settle(reconciler)
    assert [leg[0].call_id for leg, _ in begun] == ["c1"]
    assert begun[0][0][1] == {"bridge_id": "b"}
    assert begun[0][1].record.agent == "demo"
    assert store.put_fields["c2"]["state"] == "ended"
    assert leases.buried == ["dead"]
    assert leases.owners_of["x"] == "other"


async def test_calls_of_an_owner_whom_nobody_knows():
    leases = Leases({"c1": "long dead"}, others())
    begun = []
    reconciler = Reconciler(leases, Store(), Pbx(), lambda leg, memory: begun.append(leg))
    await reconciler.unknown()
    await settle(reconciler)
    assert len(begun) == 1
