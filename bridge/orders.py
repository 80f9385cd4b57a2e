"""What may be ordered of a worker from elsewhere: to call somebody, and to act on its calls.

An order names a call; a worker that doesn't have it says so (`not-here`), and its giver asks who
owns the call now. Whatever is refused is refused with a code and a reason.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bridge import outbound
from bridge.call import Call, NotYet
from bridge.calls import Calls
from bridge.errors import BridgeError, PbxGone, StoreUnreachable
from bridge.outbound import NotAllowed, OutboundSettings
from bridge.pbx.base import Incoming, Outgoing, Pbx

log = logging.getLogger(__name__)

Arguments = Mapping[str, Any]
Answer = Mapping[str, Any]


class Refusal(BridgeError):
    """The order can't be carried out."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


async def _hang_up(call: Call, arguments: Arguments) -> Answer:
    await call.cancel(str(arguments.get("reason") or "hung up over the API"))
    return {}


async def _transfer(call: Call, arguments: Arguments) -> Answer:
    await call.transfer(str(arguments["to"]))
    return {}


async def _mute(call: Call, arguments: Arguments) -> Answer:
    call.talk.mute(bool(arguments["on"]))
    return {}


async def _say(call: Call, arguments: Arguments) -> Answer:
    if not call.talk.say(str(arguments["text"])):
        raise Refusal(
            "can-not-say",
            "the agent's engine can't be told what to say: its bot alone decides that",
        )
    return {}


async def _listen(call: Call, arguments: Arguments) -> Answer:
    number, (host, port) = await call.spy((str(arguments["host"]), int(arguments["port"])))
    return {"number": number, "host": host, "port": port}


async def _listens(call: Call, arguments: Arguments) -> Answer:
    call.renew_spy(int(arguments["number"]))
    return {}


async def _unlisten(call: Call, arguments: Arguments) -> Answer:
    await call.unspy(int(arguments["number"]))
    return {}


async def _record(call: Call, arguments: Arguments) -> Answer:
    if not call.record(bool(arguments["on"])):
        raise Refusal("not-recorded", "the call is not recorded: [recording] of its agent's file")
    return {}


VERBS: dict[str, Callable[[Call, Arguments], Awaitable[Answer]]] = {
    "hang_up": _hang_up,
    "transfer": _transfer,
    "mute": _mute,
    "say": _say,
    "listen": _listen,
    "listens": _listens,
    "unlisten": _unlisten,
    "record": _record,
}
"""What can be done with a call that is under way: add yours here."""


class Orders:
    """One worker's."""

    def __init__(
        self,
        calls: Calls,
        pbxs: Mapping[str, Pbx],
        settings: Callable[[], OutboundSettings],
        place: Callable[[str], Awaitable[bool]],
        ready: Callable[[], bool],
    ) -> None:
        """Take none yet.

        Args:
            calls: ours.
            pbxs: where we can call, by name.
            settings: the operator's rules, as they are now.
            place: whether we may place that call: true for one worker, once.
            ready: whether we take new calls.
        """
        self._calls, self._pbxs = calls, pbxs
        self._settings, self._place, self._ready = settings, place, ready

    async def carry_out(self, verb: str, call_id: str, arguments: Arguments) -> Answer:
        """Do it. What can't be done is an answer with `error` and `reason`."""
        try:
            if verb == "place":
                return await self._call(call_id, arguments)
            if (call := self._calls.get(call_id)) is None:
                raise Refusal("not-here", f"this worker doesn't have the call {call_id}")
            return await VERBS[verb](call, arguments)
        except Refusal as refusal:
            return {"error": refusal.code, "reason": str(refusal)}
        except NotAllowed as error:
            return {"error": "forbidden", "reason": str(error)}
        except NotYet as error:
            return {"error": "not-ready", "reason": str(error)}
        except PbxGone:
            return {"error": "ended", "reason": "the call has ended"}
        except StoreUnreachable as error:
            return {"error": "store-away", "reason": str(error)}
        except BridgeError as error:
            return {"error": "refused", "reason": str(error)}
        except Exception:  # one order's fault must not end the others
            log.exception("order '%s' for call %s failed", verb, call_id)
            return {"error": "fault", "reason": "a fault of the bridge: see the worker's log"}

    async def _call(self, call_id: str, arguments: Arguments) -> Answer:
        settings = self._settings()
        # The rules are this worker's, whatever the one that asks has read in its own.
        to = outbound.destination(settings, str(arguments["to"]))
        agent = outbound.agent(settings, str(arguments["agent"]))
        variables = outbound.variables(dict(arguments.get("variables") or {}))
        out = Outgoing(
            endpoint=outbound.endpoint(settings, to),
            caller_id=outbound.caller_id(settings, str(arguments.get("caller_id") or "")),
            ring_s=outbound.ring_s(settings, arguments.get("timeout_s")),
            variables=variables,
            machine=arguments.get("machine") or "",
        )
        name = str(arguments.get("asterisk") or "")
        if (pbx := self._pbxs.get(name)) is None:
            raise Refusal("forbidden", f"no [[asterisk]] of this worker is named '{name}'")
        if not self._ready():
            raise Refusal("not-ready", "this worker takes no calls now")
        if not await self._place(call_id):
            raise Refusal("placed", "this call was placed already")
        incoming = Incoming(
            call_id=call_id,
            args=(agent, *(f"{name}={value}" for name, value in variables.items())),
            caller_number=to,
            caller_name="",
            dialed=to,
            language="",
            codec="PCMU",
            pbx=name,
            outgoing=out,
        )
        self._calls.begin(pbx.originate(incoming), None)
        return {"call_id": call_id}


def new_call_id() -> str:
    """Of a call of ours, within one PBX."""
    return f"out-{secrets.token_hex(8)}"
