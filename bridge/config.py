"""One `bridge.toml` from the settings that each layer declares for itself, and what the environment
says instead (`bridge.configfile`)."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from bridge import configfile
from bridge.errors import ConfigError
from bridge.media.settings import MediaSettings
from bridge.outbound import OutboundSettings
from bridge.pbx.settings import AsteriskSettings
from bridge.sessions.settings import HistorySettings, RedisSettings, SessionsSettings
from bridge.settings import build
from bridge.tracing import TelemetrySettings

T = TypeVar("T")

_SEVERAL = "asterisk"
PLACES = (Path("bridge.toml"), Path("/etc/ari-bridge/bridge.toml"))


@dataclass(frozen=True)
class AgentsSettings:
    """Where the agents' files are."""

    folder: str = ""
    """Relative to the configuration file; empty for the samples that come with the package."""


@dataclass(frozen=True)
class WorkerSettings:
    """How workers come and go."""

    takeover: bool = True
    """Take over the calls of a worker that has died. Off only to see what that is worth."""
    drain_s: float = 0.0
    """How long a worker that is to stop, and has nobody to hand its calls to, lets them go on."""
    calls_per_caller_per_minute: int = 0
    """New calls that one number may make; beyond, the dialplan goes on with the caller
    (`ARI_BRIDGE_RESULT` is `failed`). 0: as many as come. Anonymous callers aren't counted."""

    def __post_init__(self) -> None:
        if self.calls_per_caller_per_minute < 0:
            raise ValueError("'calls_per_caller_per_minute' takes a number, or 0 for no limit")


@dataclass(frozen=True)
class LogSettings:
    """What is logged, to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Of our own lines; libraries' begin at `warning`."""
    format: Literal["text", "json"] = "text"
    """For people, or an object a line for programs."""


@dataclass(frozen=True)
class PhoneSettings:
    """The telephone in the dashboard's page: an account of Asterisk's, for WebRTC."""

    url: str = ""
    """Asterisk's SIP over WebSocket, such as `wss://127.0.0.1:8089/ws`. Empty: no telephone."""
    user: str = "ari-bridge-browser"
    """The name of Asterisk's account for it."""
    password: str = field(default="", repr=False)
    """That account's."""
    ca_file: str = ""
    """Who has signed Asterisk's certificate, PEM, where the system doesn't know; relative to the
    configuration file."""
    number: str = "700"
    """What it dials unless told otherwise."""

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("wss://", "ws://")):
            raise ValueError(f"'url' is {self.url!r}; it takes wss://… (or ws://… on this host)")
        if self.url and not self.password:
            raise ValueError("'password' is missing: the one of Asterisk's account for the browser")


@dataclass(frozen=True)
class WebSettings:
    """The API over HTTP, and what stands on it."""

    enabled: bool = False
    """Whether `ari-bridge run` starts it; `ari-bridge web` does anyway."""
    address: str = "127.0.0.1"
    """Where it listens; beyond this host with TLS (`certificate_file`), or behind a proxy that
    speaks it."""
    port: int = 8090
    """Its TCP port."""
    token_file: str = ""
    """Holds the token that every request has to name; relative to the configuration file. Empty:
    ARI_BRIDGE_TOKEN in the environment, or one that is made in `[media] runtime_dir`."""
    read_token_file: str = ""
    """Holds another token, for who may look at calls and do nothing; relative to the configuration
    file. Empty: ARI_BRIDGE_READ_TOKEN in the environment, or none."""
    certificate_file: str = ""
    """The certificate and those of its issuers, PEM, for TLS; relative to the configuration file.
    Read again on SIGHUP. Empty: plain HTTP."""
    key_file: str = ""
    """Its key, PEM, without a passphrase; empty: it is in `certificate_file`."""
    max_connections: int = 500
    """So many at a time, whoever they are: one more is closed at once."""

    phone: PhoneSettings = field(default_factory=PhoneSettings)

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it."""
        if self.address == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"'port' is {self.port}; it takes 0 to 65535")
        if not self.address:
            raise ValueError("'address' is empty; leave it out, or name one")
        if self.key_file and not self.certificate_file:
            raise ValueError("'key_file' does nothing without 'certificate_file'")
        if self.max_connections < 1:
            raise ValueError("'max_connections' takes 1 or more")


@dataclass(frozen=True)
class Config:
    """All of it; each field is a table of the file."""

    asterisk: tuple[AsteriskSettings, ...] = (AsteriskSettings(),)
    """One table `[asterisk]`, or several `[[asterisk]]`, each with a `name`."""
    media: MediaSettings = field(default_factory=MediaSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    sessions: SessionsSettings = field(default_factory=SessionsSettings)
    agents: AgentsSettings = field(default_factory=AgentsSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    web: WebSettings = field(default_factory=WebSettings)
    outbound: OutboundSettings = field(default_factory=OutboundSettings)
    log: LogSettings = field(default_factory=LogSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)

    @property
    def needs_relay(self) -> bool:
        """Whether an Asterisk's audio comes by WebSocket."""
        return any(one.media_transport == "websocket" for one in self.asterisk)


