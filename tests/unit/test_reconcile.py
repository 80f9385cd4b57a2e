"""Who inherits what of a dead worker."""

import asyncio
import dataclasses

import pytest

from bridge.callrecord import about
from bridge.errors import PbxGone, PbxUnreachable, StoreUnreachable
from bridge.pbx.base import Incoming, Outgoing
from bridge.reconcile import Reconciler, heirs, incoming_of, share_out, takers
from bridge.sessions.base import Member
from bridge.sessions.model import Record


def member(name, load=0, started=1.0, alive=True, takes=True, place="here", active=0):
    return Member(name, alive, started, load, takes, place, active)


def test_spares_are_the_youngest():
    workers = [
        member("c", started=3.0, active=2),
        member("a", started=1.0, active=2),
        member("b", started=2.0, active=2),
    ]
    assert [m.name for m in takers(workers)] == ["a", "b"]
    gone = [
        member("a", alive=False, active=2),
        *workers[::2],
        member("d", takes=False, active=2),
    ]
    assert [m.name for m in takers(gone)] == ["b", "c"]
    assert [m.name for m in takers([member("a"), member("b")])] == ["a", "b"], "0: all"


def test_each_host_has_its_own_spares():
    workers = [
        member("a1", started=1.0, active=1),
        member("a2", started=2.0, active=1),
        member("b1", started=3.0, active=1, place="there"),
    ]
    assert [m.name for m in takers(workers)] == ["a1", "b1"]


def test_the_next_launchers_workers_come_before_orphans():
    old = [dataclasses.replace(member(n, active=2), kept=False) for n in ("a", "b")]
    assert [m.name for m in takers(old)] == ["a", "b"]
    new = member("c", started=9.0, active=2)
    assert [m.name for m in takers([*old, new])] == ["c", "a"]


def test_who_shares_the_dead_ones_host_comes_first():
    workers = {
        m.name: m
        for m in (
            member("dead"),
            member("near"),
            member("far", place="there"),
            member("full", takes=False),
        )
    }
    assert [m.name for m in heirs("dead", workers)] == ["near"]
    del workers["near"]
    assert [m.name for m in heirs("dead", workers)] == ["far"]
    assert [m.name for m in heirs("buried", workers)] == ["dead", "far"]


def test_calls_are_shared_out_so_that_loads_become_even():
    shares = share_out([f"c{n}" for n in range(6)], [member("a", load=4), member("b")])
    assert sorted(shares.values()) == ["a"] + ["b"] * 5
    assert share_out(["c"], []) == {}


class Leases:
    name, place, state = "me", "here", "talking"

    def __init__(self, live, members, place="here"):
        self.owners_of, self.members, self.buried = dict(live), members, []
        self.where = place

    async def beat(self):
        pass

    async def live(self):
        return dict(self.owners_of)

    async def claim(self, call_id, owner):
        if self.owners_of.get(call_id) != owner:
            return None
        self.owners_of[call_id] = self.name
        return Record(
            call_id,
            worker=self.name,
            state=self.state,
            agent="demo",
            bridge_id="b",
            place=self.where,
        )

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
    def __init__(self, gone=(), away=0):
        self.gone, self.away, self.near = gone, away, {}

    async def adopt(self, incoming, handles, *, near):
        self.near[incoming.call_id] = near
        if self.away:
            self.away -= 1
            raise PbxUnreachable("frozen")
        if incoming.call_id in self.gone:
            raise PbxGone("hung up")
        return incoming, dict(handles)


async def settle(reconciler):
    while reconciler._busy:
        await asyncio.gather(*reconciler._busy.values())


def others(*names):
    return {name: member(name) for name in ("me", "dead", *names)}


def reconciler_of(leases, store=None, pbx=None, held=()):
    begun = []
    reconciler = Reconciler(
        leases,
        store or Store(),
        {"": pbx or Pbx()},
        lambda leg, memory: begun.append((leg, memory)),
        held=lambda call_id: call_id in held,
    )
    return reconciler, begun


