"""All checks, one after the other, told as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from bridge.check import engines, pbx, recordings, system
from bridge.check import redis as store
from bridge.check.finding import Finding
from bridge.config import Config


async def findings(
    config: Config, *, connect: bool = True, agent: str = ""
) -> AsyncIterator[Finding]:
    """Everything.

    Args:
        config: the operator's.
        connect: have engines answer, which costs a vendor's answer each.
        agent: whom a bridge that runs is to answer a test call with; "": the one that echoes.
    """
    for one in system.findings(config.media):
        yield one
    for one in await store.findings(config.redis):
        yield one
    agents, wrong = engines.load(Path(config.agents.folder))
    agent = agent or next((one.name for one in agents if one.engine == "echo"), "")
    for asterisk in config.asterisk:
        for one in await pbx.findings(asterisk, config.media, agents, agent):
            yield _named(one, asterisk.name)
    for one in (*wrong, *recordings.findings(agents, config.media)):
        yield one
    here = any(_is_here(asterisk.url) for asterisk in config.asterisk)
    async for one in engines.findings(agents, connect, here):
        yield one


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


def _named(one: Finding, name: str) -> Finding:
    """Which of several Asterisks is meant."""
    said = f"{name}: {one.said}" if name else one.said
    return Finding(one.check, one.state, said, one.cure, one.figures)
