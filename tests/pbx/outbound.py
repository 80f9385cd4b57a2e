"""A bridge that may call, an Asterisk with numbers that answer in every way, and the API."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

from bridge.web.listen import wav_head
from tests.lab.asterisk import Asterisk
from tests.lab.bridge import Bridge
from tests.lab.redis import Redis
from tests.lab.root import REPOSITORY, free_port

TOKEN = "a-token-of-the-tests"
DIALPLAN = """
[far]
; rings, then answers and listens
exten => answers,1,Ringing()
 same => n,Wait(0.1)
 same => n,Answer()
 same => n,Wait(120)
exten => slow,1,Ringing()
 same => n,Wait(2)
 same => n,Answer()
 same => n,Wait(120)
exten => hurried,1,Answer()
 same => n,Wait(0.3)
 same => n,Hangup()
exten => rings,1,Ringing()
 same => n,Wait(120)
exten => busy,1,Busy()
exten => congested,1,Congestion()
exten => unknown,1,Hangup(1)
; a human, who says hello; and one who takes his time
exten => human,1,Answer()
 same => n,Wait(0.5)
 same => n,Playback(hello&silence/9&silence/9)
exten => hesitant,1,Answer()
 same => n,Wait(2)
 same => n,Playback(hello&silence/9&silence/9)
; an answering machine's greeting
exten => voicemail,1,Answer()
 same => n,Wait(0.5)
 same => n,Playback(vm-theperson&digits/7&digits/4&vm-isunavail&vm-intro)
 same => n,Wait(120)
; speaks on and on
exten => machine,1,Answer()
 same => n,PlayTones(400)
 same => n,Wait(120)
"""


@contextlib.contextmanager
def far_numbers(dialplan: str = DIALPLAN) -> Iterator[Asterisk]:
    """An Asterisk whose context `far` has them."""
    with Asterisk(rtp_ports=600) as pbx:
        with (pbx.etc / "extensions.conf").open("a") as file:
            file.write(dialplan)
        pbx.cli("dialplan reload")
        yield pbx


class Api:
    """The calls API, as a client sees it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        async with self._session.request(method, path, **options) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None

    async def up(self, workers: int) -> None:
        """Wait for the API and so many workers."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    _, found = await self.ask("GET", "/v1/workers")
                    if sum(w["alive"] and w["takes_calls"] for w in found["workers"]) >= workers:
                        return
                await asyncio.sleep(0.1)

    async def call(self, to: str, **more: Any) -> Mapping[str, Any]:
        """Have somebody called."""
        status, call = await self.ask("POST", "/v1/calls", json={"to": to, "agent": "echo", **more})
        assert status in (200, 201), call
        return call

    async def verb(self, call_id: str, verb: str, **body: Any) -> tuple[int, Any]:
        """Do something with a call."""
        return await self.ask("POST", f"/v1/calls/{call_id}/{verb}", json=body)

    @contextlib.asynccontextmanager
    async def listen(self, call_id: str) -> AsyncIterator[aiohttp.StreamReader]:
        """A call's sound, behind the head of its WAV."""
        async with self._session.get(f"/v1/calls/{call_id}/listen") as answer:
            answer.raise_for_status()
            await answer.content.readexactly(len(wav_head()))
            yield answer.content

    async def becomes(self, call_id: str, *states: str, within_s: float = 20.0) -> Any:
        """Wait until a call is in one of these states."""
        call = None
        async with asyncio.timeout(within_s):
            while True:
                status, call = await self.ask("GET", f"/v1/calls/{call_id}")
                if status == 200 and call["state"] in states:
                    return call
                assert call.get("state") != "ended", call
                await asyncio.sleep(0.05)


class Outbound:
    """`with Outbound(pbx) as out:` gives a bridge that may call, with so many workers."""

    def __init__(self, pbx: Asterisk, workers: int = 1, **outbound: object) -> None:
        self.pbx, self.workers = pbx, workers
        self.redis = Redis()
        self._outbound = outbound
        self.port = free_port()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            started.enter_context(self.redis)
            folder = started.enter_context(agents())
            rules = {
                "enabled": True,
                "destinations": [*NUMBERS, *FOR_AMD],
                "endpoint": "Local/{to}@far",
                "caller_ids": ["+4930555", "+4930556"],
                "max_calls": 100,
                "max_per_minute": 10_000,
                **self._outbound,
            }
            self.bridge = started.enter_context(
                Bridge(
                    *(self.pbx, self.redis),
                    settings={
                        # What a killed worker leaves is swept within seconds, not a minute.
                        "asterisk": {"orphan_grace_s": 4.0, "sweep_s": 8.0},
                        "web": {"enabled": True, "port": self.port},
                        "outbound": rules,
                        "agents": {"folder": folder},
                    },
                    options=("--workers", str(self.workers)),
                    environment={"ARI_BRIDGE_TOKEN": TOKEN},
                )
            )
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    @contextlib.asynccontextmanager
    async def api(self) -> AsyncIterator[Api]:
        """Its API, once that and every worker is up."""
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as session:
            api = Api(session)
            await api.up(self.workers)
            yield api


NUMBERS = (
    "answers",
    "slow",
    "hurried",
    "rings",
    "busy",
    "congested",
    "unknown",
    "nowhere",
    "machine",
)
FOR_AMD = ("human", "hesitant", "voicemail")
"""They play files, and aren't for random operations: one such run made Asterisk 22.10 itself end,
by a null pointer in its `ast_timer_enable_continuous`."""


@contextlib.contextmanager
def agents() -> Iterator[str]:
    """A folder with an agent that loads no models."""
    with tempfile.TemporaryDirectory(prefix="ari-bridge-agents-") as folder:
        shutil.copy(REPOSITORY / "agents" / "echo.toml", folder)
        with (Path(folder) / "echo.toml").open("a") as file:
            file.write('\n[transfer]\ncontext = "far"\nextensions = ["hurried"]\n')
        yield folder
