"""Sessions and leases on Redis behind a Sentinel (with a failover) and on a Cluster."""

import asyncio
import gc
import time
import warnings

import pytest

from bridge.errors import StoreUnreachable
from bridge.sessions.lease import RedisLeases
from bridge.sessions.model import Line
from tests.integration.test_redis_tls import by_tls, kept, let_in, settings
from tests.integration.test_sessions import lines, storing
from tests.lab.certificate import Authority
from tests.lab.redis import Redis, Sentinel, cluster

# redis-py (7.4) leaves some of a Cluster's connections to the garbage collector, which warns of it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected():
    """What is left is collected here, and not in the middle of somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def written(store, call_id, line):
    """Say it and wait until Redis has it, however long that takes."""
    store.say(call_id, line)
    assert await store.flush(30)


def leases(store, name="w1"):
    return RedisLeases(store.server, name, lambda: {"started": 1.0, "takes": True})


async def test_a_failover_of_the_master_loses_nothing():
    with Redis() as first, Redis(options={"replicaof": f"127.0.0.1 {first.port}"}) as second:
        while "master_link_status:up" not in second.command("INFO", "replication"):
            time.sleep(0.05)
        with Sentinel(first) as sentinel:
            while "slaves=1" not in sentinel.command("INFO", "sentinel"):
                time.sleep(0.1)
            async with storing(sentinel.url, timeout_s=0.5) as store:
                await store.connect()
                store.begin("a")
                store.put("a", state="talking", agent="demo", started=1.0, worker="w1")
                for line in lines(5):
                    await written(store, "a", line)
                ours = leases(store)
                await ours.beat()
                first.kill()
                with pytest.raises(StoreUnreachable):
                    await store.load("a")
                for line in lines(5, first=5):
                    store.say("a", line)
                assert await store.flush(30)
                assert second.command("ROLE") == "3"  # a master's answer has three parts
                assert await store.transcript("a") == lines(10)
                assert (await store.load("a")).agent == "demo"
                await ours.beat()
                assert ours.members["w1"].alive
                assert await ours.live() == {"a": "w1"}


async def test_a_cluster_keeps_each_call_on_one_node():
    with cluster() as nodes:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        async with storing(f"redis+cluster://{hosts}", timeout_s=1.0) as store:
            await store.connect()
            calls = [f"call-{n}" for n in range(30)]
            for call_id in calls:
                store.begin(call_id)
                store.put(call_id, state="talking", agent="demo", started=1.0, worker="w1")
                for line in lines(3):
                    store.say(call_id, line)
            assert await store.flush(10)
            for call_id in calls:
                assert await store.transcript(call_id) == lines(3)
            keys = [int(node.command("DBSIZE")[0:]) for node in nodes]
            assert all(keys), f"one node has nothing: {keys}"

            ours, heir = leases(store), leases(store, "w2")
            await ours.beat()
            await heir.beat()
            assert set(heir.members) == {"w1", "w2"}
            assert set(await heir.live()) == set(calls)
            assert await heir.owners(calls) == dict.fromkeys(calls, "w1")
            record = await heir.claim(calls[0], "w1")
            assert record.agent == "demo"
            lost = []
            store.on_lost = lost.append
            store.say(calls[0], Line(9.0, "agent", "a stale owner's"))
            assert await store.flush(10)
            assert lost == [calls[0]]  # fenced off there too
            assert len(await store.transcript(calls[0])) == 3
            store.pass_key(calls[2], "4")
            store.pass_key(calls[2], "2")
            await asyncio.gather(*store._tasks)
            assert await store.passed_keys(calls[2]) == "42"
            store.put(calls[3], caller="100", rejoin_s=60)
            store.put(calls[3], state="ended", result="hung-up")
            assert await store.flush(10)
            assert (await store.rejoin("demo", "100"))[0].call_id == calls[3]
            assert await store.rejoin("demo", "100") is None
            store.put(calls[1], state="ended", result="done")
            assert await store.flush(10)
            assert set(await heir.live()) == {*calls} - {calls[1], calls[3]}


async def test_a_cluster_that_speaks_nothing_but_tls(tmp_path):
    authority = Authority(tmp_path)
    options = {"tls-cluster": "yes", "appendonly": "yes"}
    with cluster(lambda: {**by_tls(authority), **options}) as nodes:
        for node in nodes:
            let_in(node)
        await kept(settings(nodes[0].served, authority, kind="+cluster"))


async def test_a_node_of_a_cluster_that_goes_and_comes_back_empty():
    with cluster() as nodes:
        async with storing(f"redis+cluster://127.0.0.1:{nodes[0].port}", timeout_s=0.5) as store:
            await store.connect()
            calls = [f"call-{n}" for n in range(12)]
            for call_id in calls:
                store.begin(call_id)
                store.put(call_id, state="talking", started=1.0, worker="w1")
                store.say(call_id, lines(1)[0])
            assert await store.flush(10)
            nodes[2].kill()
            for call_id in calls:
                store.say(call_id, Line(200.0, "caller", "meanwhile"))
            assert not await store.flush(1.5)
            nodes[2].start()  # knows its slots, but no call
            assert await store.flush(30)
            for call_id in calls:
                texts = [line.text for line in await store.transcript(call_id)]
                assert texts == ["line 0", "meanwhile"]
                assert (await store.load(call_id)).worker == "w1"
