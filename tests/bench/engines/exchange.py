"""An ARI with callers behind it, and no PBX: their RTP goes between generator and bridge directly.

An Asterisk takes as much of this machine as the bridge does, so that 200 calls through one would
measure how two processes share two cores. This answers the bridge's requests as Asterisk does (by
Asterisk's own API description), tells it of callers, and costs nothing while they talk.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import WSMsgType, web

from bridge.pbx.names import parse_name
from tests.bench.generator import address
from tests.lab.root import REPOSITORY, LabError

_DOCS = REPOSITORY / ".lab" / "sys" / "usr" / "share" / "asterisk" / "rest-api"
_HEADERS = {"Server": "Asterisk/22"}


class Exchange:
    """`with Exchange() as pbx:`, a bridge on it, then `pbx.dial(...)`."""

    bind = "127.0.0.1"
    ari_username = ari_password = "bench"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._apps: dict[str, web.WebSocketResponse] = {}
        self._channels: dict[str, dict[str, Any]] = {}
        self._in: dict[str, str] = {}  # a channel's application
        self._bridges: set[str] = set()
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def ari_port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def ari_url(self) -> str:
        """The same, for bridge.toml."""
        return f"http://{self.bind}:{self._port}"

    def dial(self, agents: Sequence[str], rtp_port: int, every_s: float = 0.04) -> None:
        """Callers 0, 1, … call these agents; `rtp_port` is the generator's. Returns when they
        have."""
        self._rtp_port = rtp_port
        future = asyncio.run_coroutine_threadsafe(self._dial(agents, every_s), self._loop)
        future.result(60)

    # How ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/ari/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.bind, 0).start()
        self._port = self._runner.addresses[0][1]

    async def _dial(self, agents: Sequence[str], every_s: float) -> None:
        for n, agent in enumerate(agents):
            channel = self._channel(f"1.{n}", f"PJSIP/caller-{n:08x}")
            channel["dialplan"] |= {"app_name": "Stasis", "app_data": f"ari-bridge,{agent}"}
            await self._enter(channel["id"], "ari-bridge", [agent])
            await asyncio.sleep(every_s)

    def _channel(self, id: str, name: str) -> dict[str, Any]:  # noqa: A002 (ARI's word)
        channel = self._channels[id] = {
            "id": id,
            "name": name,
            "state": "Up",
            "language": "en",
            "caller": {"number": "100", "name": ""},
            "dialplan": {"context": "internal", "exten": "711", "priority": 1},
        }
        return channel

    async def _enter(self, id: str, app: str, args: Sequence[str] = ()) -> None:  # noqa: A002
        before, self._in[id] = self._in.get(id), app
        channel = self._channels[id]
        if before is not None and before in self._apps:
            await self._apps[before].send_str(
                json.dumps({"type": "StasisEnd", "application": before, "channel": channel})
            )
        started = {"type": "StasisStart", "application": app, "args": args, "channel": channel}
        if app not in self._apps:
            raise LabError(f"no bridge has the application {app}")
        await self._apps[app].send_str(json.dumps(started))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if path == "events":
            return await self._events(request)
        if path.startswith("events/user/"):
            return await self._user_event(request, path.rpartition("/")[2])
        if path.startswith("api-docs/"):
            return self._json(json.loads((_DOCS / Path(path).name).read_text()))
        if path == "asterisk/info":
            return self._json({"system": {"version": "22.0.0", "entity_id": "bench"}})
        kind, _, rest = path.partition("/")
        found = await {
            "applications": self._application,
            "channels": self._of_channels,
            "bridges": self._of_bridges,
        }[kind](request, rest)
        return web.Response(status=204, headers=_HEADERS) if found is None else self._json(found)

    def _json(self, found: object) -> web.Response:
        return web.json_response(found, headers=_HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        app = request.query["app"]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._apps[app] = socket
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        if self._apps.get(app) is socket:
            del self._apps[app]
        return socket

    async def _user_event(self, request: web.Request, name: str) -> web.StreamResponse:
        app = request.query["application"]
        if app in self._apps:
            event = {"type": "ChannelUserevent", "application": app, "eventname": name}
            await self._apps[app].send_str(json.dumps({**event, "userevent": {}}))
        return web.Response(status=204 if app in self._apps else 404, headers=_HEADERS)

    async def _application(self, request: web.Request, rest: str) -> object:
        app = rest.partition("/")[0]
        if app not in self._apps:
            raise web.HTTPNotFound(headers=_HEADERS)
        inside = [id for id, where in self._in.items() if where == app]  # noqa: A001
        return {"name": app, "channel_ids": inside, "bridge_ids": []}

    async def _of_bridges(self, request: web.Request, rest: str) -> object:
        name, _, what = rest.partition("/")
        if not name:
            return [{"id": one} for one in self._bridges]
        if what:
            return None
        (self._bridges.discard if request.method == "DELETE" else self._bridges.add)(name)
        return {"id": name} if request.method == "POST" else None

    async def _of_channels(self, request: web.Request, rest: str) -> object:
        name, _, what = rest.partition("/")
        if not name:
            return list(self._channels.values())
        if name == "externalMedia":
            return self._external(request)
        if name not in self._channels:
            raise web.HTTPNotFound(headers=_HEADERS)
        match what:
            case "" if request.method == "DELETE":
                self._channels.pop(name)
                self._in.pop(name, None)
                return None
            case "":
                return self._channels[name]
            case "move":
                query = request.query
                await self._enter(name, query["app"], [query.get("appArgs", "")])
            case "variable" if request.method == "GET":
                native = request.query["variable"] == "CHANNEL(audionativeformat)"
                return {"value": "(ulaw)" if native else "0"}
            case "rtp_statistics":
                return {}
        return None

    def _external(self, request: web.Request) -> object:
        name, app = request.query["channelId"], request.query["app"]
        of = parse_name(name)
        assert of is not None
        caller = int(of.caller.partition(".")[2])
        channel = self._channel(name, f"UnicastRTP/{name}")
        self._loop.call_soon(lambda: self._loop.create_task(self._enter(name, app)))
        where = {
            "UNICASTRTP_LOCAL_ADDRESS": address(caller),
            "UNICASTRTP_LOCAL_PORT": str(self._rtp_port),
        }
        return {**channel, "channelvars": where}
