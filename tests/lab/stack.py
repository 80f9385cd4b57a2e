"""Everything that a call needs, of the lab's own: Asterisk, Redis and the bridge.

    with Stack() as stack:
        async with stack.phone() as phone:
            await phone.dial("700")

Starts them in turn and stops them in turn, whatever happens meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from bridge.sessions.model import INDEX, call_key
from tests.lab.asterisk import Asterisk, Browser
from tests.lab.baresip import Baresip
from tests.lab.bridge import ONE_WORKER, Bridge, Settings
from tests.lab.capture import Capture, RtpPacket
from tests.lab.redis import Redis
from tests.lab.relay import Relay
from tests.lab.root import LabError, free_port, program

AGENT_EXTENSION = "700"
ECHO_EXTENSION = "701"
HUMAN_EXTENSION = "200"
CALLED = "phone"
"""The endpoint by which a phone is called, at its own SIP port."""


def calling() -> Settings:
    """Settings of a bridge that may call the lab's phones."""
    return {
        "web": {"enabled": True, "port": free_port()},
        "outbound": {
            "enabled": True,
            "destinations": [f"{digit}*" for digit in range(1, 10)],
            "endpoint": f"PJSIP/{CALLED}/sip:caller@127.0.0.1:{{to}}",
            "caller_ids": ["700"],
        },
    }


class Stack:
    """Args:
    settings: of bridge.toml, beyond what the lab gives by itself.
    with_bridge: False for Asterisk and Redis alone.
    address: where Asterisk and Redis listen.
    prefix: words before the bridge's command line.
    browser: for whom the dashboard is served, with a telephone in its page (see `Asterisk`).
    web: the dashboard is served, also without a telephone.
    loss, jitter_ms: of the network between phone and Asterisk, each way (tests/lab/relay.py).
    say: told in a line what is being started.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        with_bridge: bool = True,
        options: Sequence[str] = ONE_WORKER,
        environment: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        browser: Browser | None = None,
        web: bool = False,
        loss: float = 0.0,
        jitter_ms: float = 0.0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.redis = Redis(bind=address)
        self.pbx = Asterisk(browser=browser)
        self.pbx.bind = address
        self.web_port = free_port() if browser or web else 0
        self.web_token = secrets.token_urlsafe(18)
        if self.web_port:
            served = {"web": {"enabled": True, "port": self.web_port}}
            settings = {**served, **(self._telephone() if browser else {}), **(settings or {})}
            environment = {"ARI_BRIDGE_TOKEN": self.web_token, **(environment or {})}
        self.bridge = Bridge(
            *(self.pbx, self.redis),
            settings=settings,
            options=options,
            environment=environment,
            prefix=prefix,
        )
        self.relay: Relay | None = None
        if loss or jitter_ms:
            self.relay = Relay(self.pbx.sip_port, loss=loss, jitter_ms=jitter_ms)
        self._with_bridge = with_bridge
        self._say = say

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            self._say("starting Redis")
            started.enter_context(self.redis)
            self._say("starting Asterisk")
            started.enter_context(self.pbx)
            if self.relay:
                started.enter_context(self.relay)
            if self._with_bridge:
                self._say("starting the bridge (it loads its speech models)")
                started.enter_context(self.bridge)
            self._started = started.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._started.close()

    def _telephone(self) -> Settings:
        return {
            "web.phone": {
                "url": self.pbx.wss_url,
                "user": "browser",
                "password": self.pbx.phone_password,
                # not there before Asterisk is; then the bridge reads it
                "ca_file": lambda: str(self.pbx.certificate),
            },
        }

    @property
    def dashboard(self) -> str:
        """A link to the dashboard that names the token."""
        return f"{self.web_url}/#token={self.web_token}"

    @property
    def web_url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.web_port}"

    def phone(self, *, secure: bool = False, **options: Any) -> Baresip:
        """A phone on this Asterisk: plain SIP and RTP, or `secure`, TLS and SRTP."""
        if not secure:
            port = self.relay.port if self.relay else self.pbx.sip_port
            return Baresip("caller", "", port, **options)
        return Baresip(
            *("secure", self.pbx.phone_password, self.pbx.tls_port),
            transport="tls",
            srtp=True,
            ca=self.pbx.certificate,
            **options,
        )

    def takers(self) -> list[str]:
        """The names of the workers that live and take calls, as they tell one another."""
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as server:
            about = server.hgetall("ari-bridge:{workers}:about")
        return [name for name, text in about.items() if json.loads(text)["takes"]]

    def wait_for_workers(self, count: int, within_s: float = 60.0) -> None:
        """Return when so many workers take calls. Raises `LabError`."""
        until = time.monotonic() + within_s
        while len(there := self.takers()) < count:
            if time.monotonic() > until:
                raise LabError(f"{len(there)} of {count} workers are up; see bridge.log")
            time.sleep(0.1)

    def owner(self, call_id: str | None = None) -> int:
        """The process id of the worker that owns that call, or the last one that began."""
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as server:
            call_id = call_id or next(iter(server.zrange(INDEX, -1, -1)), "")
            # A worker is named HOST-PID-TOKEN.
            worker = server.hget(call_key(call_id), "worker") or ""
        pid = int(worker.rsplit("-", 2)[1]) if worker else 0
        if pid not in self.bridge.children("worker"):
            raise LabError(f"no worker of the lab's owns the call {call_id or '(none)'}")
        return pid

    def kill_worker(self) -> float:
        """`kill -9` the worker that owns the last call; returns when (epoch seconds)."""
        pid = self.owner()
        at = time.time()
        os.kill(pid, signal.SIGKILL)
        return at

    def call(self, phone: Baresip, agent: str) -> str:
        """Have an agent call that phone, as an operator does; gives what the command says. Needs
        the `settings` of `calling`."""
        return self.bridge.command(
            "call", str(phone.sip_port), "--agent", agent, "--no-wait", "--caller-id", "700"
        )

    def place(self, phone: Baresip) -> tuple[str, str] | None:
        """Context and extension where that phone's call is in the dialplan now."""
        return self._places(phone)[0]

    def talks_to(self, phone: Baresip) -> str:
        """The extension that the phone's call has reached: where it is itself, or where whoever it
        was put together with is."""
        place, other = self._places(phone)
        if place == ("ari-bridge-join", "s"):
            place = other
        return place[1] if place is not None else ""

    def _places(self, phone: Baresip) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
        """Of that phone's channel; and of a Local channel's far end."""
        names = (f"PJSIP/{phone.user}-", f"PJSIP/{CALLED}-")
        own: tuple[str, str] | None = None
        far: tuple[str, str] | None = None
        for line in self.pbx.cli("core show channels concise").splitlines():
            fields = line.split("!")
            if len(fields) > 2 and fields[0].startswith(names):
                own = fields[1], fields[2]
            elif len(fields) > 2 and fields[0].endswith(";2"):
                far = fields[1], fields[2]
        return own, far


def capture(
    phone: Baresip, path: Path, listener: Callable[[RtpPacket], None] | None = None
) -> Capture:
    """A capture of that phone's RTP into `path`: `with capture(phone, path) as packets:`."""
    return Capture(path, phone.rtp_ports, program=str(program("tcpdump")), listener=listener)
