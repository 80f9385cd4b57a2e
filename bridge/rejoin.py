"""A caller whose line dropped calls again: his conversation is offered to him.

Only where the agent says so (`rejoin_s`), never to a caller who hides his number, and once. What
was said then becomes the first part of the new call's transcript, so that whoever takes the new
call over knows it too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from bridge.engines.base import Context
from bridge.errors import StoreUnreachable
from bridge.recall import Memory
from bridge.sessions.base import Store
from bridge.sessions.model import Line

log = logging.getLogger(__name__)

LOOK_S = 0.3
"""The caller waits meanwhile."""


async def rejoined(store: Store, context: Context) -> Context:
    """What the engine of a new call is started with, if its caller may be back."""
    agent = context.agent
    if not agent.rejoin_s:
        return context
    store.put(context.call_id, rejoin_s=agent.rejoin_s)
    try:
        async with asyncio.timeout(LOOK_S):
            found = await store.rejoin(agent.name, context.caller_number)
    except (StoreUnreachable, TimeoutError) as error:
        log.warning("whether this caller was cut off is not known: %s", error or "Redis is slow")
        return context
    if found is None:
        return context
    record, lines = found
    log.info("the caller is back from call %s, which was cut off", record.call_id)
    for line in lines:
        if line.role != "event":
            store.say(context.call_id, line)
    store.say(context.call_id, Line(time.time(), "event", f"back from call {record.call_id}"))
    return replace(context, history=Memory(record, lines).history(), rejoin=agent.rejoin_greeting)
