"""Commands that speak with the API: `call`, `calls`, `show` and what can be done with a call."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from bridge.config import Config
from bridge.errors import ConfigError
from bridge.web import explain
from bridge.web.client import Client, call_path

_LOOK_S = 0.5
_ERASE_S = 600.0
"""All calls and all recordings' notes are gone through."""


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line."""

    help: str
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Client, argparse.Namespace], int]


def run(config: Config, options: argparse.Namespace) -> int:
    """Run one of `COMMANDS`; gives the exit status."""
    return COMMANDS[options.command].run(Client(config), options)


# Looking ------------------------------------------------------------------------------------------


def _calls_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="also those that have ended")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="default: 20")


def _calls(client: Client, options: argparse.Namespace) -> int:
    query = {"limit": options.limit, "live": "false" if options.all else "true"}
    found = client.ask("GET", f"/v1/calls?{urlencode(query)}")
    print(explain.table(found["calls"]))
    return 0


def _id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="as 'ari-bridge calls' shows it")


def _show(client: Client, options: argparse.Namespace) -> int:
    print(explain.whole(client.ask("GET", call_path(options.id))))
    return 0


def _listen(client: Client, options: argparse.Namespace) -> int:
    if sys.stdout.isatty():
        raise ConfigError("this gives sound: send it to a player, such as `… | aplay`")
    try:
        for piece in client.stream(call_path(options.id, "listen")):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except (BrokenPipeError, KeyboardInterrupt):  # enough was heard
        return 130
    return 0


# Doing --------------------------------------------------------------------------------------------


def _call_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", metavar="TO", help="a number that [outbound] destinations allows")
    parser.add_argument("--agent", required=True, metavar="NAME", help="who speaks")
    parser.add_argument("--caller-id", default="", metavar="NUMBER", help="to be shown")
    parser.add_argument(
        *("--var",), action="append", default=[], metavar="NAME=VALUE", help="for the agent"
    )
    parser.add_argument("--timeout", type=int, metavar="S", help="so long it may ring")
    parser.add_argument(
        "--machine",
        choices=("hang-up", "tell"),
        default="",
        help="if an answering machine answers: hang up, or tell the agent",
    )
    parser.add_argument("--asterisk", default="", metavar="NAME", help="which one calls")
    parser.add_argument(
        "--key", default="", metavar="KEY", help="asked for twice with it, it is called once"
    )
    parser.add_argument("--no-wait", action="store_true", help="don't wait for its end")


def _call(client: Client, options: argparse.Namespace) -> int:
    """0: he answered."""
    variables = {}
    for text in options.var:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--var takes NAME=VALUE, not '{text}'")
        variables[name] = value
    order: dict[str, Any] = {
        "to": options.to,
        "agent": options.agent,
        "caller_id": options.caller_id,
        "variables": variables,
        "machine": options.machine,
        "asterisk": options.asterisk,
        "idempotency_key": options.key,
    }
    if options.timeout is not None:
        order["timeout_s"] = options.timeout
    call = client.ask("POST", "/v1/calls", order)
    print(f"call {call['id']} to {call['dialed']}", flush=True)
    if options.no_wait:
        return 0
    try:
        return _follow(client, call["id"])
    except KeyboardInterrupt:
        print(f"it goes on: 'ari-bridge hangup {call['id']}' ends it")
        return 130


def _follow(client: Client, call_id: str) -> int:
    state = ""
    while True:
        call = client.ask("GET", call_path(call_id))
        if call["state"] != state:
            state = call["state"]
            if state != "ended":
                print(state, flush=True)
                continue
            print(explain.plain(f"{call['result']}: {call['reason']}"))
            return 0 if call["answered"] else 1
        time.sleep(_LOOK_S)


def _verb(verb: str, *texts: str, **fixed: Any) -> Callable[[Client, argparse.Namespace], int]:
    def do(client: Client, options: argparse.Namespace) -> int:
        body = {**{name: getattr(options, name) for name in texts}, **fixed}
        client.ask("POST", call_path(options.id, verb), body)
        return 0

    return do


def _erase_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", metavar="NUMBER", help="exactly as 'ari-bridge calls' shows it")
    parser.add_argument("--yes", action="store_true", help="don't ask")


def _erase(client: Client, options: argparse.Namespace) -> int:
    """0: all that this host has of him is gone."""
    number = options.number
    if not options.yes:
        if not sys.stdin.isatty():
            raise ConfigError("nobody can be asked here: say --yes to erase")
        question = f"Erase all that is kept of {number}: records, transcripts, recordings? [y/N] "
        if input(question).strip().lower() not in ("y", "yes"):
            print("nothing was erased")
            return 1
    path = f"/v1/callers/{quote(number, safe='')}"
    gone = client.ask("DELETE", path, within_s=_ERASE_S)
    print(f"erased of {number}: calls {gone['calls']}, recordings {gone['recordings']}")
    if gone["not_here"]:
        print(
            f"recordings that this host doesn't have: {gone['not_here']}. They were deleted "
            "before, or lie on another host: erase him there, too"
        )
    if gone["live"]:
        print(f"calls that go on, left alone: {gone['live']}. Erase him again when they are over")
    return 1 if gone["live"] else 0


def _id_and(name: str, text: str) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        _id(parser)
        parser.add_argument(name, metavar=name.upper(), help=text)

    return add


COMMANDS = {
    "calls": Command("list the calls that are under way", _calls_options, _calls),
    "show": Command("explain a call: who, how long, what was said and heard", _id, _show),
    "listen": Command("what both sides say from now on, as a WAV to a player", _id, _listen),
    "call": Command("have an agent call somebody", _call_options, _call),
    "hangup": Command("end a call", _id, _verb("hangup")),
    "transfer": Command(
        "hand a caller over", _id_and("to", "as its agent may transfer to"), _verb("transfer", "to")
    ),
    "mute": Command("silence a call's agent", _id, _verb("mute", on=True)),
    "unmute": Command("let a call's agent speak again", _id, _verb("mute", on=False)),
    "say": Command(
        "have a call's agent say a sentence", _id_and("text", "the sentence"), _verb("say", "text")
    ),
    "erase": Command("erase all that is kept of one caller", _erase_options, _erase),
}
