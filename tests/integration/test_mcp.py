"""Tools of real MCP servers: processes of their own, written with the SDK and without it."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from bridge import toolbox
from bridge.agent import Agent
from bridge.engines.functions import declared
from bridge.errors import ToolError
from bridge.minds import Minds
from bridge.toolbox import ToolContext, mcp, mcp_process
from bridge.tooltables import McpTool

STANDINS = Path(__file__).parents[1] / "standins"
GOOD, BAD = STANDINS / "mcp_server.py", STANDINS / "mcp_bad.py"
CALL = ToolContext("c1", "c1:3:abc:1", "0123", "shop", line=None, notes={})
HOME = Path("agents")
LONG_S = 60
"""For what takes a second or two."""


@pytest.fixture(autouse=True)
async def over():
    yield
    await toolbox.close()


def agent(script, *tools, env=None, **more):
    more.setdefault("timeout_s", 30.0)
    table = {"command": (sys.executable, str(script)), "env": env or {}, **more}
    if "url" in more:
        del table["command"], table["env"]
    return Agent("shop", tool={"crm": McpTool("mcp", tools, **table)}, file="agents/shop.toml")


async def use(one, name, **arguments):
    return await toolbox.named(name, one)(CALL, **arguments)


async def until(one, name, **arguments):
    """What it answers once its server is there."""
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await use(one, name, **arguments)
            except ToolError as error:
                said = str(error)
                assert "isn't there" in said or "ended" in said
                await asyncio.sleep(0.1)


async def test_its_tools_are_told_of_and_used(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "4711")
    monkeypatch.setenv("NOT_FOR_SERVERS", "x")
    env = {"DIARY": str(tmp_path / "diary"), "SHOP_KEY": "${SHOP_KEY}"}
    names = ("stock", "reserve", "fail", "much", "secret", "key", "die")
    shop = agent(GOOD, *names, env=env)
    await toolbox.servers(shop, LONG_S)
    told = {one.name: one for one in declared(shop)}
    assert set(told) == {"hang_up", *names}  # what it has besides isn't ours
    assert told["stock"].description == "How many copies of a book are there."
    assert told["stock"].parameters["required"] == ["title"]
    assert [toolbox.may_run_again(name, shop) for name in ("stock", "reserve")] == [True, False]

    assert await use(shop, "stock", title="Emma") == "seven copies of Emma"
    assert "'copies': '2'" in (await use(shop, "reserve", title="Emma", copies=2)).replace('"', "'")
    with pytest.raises(ToolError, match="title Field required"):
        await use(shop, "stock")
    with pytest.raises(ToolError, match=r"^Error executing tool fail$"):
        await use(shop, "fail")
    assert len(await use(shop, "much")) == 8000
    assert await use(shop, "secret") == "4711 None"
    keys = {await use(shop, "key") for _ in range(2)}
    assert len(keys) == 1
    assert "ari-bridge/idempotency-key" in keys.pop()

    with pytest.raises(ToolError, match="the server ended; it is not known whether it was done"):
        await use(shop, "die")
    assert await until(shop, "stock", title="Persuasion") == "seven copies of Persuasion"
    done = [line for line in Path(env["DIARY"]).read_text().splitlines() if "started" not in line]
    assert done == ["stock Emma", "reserve Emma", "died", "stock Persuasion"]

    await toolbox.close()
    pid = int(Path(env["DIARY"]).read_text().rpartition("started ")[2].split()[0])
    async with asyncio.timeout(LONG_S):
        while _runs(pid):
            await asyncio.sleep(0.05)


async def test_who_waits_holds_up_nobody_and_gives_up_alone(tmp_path):
    shop = agent(GOOD, "slow", "stock", env={"DIARY": str(tmp_path / "diary")})
    await toolbox.servers(shop, LONG_S)
    slow = asyncio.create_task(use(shop, "slow", seconds=0.3 * LONG_S))
    await asyncio.sleep(0)
    assert await use(shop, "stock", title="Emma")
    slow.cancel()
    await asyncio.wait([slow])
    assert await until(shop, "stock", title="Emma")
    assert "slow" not in (tmp_path / "diary").read_text()


async def test_what_it_says_wrong_or_at_length_is_its_own_affair():
    shop = agent(BAD, "good", "garbage", "wrong", "huge")
    await toolbox.servers(shop, LONG_S)
    assert await use(shop, "garbage") == "fine"
    with pytest.raises(ToolError, match=r"^what it answers isn't what the protocol has for that$"):
        await use(shop, "wrong")
    assert len(await use(shop, "huge")) == 8000
    assert await use(shop, "good") == "fine"


async def test_a_large_worker_makes_no_large_client():
    ballast = b"x" * (mcp_process.MOST_KB * 1100)  # the child of a process inherits what it had
    shop = agent(BAD, "good")
    await toolbox.servers(shop, LONG_S)
    del ballast
    began = mcp.server_of("crm", shop.tool["crm"], HOME).why
    await asyncio.sleep(3 * mcp_process.LOOK_S)
    assert await use(shop, "good") == "fine"
    assert mcp.server_of("crm", shop.tool["crm"], HOME).why == began  # it has not ended


async def test_one_that_hangs_or_talks_without_an_end_is_started_again(monkeypatch):
    monkeypatch.setattr(mcp, "ANSWER_S", 1.5)

    async def survives(worst):
        shop = agent(BAD, worst, "good", env={"WORST": worst})  # each has one of its own
        await toolbox.servers(shop, LONG_S)
        with pytest.raises((TimeoutError, ToolError)):
            async with asyncio.timeout(1):
                await use(shop, worst)
        async with asyncio.timeout(LONG_S):
            while mcp.server_of("crm", shop.tool["crm"], HOME).up.is_set():
                await asyncio.sleep(0.05)
        return await until(shop, "good")

    every = [survives(worst) for worst in ("hang", "endless", "flood")]
    assert await asyncio.gather(*every) == ["fine"] * 3


async def test_one_that_doesnt_start_costs_its_tools_and_a_line(caplog):
    shop = agent(BAD, "good", env={"MANNERS": "crash"})
    await toolbox.servers(shop, LONG_S)
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    why = "the MCP server 'crm' isn't there: no licence was found"
    assert said == f"{why}; it is tried again"
    assert [one.name for one in declared(shop)] == ["hang_up"]
    with pytest.raises(ToolError, match=f"^{why}$"):
        await use(shop, "good")


async def test_one_that_says_nothing_holds_up_nobody():
    shop = agent(BAD, "good", env={"MANNERS": "silent"}, timeout_s=0.2)
    await toolbox.servers(shop, 0.1)
    with pytest.raises(ToolError, match="isn't there: it is being started"):
        await use(shop, "good")


async def test_a_tool_that_it_lacks_is_told_of_once(caplog):
    shop = agent(BAD, "good", "god", env={"MANNERS": "loop"})
    for _ in range(2):
        await toolbox.servers(shop, LONG_S)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    where = "agents/shop.toml [tool.crm]: the MCP server 'crm' has no tool 'god'"
    assert said == [f"{where}; did you mean 'good'?"]
    assert [one.name for one in declared(shop)] == ["hang_up", "good"]


async def test_one_at_a_url_may_go_and_come_back(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shop = agent(GOOD, "stock", "reserve", url=f"http://127.0.0.1:{port}/mcp")
    await toolbox.servers(shop, LONG_S)  # nobody is there yet
    assert [one.name for one in declared(shop)] == ["hang_up"]
    for title in ("Emma", "Persuasion"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(GOOD), "http", str(port)), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            assert await until(shop, "stock", title=title) == f"seven copies of {title}"
            assert [one.name for one in declared(shop)] == ["hang_up", "stock", "reserve"]
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        with pytest.raises(ToolError):
            await use(shop, "reserve", title=title)


@pytest.mark.parametrize("shown_by", ["a call", "a reload"])
async def test_one_that_no_file_declares_any_more_ends_once_no_call_needs_it(tmp_path, shown_by):
    file, diary = tmp_path / "shop.toml", tmp_path / "diary"
    table = f"[tool.crm]\ntype = 'mcp'\ntools = ['stock']\ncommand = ['{sys.executable}', '{GOOD}']"
    file.write_text(f"engine = 'echo'\n{table}\nenv = {{ DIARY = '{diary}' }}\n")
    minds = Minds(lambda: tmp_path)
    shop, engine = await minds.make("shop")
    assert await until(shop, "stock", title="Emma")
    pid = int(diary.read_text().rpartition("started ")[2].split()[0])
    file.write_text("engine = 'echo'\n")

    async def shown():
        if shown_by == "a reload":
            await minds.prepare()
        else:
            await (await minds.make("shop"))[1].close()

    await shown()
    assert await use(shop, "stock", title="Persuasion"), "a call that began before has it"
    await engine.close()
    del shop, engine
    gc.collect()
    await shown()
    async with asyncio.timeout(LONG_S):
        while _runs(pid):
            await asyncio.sleep(0.05)
    assert mcp._servers == {}
    await minds.close()


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
