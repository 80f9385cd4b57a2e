"""`/metrics` for Prometheus, `/live` and `/ready` for whoever keeps services running.

Who may read `/metrics`: whoever is on this host, and whoever names the token (Prometheus:
`authorization: {credentials_file: …}`). It holds figures and the names of agents, no caller. A
request that a proxy passes on comes from elsewhere, wherever the proxy is.

What is told is added up from what this host's workers count (`bridge.metrics`), from what its media
process says of itself, and from a question to Redis. A worker that was killed goes on counting in
sums and is out of all that is "now".
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

from bridge import __version__, metrics
from bridge.errors import BridgeError
from bridge.media import control
from bridge.media.load import LATE_MS
from bridge.web.errors import Refused
from bridge.web.parts import Parts
from bridge.web.routes import Asked, Route

_ASK_S = 1.0
READY_S = 1.0
"""Anybody may ask whether we are ready, as often as he likes: it is looked up so often at most."""


def routes(parts: Parts) -> list[Route]:
    """Of this resource."""
    health = _Health(parts)
    return [
        Route("GET", "/metrics", "Figures for Prometheus", health.metrics, local=True),
        Route("GET", "/live", "Whether this process serves", health.live, public=True),
        Route("GET", "/ready", "Whether this host takes calls", health.ready, public=True),
    ]


class _Health:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._looking = asyncio.Lock()
        self._workers, self._looked_at = 0.0, -math.inf

    async def live(self, asked: Asked) -> web.Response:
        return web.Response(text="live\n")

    async def ready(self, asked: Asked) -> web.Response:
        clock = asyncio.get_running_loop().time
        async with self._looking:
            if clock() - self._looked_at >= READY_S:
                found = await asyncio.to_thread(of_workers, metrics.folder(self._place))
                self._workers = _value(found, "ari_bridge_worker_ready")
                self._looked_at = clock()
        workers = self._workers
        if not workers:
            raise Refused(503, "not-ready", "no worker of this host takes calls: see its log")
        return web.Response(text=f"ready: {workers:.0f} workers take calls\n")

    async def metrics(self, asked: Asked) -> web.Response:
        registry = CollectorRegistry()
        registry.register(_Fixed(await self._collected()))
        text = generate_latest(registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    @property
    def _place(self) -> Path:
        return Path(self._parts.config.media.runtime_dir)

    async def _collected(self) -> list[Metric]:
        found = [_build()]
        found += await asyncio.to_thread(of_workers, metrics.folder(self._place))
        found += await of_media(self._place)
        found.append(await self._redis())
        return found

    async def _redis(self) -> Metric:
        up = GaugeMetricFamily("ari_bridge_web_redis_up", "Whether the API reaches Redis.")
        try:
            await self._parts.reader.members()
            up.add_metric([], 1)
        except BridgeError:
            up.add_metric([], 0)
        return up


class _Fixed:
    """What was collected, for the library's writer."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> Iterator[Metric]:
        return iter(self._found)


# Workers ----------------------------------------------------------------------------------------


def of_workers(folder: Path) -> list[Metric]:
    """What workers have counted, living and dead."""
    if not folder.is_dir():
        return []
    with metrics.alone(folder):
        metrics.bury(folder)
        found = MultiProcessCollector(None, str(folder)).collect()  # type: ignore[no-untyped-call]
    return list(found)


def _value(found: Iterable[Metric], name: str) -> float:
    return sum(s.value for one in found for s in one.samples if s.name == name)


def _build() -> Metric:
    found = GaugeMetricFamily("ari_bridge_build_info", "The version that runs.", labels=["version"])
    found.add_metric([__version__], 1)
    return found


# Media ------------------------------------------------------------------------------------------


async def of_media(runtime_dir: Path) -> list[Metric]:
    """What the media process says of itself; only that it is away, if it is."""
    up = GaugeMetricFamily("ari_bridge_media_up", "Whether the media process answers.")
    try:
        async with asyncio.timeout(_ASK_S):
            told = await _ask(runtime_dir)
    except (OSError, TimeoutError, ValueError, KeyError):
        up.add_metric([], 0)
        return [up]
    up.add_metric([], 1)
    load = told["load"]
    calls = GaugeMetricFamily("ari_bridge_media_calls", "Slots in use.")
    calls.add_metric([], told["open_calls"])
    busy = CounterMetricFamily(
        "ari_bridge_media_tick_seconds", "Time spent in ticks: a rate of 1 is a whole core."
    )
    busy.add_metric([], load["busy_ms"] / 1000)
    late = HistogramMetricFamily(
        "ari_bridge_media_lateness_seconds", "How late ticks are that send packets."
    )
    late.add_metric([], _buckets(load["late"]), load["late_ms"] / 1000)
    dropped = CounterMetricFamily(
        "ari_bridge_media_dropped_datagrams", "Datagrams of no call, by cause.", labels=["cause"]
    )
    for cause, count in told["counters"].items():
        dropped.add_metric([cause], count)
    return [up, calls, busy, late, dropped]


def _buckets(counts: list[int]) -> list[tuple[str, float]]:
    """Prometheus' buckets hold all that lie below them too."""
    found, below = [], 0
    for edge_ms, count in zip((*LATE_MS, float("inf")), counts, strict=True):
        below += count
        found.append(("+Inf" if edge_ms == float("inf") else str(edge_ms / 1000), float(below)))
    return found


async def _ask(runtime_dir: Path) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    sock = control.new_socket()
    try:
        await loop.sock_connect(sock, str(control.socket_path(runtime_dir)))
        await loop.sock_sendall(sock, control.encode({"op": "list", "id": 1}))
        return control.decode(await loop.sock_recv(sock, control.MOST_BYTES))
    finally:
        sock.close()
