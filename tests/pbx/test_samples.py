"""The sample agents as they stand: a call with each, judged by what its caller received.

They all talk at the same time, on one Asterisk and one worker. Two of them call: by the API, with
variables. One is held a second time with a service in the place of its table.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import redis
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.agent import load as load_agent
from bridge.engines.base import Shared
from bridge.engines.offline import OfflineProvider
from bridge.sessions.model import INDEX
from tests.demo.caller import Caller
from tests.demo.follow import transcript_key
from tests.demo.hear import Listener
from tests.demo.judge import judge
from tests.demo.script import Script, load
from tests.demo.voice import clip
from tests.lab.baresip import Baresip
from tests.lab.capture import digits, lay_out
from tests.lab.root import REPOSITORY, free_port
from tests.lab.speech import Ear
from tests.lab.stack import Stack, capture
from tests.pbx.outbound import TOKEN, Api

AGENTS = REPOSITORY / "agents" / "samples"
SCRIPTS = REPOSITORY / "tests" / "data" / "samples"
INBOUND = ("receptionist", "support", "orders", "service")
VARIABLES = {
    "reminder": {"customer": "Anna", "day": "Tuesday", "time": "half past ten"},
    "sales": {"customer": "Anna"},
}
DONE = (
    "set_variable CALL_REASON call back",
    "set_variable APPOINTMENT confirmed",
    "set_variable INTEREST ordered",
    "order_status failed: 127.0.0.1 answers 404 Not Found: no such order",
    "order_status 4711",
)
MISHEARD = 2
"""The caller's voice is synthetic, our ears and the judge's are small: of 20 turns so
many may be misheard."""
DIALPLAN = "\n[ari-bridge]\n" + "\n".join(
    f"exten => {710 + n},1,Set(ARI_BRIDGE_AGENT={name})\n"
    " same => n,Goto(ari-bridge-call,${EXTEN},1)"
    for n, name in enumerate(INBOUND)
)


@pytest.mark.parametrize("name", sorted(path.stem for path in AGENTS.glob("*.toml")))
def test_it_is_understood_as_it_stands(name):
    OfflineProvider(load_agent(AGENTS, name), Shared())
    assert (SCRIPTS / f"{name}.toml").exists()


@pytest.fixture
async def service():
    """Knows one order."""

    async def order(request: web.Request) -> web.Response:
        if request.match_info["order"] != "4711":
            return web.Response(status=404, text="no such order")
        return web.json_response({"state": "leaves on Friday", "by": "van"})

    app = web.Application()
    app.router.add_get("/orders/{order}", order)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def with_service(text: str, url: str) -> str:
    """The agent `orders`, whose numbers a service looks up."""
    tool = f"""
[tool.order_status]
type = "http"
description = "Where an order is."
url = "{url}/orders/{{order}}"
parameters.order = {{ type = "string" }}
[offline]"""
    lookup = """
[offline.intents.lookup]
tool = "order_status"
argument = "order"
"""
    head, _, rest = text.partition("[offline.intents.lookup.table]")
    text = head + rest.partition("\n\n")[2]
    text = text.replace("\n[offline]", tool, 1)
    text = text.replace("\n[offline.intents.lookup]\n", lookup)
    return text.replace("{digits} {value}", "{digits} {state}")


@contextlib.contextmanager
def up(folder: Path, url: str) -> Iterator[tuple[Stack, int]]:
    """A stack with these agents, and the port of its API."""
    shutil.copytree(AGENTS, folder)
    (folder / "service.toml").write_text(with_service((folder / "orders.toml").read_text(), url))
    for path in folder.glob("*.toml"):  # a slow machine's engine isn't lost
        path.write_text("engine_silent_s = 30\n" + path.read_text())
    port = free_port()
    settings = {
        "web": {"enabled": True, "port": port},
        "outbound": {
            "enabled": True,
            "destinations": [f"{n}*" for n in range(1, 10)],
            "endpoint": "PJSIP/phone/sip:caller@127.0.0.1:{to}",
            "max_calls": 2,
        },
        "agents": {"folder": str(folder)},
    }
    with Stack(settings=settings, environment={"ARI_BRIDGE_TOKEN": TOKEN}) as stack:
        with (stack.pbx.etc / "extensions.conf").open("a") as file:
            file.write(DIALPLAN)
        stack.pbx.cli("dialplan reload")
        yield stack, port


def reached(stack: Stack, extension: str) -> bool:
    """Whether any caller is there."""
    lines = stack.pbx.cli("core show channels concise").splitlines()
    return any(line.split("!")[2:3] == [extension] for line in lines)


async def talk(name: str, stack: Stack, api: Api, folder: Path, listener: Listener) -> list[str]:
    """Hold the call of that script; what was wrong with it."""
    script: Script = load(SCRIPTS / f"{name}.toml")
    texts = sorted({turn.say for turn in script.turns if turn.say})
    clips = {text: await asyncio.to_thread(clip, text) for text in texts}
    ear = Ear()
    async with stack.phone() as phone:
        with capture(phone, folder / f"{name}.pcap", ear.feed) as recording:
            zero = time.time()
            await begin(name, script, phone, api)
            caller = Caller(
                *(phone, ear, script, clips),
                reached=lambda extension: reached(stack, extension),
                say=lambda what, text: None,
            )
            await caller.talk()
            await phone.hangup()
        packets = recording.packets
    end = packets[-1].at
    sent = lay_out(packets, sent=True, start=zero, end=end)
    received = lay_out(packets, sent=False, start=zero, end=end)
    verdict = judge(script, caller.marks, sent, received, digits(packets), listener.texts)
    wrong = [
        f"{name}: {turn.turn.text} → {turn.heard!r}" for turn in verdict.turns if not turn.right
    ]
    if verdict.greeting_missing:
        wrong.append(f"{name}: greeted with {verdict.greeting!r}")
    last = verdict.turns[-1]
    if last.turn.expect_extension and last.right and caller.reached_at is None:
        wrong.append(f"{name}: nobody was reached")
    return wrong


async def begin(name: str, script: Script, phone: Baresip, api: Api) -> None:
    """Call the agent, or be called by it; returns when the call is up."""
    if name not in VARIABLES:
        await phone.dial(script.dial)
        return
    answering = asyncio.create_task(phone.answer())
    await api.call(str(phone.sip_port), agent=name, variables=VARIABLES[name])
    await answering


def said(url: str) -> list[str]:
    """The transcripts of all calls."""
    with redis.Redis.from_url(url, decode_responses=True) as store:
        calls = store.zrange(INDEX, 0, -1)
        lines = [line for call in calls for _, line in store.xrange(transcript_key(call))]
    return [f"{line['role']}: {line['text']}" for line in lines]


async def test_what_their_callers_received(service, tmp_path):
    with up(tmp_path / "agents", service) as (stack, port):
        listener = Listener()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
            talks = (
                talk(name, stack, Api(session), tmp_path, listener)
                for name in (*INBOUND, *VARIABLES)
            )
            wrong = [line for lines in await asyncio.gather(*talks) for line in lines]
        listener.close()
        told = "\n".join([*wrong, *said(stack.redis.url)])
        assert len(wrong) <= MISHEARD, told
        missing = {f"event: {what}" for what in DONE} - set(said(stack.redis.url))
        assert len(missing) <= len(wrong), (missing, told)
        assert await asyncio.to_thread(stack.pbx.wait_idle) == []