async def test_our_part_is_taken_at_once_and_the_rest_if_nobody_does(monkeypatch):
    monkeypatch.setattr("bridge.reconcile.GRACE_S", 0)
    leases = Leases({"c1": "dead", "c2": "dead", "x": "other"}, others("other"))
    store, pbx = Store(), Pbx(gone={"c2"})
    reconciler, begun = reconciler_of(leases, store, pbx)
    reconciler.dead("dead")
    reconciler.dead("dead")  # told twice
    reconciler.dead("me")
    await settle(reconciler)
    assert [leg[0].call_id for leg, _ in begun] == ["c1"]
    assert begun[0][0][1] == {"bridge_id": "b", "joined": "1"}
    assert begun[0][1].record.agent == "demo"
    assert store.put_fields["c2"]["state"] == "ended"
    assert leases.buried == ["dead"]
    assert leases.owners_of["x"] == "other"
    assert pbx.near["c1"] is True


async def test_the_media_of_another_host_is_not_brought_along():
    pbx = Pbx()
    leases = Leases({"c1": "dead"}, others(), place="there")
    reconciler, begun = reconciler_of(leases, pbx=pbx)
    reconciler.dead("dead")
    await settle(reconciler)
    assert len(begun) == 1
    assert pbx.near == {"c1": False}


async def test_a_pbx_that_is_away_for_a_moment_loses_no_call(monkeypatch):
    monkeypatch.setattr("bridge.reconcile.RETRY_S", 0)
    reconciler, begun = reconciler_of(Leases({"c1": "dead"}, others()), pbx=Pbx(away=3))
    reconciler.dead("dead")
    await settle(reconciler)
    assert len(begun) == 1


async def test_a_pbx_that_stays_away_ends_the_call(monkeypatch):
    monkeypatch.setattr("bridge.reconcile.RETRY_S", 0)
    monkeypatch.setattr("bridge.reconcile.PATIENCE_S", -1)
    store = Store()
    leases = Leases({"c1": "dead"}, others())
    reconciler, begun = reconciler_of(leases, store, pbx=Pbx(away=99))
    reconciler.dead("dead")
    await settle(reconciler)
    assert not begun
    assert store.put_fields["c1"]["state"] == "ended"


async def test_without_redis_nobody_is_taken_over_and_once_it_is_back_everybody_is():
    leases = Leases({"c1": "dead"}, others())
    reconciler, begun = reconciler_of(leases)
    away = True
    for name in ("beat", "live"):
        real = getattr(leases, name)

        def asked(real=real):
            if away:
                raise StoreUnreachable("no answer")
            return real()

        setattr(leases, name, asked)
    for _ in range(3):
        reconciler.dead("dead")
        await settle(reconciler)
        await reconciler.unknown()
    assert not begun
    assert leases.buried == []
    assert leases.owners_of == {"c1": "dead"}
    away = False
    reconciler.dead("dead")
    await settle(reconciler)
    assert len(begun) == 1


@pytest.mark.parametrize("owner", ["long dead", "me"])
async def test_calls_that_nobody_looks_after_are_taken_when_that_is_sure(owner):
    reconciler, begun = reconciler_of(Leases({"c1": owner}, others()))
    await reconciler.unknown()
    await settle(reconciler)
    assert not begun, "somebody may be taking it this very moment"
    await reconciler.unknown()
    await settle(reconciler)
    assert len(begun) == 1


async def test_who_leaves_takes_nothing_any_more():
    """Two workers stop at the same time: the first's calls are for those who stay."""
    leases = Leases({"c1": "dead", "c2": "long dead"}, others("other"))
    reconciler, begun = reconciler_of(leases)
    await reconciler.unknown()
    await reconciler.close()
    reconciler.dead("dead")
    reconciler.stray("c1", "me")
    await reconciler.unknown()
    await settle(reconciler)
    assert not begun
    assert leases.owners_of == {"c1": "dead", "c2": "long dead"}