def load(path: Path | None) -> Config:
    """Read the configuration file; without a path the first of `PLACES` that is there.

    Raises:
        ConfigError: no file, one that can't be read, or a key in it that can't be understood.
    """
    return read(path)[0]


def read(path: Path | None) -> tuple[Config, dict[configfile.Place, str]]:
    """The same, with where each value comes from that isn't a default.

    There need be no file where the environment sets something.
    """
    tables = kinds()
    if path is None:
        path = next((place for place in PLACES if place.is_file()), None)
        if path is None and not configfile.given(tables, _SEVERAL):
            raise ConfigError(f"no configuration: name one with --config, or make {PLACES[0]}")
    found = configfile.read(path, tables, _SEVERAL)
    where = str(path) if path is not None else "environment"
    config = _build(found.tables, where)
    given = config.agents.folder
    samples = Path(__file__).parent / "agents"
    if not samples.is_dir():  # a checkout, not an installed wheel
        samples = Path(__file__).parents[1] / "agents"
    home = path.parent if path is not None else Path()
    folder = home / given if given else samples
    if not folder.is_dir():
        raise ConfigError(f"{where} [agents]: folder {folder} is not there")
    web = _beside(
        *(home, config.web, "token_file", "read_token_file", "certificate_file", "key_file")
    )
    config = dataclasses.replace(
        *(config,),
        agents=AgentsSettings(folder=str(folder)),
        asterisk=tuple(_beside(home, one, "ca_file") for one in config.asterisk),
        redis=_beside(home, config.redis, "ca_file"),
        web=dataclasses.replace(web, phone=_beside(home, web.phone, "ca_file")),
    )
    configfile.keep_secrets(config)
    return config, found.origins


def _beside(home: Path, table: T, *names: str) -> T:
    """With these files named from the configuration file's folder."""
    given = {name: str(home / file) for name in names if (file := getattr(table, name))}
    return dataclasses.replace(table, **given) if given else table  # type: ignore[type-var]


def kinds() -> dict[str, type]:
    """The tables of the file, each with its dataclass."""
    return {
        one.name: AsteriskSettings if one.name == _SEVERAL else _class_of(one.name)
        for one in dataclasses.fields(Config)
    }


def _build(table: dict[str, object], path: str) -> Config:
    """Name tables as TOML does: `bridge.toml [media]: unknown key …`."""
    tables = {f.name: f for f in dataclasses.fields(Config)}
    parts: dict[str, object] = {}
    for name, content in table.items():
        if name == "asterisk" and isinstance(content, list):
            parts[name] = _several(content, path)
        elif name == "asterisk" and isinstance(content, dict):
            parts[name] = (build(AsteriskSettings, content, f"{path} [{name}]"),)
        elif name in tables and isinstance(content, dict):
            parts[name] = build(_class_of(name), content, f"{path} [{name}]")
        else:
            build(Config, {name: content}, path)  # raises, with the nearest name
    return Config(**parts)  # type: ignore[arg-type]


def _several(tables: list[object], path: str) -> tuple[AsteriskSettings, ...]:
    """Several `[[asterisk]]`: each can be told from the others."""
    where = f"{path} [[asterisk]]"
    if not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{where} takes tables")
    found = tuple(build(AsteriskSettings, t, where) for t in tables if isinstance(t, dict))
    names = [one.name for one in found]
    if len(found) > 1 and ("" in names or len(set(names)) < len(names)):
        raise ConfigError(f"{where}: give each of the {len(found)} a 'name' of its own")
    return found


def reload(config: Config, path: Path | None) -> tuple[Config, list[str]]:
    """Read the file again, for a process that goes on.

    Returns:
        The settings that hold from now on, and the keys that have changed and take a restart: all
        but those of `[log]`, `[agents]`, `[outbound]`, `[sessions]` and `[worker] drain_s`.

    Raises:
        ConfigError: as `load`; nothing has changed then.
    """
    fresh = load(path)
    kept = dataclasses.replace(
        config,
        agents=fresh.agents,
        log=fresh.log,
        sessions=fresh.sessions,
        outbound=fresh.outbound,
        worker=dataclasses.replace(config.worker, drain_s=fresh.worker.drain_s),
    )
    ignored = [
        f"[{table.name}]" + (f" {key.name}" if key is not None else "")
        for table in dataclasses.fields(Config)
        for key in _changed(getattr(kept, table.name), getattr(fresh, table.name))
    ]
    return kept, ignored


def _changed(one: Any, other: Any) -> list[dataclasses.Field[Any] | None]:
    if not dataclasses.is_dataclass(one):
        return [] if one == other else [None]
    return [f for f in dataclasses.fields(one) if getattr(one, f.name) != getattr(other, f.name)]


def _class_of(name: str) -> type:
    return type(getattr(Config(), name))
