"""The command line: what runs (`run`, `media`, `worker`, `web`), what looks (`config`), and what
speaks with the API (`call`, `calls`, `show`, ...).

Exit status: 0 stopped or done as asked, 1 something that it needs went away (start it again), 2
only the operator can help (the last line on stderr says how).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge import __version__, launcher
from bridge.agent import recording_folders
from bridge.config import Config, load, read
from bridge.errors import BridgeError, ConfigError, MediaUnreachable
from bridge.logs import set_up
from bridge.web import cli as api


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "config":
            return _config(options)
        config = load(options.config)
        set_up(config.log.level, config.log.format)
        if options.command in api.COMMANDS:
            return api.run(config, options)
        return _COMMANDS[options.command](config, options)
    except MediaUnreachable as error:
        print(f"ari-bridge: {error}", file=sys.stderr)
        return 1
    except BridgeError as error:
        print(f"ari-bridge: {error}", file=sys.stderr)
        return launcher.EXIT_CONFIG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ari-bridge", description="Connects calls of an Asterisk PBX to AI voice agents."
    )
    parser.add_argument("--version", action="version", version=f"ari-bridge {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("check", "would a call work? Try what it needs, and name what to mend"),
        ("config", "print the settings that hold, and where each comes from"),
        ("run", "start the media process and workers, and keep them running"),
        ("media", "the media process alone: RTP in and out"),
        ("worker", "a worker alone: calls, dialog, engines"),
        ("recorder", "the recorder alone: writes recorded calls to files"),
        ("relay", "the relay alone: audio by WebSocket and TLS; a second one stands by"),
        ("web", "the API alone, over HTTP"),
        ("token", "show the token that the API wants"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if name == "check":
            command.add_argument("--json", action="store_true", help="for programs")
            command.add_argument(
                "--agent",
                default="",
                metavar="NAME",
                help="who answers the call to a running bridge",
            )
            command.add_argument(
                "--no-connect", action="store_true", help="load engines, but have none answer"
            )
        if name == "config":
            what = command.add_mutually_exclusive_group()
            what.add_argument(
                "--schema",
                choices=("bridge", "agent"),
                nargs="?",
                const="bridge",
                help="the JSON schema of bridge.toml (or of an agent's file) for editors",
            )
            what.add_argument("--markdown", action="store_true", help="all keys, as a document")
        if name == "run":
            command.add_argument(
                "--workers",
                type=int,
                default=len(os.sched_getaffinity(0)),
                metavar="N",
                help="default: one a core",
            )
            command.add_argument(
                "--spares", type=int, default=0, metavar="N", help="workers that wait for a death"
            )
        if name == "worker":
            command.add_argument(
                *("--active", "-a"),
                type=int,
                default=0,
                metavar="N",
                help="workers that take calls; what is started beyond waits for a death",
            )
        if name == "media":
            command.add_argument(
                "--standby", action="store_true", help="wait for the death of the one that runs"
            )
        command.add_argument("--config", type=Path, metavar="FILE", help="default: ./bridge.toml")
    for name, one in api.COMMANDS.items():
        command = commands.add_parser(name, help=one.help, description=one.help)
        one.add(command)
        command.add_argument("--config", type=Path, metavar="FILE", help="default: ./bridge.toml")
    return parser


def _config(options: argparse.Namespace) -> int:
    from bridge import configshow, schema

    if options.schema:
        found = schema.of_agent() if options.schema == "agent" else schema.of_bridge()
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif options.markdown:
        print(schema.markdown())
    else:
        print(configshow.text(*read(options.config)), end="")
    return 0


def _check(config: Config, options: argparse.Namespace) -> int:
    from bridge.check import finding, run

    async def told() -> list[finding.Finding]:
        found = []
        connect = not options.no_connect
        async for one in run.findings(config, connect=connect, agent=options.agent):
            found.append(one)
            if not options.json:
                print(one.line, flush=True)
        return found

    set_up("error")  # what goes wrong is told as a finding
    found = asyncio.run(told())
    if options.json:
        print(finding.as_json(found))
    return finding.status(found)


def _run(config: Config, options: argparse.Namespace) -> int:
    def drain_s() -> float:
        try:
            return load(options.config).worker.drain_s  # workers may have read it anew
        except ConfigError:
            return config.worker.drain_s

    folder = Path(config.media.runtime_dir)
    return asyncio.run(
        launcher.run(
            *(options.config, folder, options.workers, options.spares, drain_s),
            web=config.web.enabled,
            relay=config.needs_relay,
        )
    )


def _media(config: Config, options: argparse.Namespace) -> int:
    from bridge.media.server import serve  # numpy's start-up time only where it is needed

    serve(config.media, standby=options.standby)
    return 0


def _worker(config: Config, options: argparse.Namespace) -> int:
    from bridge import metrics
    from bridge.worker import Worker

    metrics.share(Path(config.media.runtime_dir))
    asyncio.run(Worker(config, options.active, options.config).run())
    return 0


def _web(config: Config, options: argparse.Namespace) -> int:
    from bridge.web.server import serve  # aiohttp's start-up time only where it is needed

    asyncio.run(serve(config, options.config))
    return 0


def _token(config: Config, options: argparse.Namespace) -> int:
    from bridge.web.token import read_token

    print(read_token(config.web.token_file, config.media.runtime_dir))
    return 0


def _recorder(config: Config, options: argparse.Namespace) -> int:
    from bridge.recording.process import serve

    agents = Path(config.agents.folder)
    serve(Path(config.media.runtime_dir), lambda: recording_folders(agents))
    return 0


def _relay(config: Config, options: argparse.Namespace) -> int:
    if not config.needs_relay:
        raise ConfigError('no [asterisk] has media_transport = "websocket": nothing to relay')
    try:
        from bridge.relay.server import serve
    except ImportError as error:
        raise ConfigError(
            "media_transport = \"websocket\" needs picows: pip install 'ari-bridge[websocket]'"
        ) from error
    serve(config.asterisk, Path(config.media.runtime_dir))
    return 0


_COMMANDS = {
    "check": _check,
    "run": _run,
    "media": _media,
    "worker": _worker,
    "recorder": _recorder,
    "relay": _relay,
    "web": _web,
    "token": _token,
}
