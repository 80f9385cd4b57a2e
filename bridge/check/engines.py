"""Each agent's engine: its file, extras and keys, and an answer to a caller who says hello.

The engine is made as a worker makes it, and begins a call that another process is said to have
begun: the caller's last line waits for an answer. So whatever thinks and speaks for the agent is
really asked once, at the price of one short answer. Nothing that it wants done is done.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from bridge import agent as agents
from bridge import toolbox
from bridge.agent import Agent
from bridge.check import capacity
from bridge.check.finding import Finding
from bridge.engines.base import Audio, Context, EngineEvent, Entry, Failed, ReplyDone, Resume
from bridge.engines.life import autonomous
from bridge.engines.registry import Engines
from bridge.errors import BridgeError, ConfigError

HELLO = "Hello, can you hear me?"
_RATE = 8000
_ANSWER_S = 10.0


class _Answered(Exception):
    """Enough was heard."""


def load(folder: Path) -> tuple[list[Agent], list[Finding]]:
    """Every agent, and what is wrong with those that can't be read."""
    found, wrong = [], []
    for path in sorted(folder.glob("*.toml")):
        try:
            agent = agents.load(folder, path.stem)
            toolbox.check(agent)
            found.append(agent)
        except ConfigError as error:
            wrong.append(Finding(f"agent {path.stem}", "fail", str(error)))
    if not found and not wrong:
        why = f"there is none in {folder}"
        wrong.append(Finding("agents", "fail", why, "set [agents] folder to where their files are"))
    names = {agent.name for agent in found}
    for agent in found:
        if agent.fallback and agent.fallback not in names:
            said = f"its fallback '{agent.fallback}' can't be used"
            cure = f"name one of {', '.join(sorted(names - {agent.name})) or 'none: write one'}"
            wrong.append(Finding(f"fallback {agent.name}", "fail", said, cure))
    return found, wrong


async def findings(
    found: list[Agent], connect: bool = True, asterisk_here: bool = True
) -> AsyncIterator[Finding]:
    """One an agent.

    Args:
        found: the agents.
        connect: have each answer.
        asterisk_here: it takes its part of this machine too.
    """
    work_ms = capacity.work_ms()
    engines = Engines()
    try:
        for agent in found:
            one = await _of(engines, agent, connect)
            if one.state == "ok":
                most = capacity.calls(
                    agent, asterisk_here=asterisk_here, work_ms=work_ms, cores=capacity.cores()
                )
                said = f"{one.said}; this machine carries about {most} such calls"
                one = replace(one, said=said, figures={**one.figures, "calls": most})
            yield one
    finally:
        await engines.close()


async def _of(engines: Engines, agent: Agent, connect: bool) -> Finding:
    name = f"agent {agent.name}"
    clock = asyncio.get_running_loop().time
    begun = clock()
    try:
        await toolbox.prepare(agent)
        await engines.prepare(agent)
        loaded_s = clock() - begun
        if not connect:
            return Finding(name, "ok", f"engine {agent.engine} is loaded")
        begun = clock()
        heard = await _answer(engines, agent)
    except BridgeError as error:
        return Finding(name, "fail", f"engine {agent.engine}: {error}")
    took_ms = (clock() - begun) * 1000
    figures = {"load_s": round(loaded_s, 2), "answer_ms": round(took_ms, 1)}
    if heard:
        said = f"engine {agent.engine} answers in {took_ms:.0f} ms"
        return Finding(name, "ok", said, "", figures)
    if heard is None:
        said = f"engine {agent.engine} connects in {took_ms:.0f} ms"
        return Finding(name, "ok", said, "", figures)
    said = f"engine {agent.engine} connects, and says nothing within {_ANSWER_S:g} s"
    return Finding(name, "fail", said, "look at its own log, or raise engine_silent_s", figures)


async def _answer(engines: Engines, agent: Agent) -> bool | None:
    """Whether it speaks; None: it need not. Raises `BridgeError`."""
    engine = await engines.create(agent)
    quiet = agent.engine == "echo" or autonomous(engine)
    items = itertools.count(100)
    told: asyncio.Queue[EngineEvent] = asyncio.Queue()

    async def room() -> None:
        """There is always room."""

    heard: bool | None = False
    fault: BaseExceptionGroup[BridgeError] | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            context = Context(
                call_id="check",
                agent=agent,
                caller_number="",
                rate=engine.rate or _RATE,
                emit=told.put_nowait,
                new_item=lambda: next(items),
                room=room,
                tasks=tasks,
                history=(Entry("agent", agent.greeting or "Hello."), Entry("caller", HELLO)),
                resume=Resume(),
            )
            try:
                async with asyncio.timeout(_ANSWER_S):
                    await engine.start(context)
                    heard = None if quiet else await _heard(told)
            except TimeoutError:
                pass
            finally:
                await engine.close()
            raise _Answered  # ends what tasks are left
    except* _Answered:
        pass
    except* BridgeError as faults:
        fault = faults
    if fault is not None:
        raise _first(fault)
    return heard


def _first(group: BaseExceptionGroup[BridgeError]) -> BridgeError:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


async def _heard(told: asyncio.Queue[EngineEvent]) -> bool:
    while True:
        match await told.get():
            case Audio() | ReplyDone():
                return True
            case Failed(reason):
                raise ConfigError(reason)