@pytest.mark.parametrize(
    ("live", "record", "taken"),
    [
        ({}, "dead", True),  # he died before the call was on the list
        ({"c1": "dead"}, "dead", False),  # whoever inherits from him takes it
        ({"c1": "me"}, "me", True),  # it was sent to us and never came
    ],
)
async def test_a_caller_who_is_found_is_taken_where_nobody_else_will(live, record, taken):
    leases = Leases(live, others())
    reconciler, begun = reconciler_of(leases)
    leases.owners_of_records = {"c1": record}
    claim = leases.claim

    async def by_record(call_id, owner):
        leases.owners_of.setdefault(call_id, leases.owners_of_records[call_id])
        return await claim(call_id, owner)

    leases.claim = by_record
    reconciler.stray("c1", record)
    reconciler.stray("c1", record)
    await settle(reconciler)
    assert len(begun) == taken


async def test_a_caller_who_is_held_or_being_taken_is_no_stray():
    reconciler, begun = reconciler_of(Leases({"c1": "me", "c2": "me"}, others()), held={"c1"})
    reconciler._taking.add("c2")
    reconciler.stray("c1", "me")
    reconciler.stray("c2", "me")
    await reconciler._take_all(["c2"], "me")
    assert not begun
    assert not reconciler._busy


async def test_calls_that_we_hold_are_no_strays():
    reconciler, begun = reconciler_of(Leases({"c1": "me"}, others()), held={"c1"})
    await reconciler.unknown()
    await reconciler.unknown()
    assert not begun


def test_what_the_dialplan_passed_is_kept():
    args = ("demo", "account=12", "mood=a = b")
    came = Incoming("c1", args, "100", "Ann", "700", "en", "PCMU", pbx="one")
    fields = {name: str(value) for name, value in about(came, "w").items()}
    heirs_view = incoming_of(Record.from_fields({"call_id": "c1", **fields}))
    assert heirs_view.args == args
    assert heirs_view.variables == {"account": "12", "mood": "a = b"}
    assert incoming_of(Record("c1", agent="demo")).args == ("demo",), "of the last version"


async def test_who_was_not_talking_yet_is_set_up_anew_and_what_was_made_goes():
    leases, pbx = Leases({"c1": "dead"}, others()), Pbx()
    leases.state = "setup"
    reconciler, begun = reconciler_of(leases, pbx=pbx)
    reconciler.dead("dead")
    await settle(reconciler)
    assert begun == [((incoming_of(Record("c1", agent="demo")), {"bridge_id": "b"}), None)]
    assert pbx.near == {"c1": False}


async def test_a_call_that_was_over_before_we_came_leaves_nothing():
    over = []

    async def told(call_id):
        over.append(call_id)

    store = Store()
    leases = Leases({"c1": "dead", "c2": "dead"}, {"me": member("me"), "dead": member("dead")})
    reconciler = Reconciler(
        *(leases, store, {"": Pbx(gone={"c2"})}),
        *(lambda leg, memory: None, lambda call_id: False),
        over=told,
    )
    reconciler.dead("dead")
    await settle(reconciler)
    assert over == ["c2"]
    assert store.put_fields["c2"]["state"] == "ended"


async def test_a_call_of_ours_that_rings_goes_on_ringing():
    out = Outgoing("PJSIP/1@trunk", "+4955", 20, {"order": "17"}, "tell")
    incoming = Incoming("c1", ("demo", "order=17"), "1", "", "1", "", "PCMU", outgoing=out)
    fields = {name: str(value) for name, value in about(incoming, "dead").items()}
    again = incoming_of(Record.from_fields({"call_id": "c1", **fields}))
    assert again.outgoing == out
    assert again.args == incoming.args


async def test_a_call_of_ours_that_never_rang_is_not_lost_silently():
    class Ringing(Leases):
        state = "ringing"

        async def claim(self, call_id, owner):
            record = await super().claim(call_id, owner)
            return record and dataclasses.replace(record, direction="out")

    store = Store()
    leases = Ringing({"c1": "dead"}, others())
    reconciler, begun = reconciler_of(leases, store, Pbx(gone={"c1"}))
    reconciler.dead("dead")
    await settle(reconciler)
    assert not begun
    ended = store.put_fields["c1"]
    assert (ended["state"], ended["result"]) == ("ended", "failed")
    assert "its worker died" in ended["reason"]
