"""A client for the operator's Redis, from its URL: one server, Sentinel, or Cluster.

    redis://[USER:PASSWORD@]HOST:6379/0              one server; rediss:// with TLS
    unix:///run/redis.sock?db=0                      one server, through a socket
    redis+sentinel://[USER:PASSWORD@]H1:26379,H2:26379/SERVICE/0
                                                     whichever server is SERVICE's master now
    redis+cluster://[USER:PASSWORD@]H1:6379,H2:6379  a Cluster (rediss+cluster:// with TLS)

User and password are the servers' own. Each key that one call's writes touch has the call's hash
tag, and each script touches one tag only, so a Cluster keeps them on one node.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
from redis.asyncio.connection import AbstractConnection

SENTINEL_PORT, PORT = 26379, 6379


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL of Sentinel or Cluster says."""

    kind: str
    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None
    service: str = ""
    db: int = 0
    tls: bool = False


_send = AbstractConnection.send_packed_command


async def _send_or_end(
    self: AbstractConnection, command: bytes | str | Iterable[bytes], check_health: bool = True
) -> None:
    """Send a command; a task that is cancelled meanwhile ends.

    redis-py sends by `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes
    in the same moment as the result: whoever waited for the task's end waited for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    await _send(self, command, check_health)
    if task and task.cancelling() > before:
        await self.disconnect(nowait=True)  # its answer must be nobody else's
        raise asyncio.CancelledError


if sys.version_info < (3, 12):
    AbstractConnection.send_packed_command = _send_or_end  # type: ignore[method-assign]


def parse(url: str) -> Address | None:
    """Understand a URL; None: it is one of redis-py's own. Raises `ValueError`."""
    scheme, plus, kind = urlsplit(url).scheme.partition("+")
    if not plus:
        redis.asyncio.connection.parse_url(url)
        return None
    if scheme not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
        raise ValueError(f"unknown scheme '{scheme}+{kind}'")
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    port = SENTINEL_PORT if kind == "sentinel" else PORT
    found = tuple(_host(text, port) for text in hosts.split(",") if text)
    if not found:
        raise ValueError("no host")
    service, _, db = parts.path.strip("/").partition("/")
    if kind == "sentinel" and not service:
        raise ValueError("no service name: redis+sentinel://HOST:26379/SERVICE")
    if kind == "cluster" and service not in ("", "0"):
        raise ValueError("a Cluster has database 0 only")
    return Address(
        kind,
        found,
        unquote(user) or None,
        unquote(password) or None,
        service if kind == "sentinel" else "",
        int(db or 0),
        tls=scheme == "rediss",
    )


def _host(text: str, port: int) -> tuple[str, int]:
    name, colon, number = text.rpartition(":")
    if not colon or text.endswith("]"):  # [::1] has colons of its own
        return text.strip("[]"), port
    return name.strip("[]"), int(number)


def where(url: str) -> str:
    """The URL without user and password, for messages."""
    scheme, _, rest = url.partition("://")
    rest = rest.rpartition("@")[2]
    return rest if scheme == "redis" else f"{scheme}://{rest}"


def connect(url: str, timeout_s: float, ca_file: str = "") -> redis.asyncio.Redis:
    """A client; nothing is connected before its first command. Raises `ValueError`.

    With TLS the server's certificate and name are checked; `ca_file`: who has signed it (PEM),
    where the system doesn't know.

    Of a Cluster it is a `RedisCluster`, which has the same commands; its pipelines take commands
    of one key each, and `EVAL` only where others take `EVALSHA`.
    """
    common: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "replace",  # an engine's text may hold half a surrogate pair
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }
    address = parse(url)
    trust: dict[str, Any] = {}
    if address.tls if address else url.startswith("rediss:"):
        trust = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        trust |= {"ssl_ca_certs": ca_file} if ca_file else {}
    if address is None:
        return redis.asyncio.Redis.from_url(url, **trust, **common)
    login: dict[str, Any] = {
        "username": address.user,
        "password": address.password,
        "ssl": address.tls,
        **trust,
    }
    if address.kind == "sentinel":
        timeouts: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
        }
        sentinel = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            address.hosts, sentinel_kwargs={**timeouts, "ssl": address.tls, **trust}
        )
        client: redis.asyncio.Redis = sentinel.master_for(
            address.service, db=address.db, **login, **common
        )
        return client
    nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in address.hosts]
    cluster: Any = redis.asyncio.cluster.RedisCluster(startup_nodes=nodes, **login, **common)
    same: redis.asyncio.Redis = cluster
    return same


async def close(client: redis.asyncio.Redis) -> None:
    """End all its connections."""
    await client.aclose()
    pool = client.connection_pool if not is_cluster(client) else None
    if isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()
    if isinstance(client, redis.asyncio.cluster.RedisCluster):
        # After an error its own `aclose` takes it for closed, and leaves connections open.
        await client.nodes_manager.aclose()
        await client.nodes_manager.aclose("startup_nodes")


def is_cluster(client: redis.asyncio.Redis) -> bool:
    """Whether it is a Cluster's."""
    return isinstance(client, redis.asyncio.cluster.RedisCluster)
