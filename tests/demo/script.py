"""The caller's script: what is dialled, said, pressed and expected. script.toml tells its form."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("script.toml")


class ScriptError(Exception):
    """A script that can't be used as it is: names file, turn and cure."""


@dataclass(frozen=True)
class Turn:
    """One turn of the caller's; see script.toml for the keys."""

    label: str = ""
    say: str = ""
    dtmf: str = ""
    interrupt_after_ms: int = 0
    goes_on: bool = False
    expect: tuple[str, ...] = ()
    expect_extension: str = ""
    answer_within_s: float = 8.0
    pause_ms: int = 0
    kill_worker_after_ms: int = 0

    @property
    def text(self) -> str:
        """What the caller does, for people."""
        return self.say or f"[{self.dtmf}]"


@dataclass(frozen=True)
class Script:
    """A whole call."""

    dial: str
    turns: tuple[Turn, ...]
    greeting: tuple[str, ...] = ()
    pause_ms: int = 1000

    @property
    def kills(self) -> bool:
        """Whether the worker that serves the call is killed."""
        return any(turn.kill_worker_after_ms for turn in self.turns)


def load(path: Path) -> Script:
    """Read a script. Raises ScriptError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScriptError(f"{path}: {error}") from error
    turns = table.pop("turn", [])
    if not isinstance(turns, list) or not turns:
        raise ScriptError(f"{path}: a script needs at least one [[turn]]")
    read = [_build(Turn, turn, f"{path}: turn {n}") for n, turn in enumerate(turns, 1)]
    for n, turn in enumerate(read, 1):
        if bool(turn.say) == bool(turn.dtmf):
            raise ScriptError(f"{path}: turn {n}: give either 'say' or 'dtmf'")
        if bad := set(turn.dtmf) - set("0123456789*#ABCD"):
            raise ScriptError(f"{path}: turn {n}: no phone has the key {min(bad)!r}")
        if turn.goes_on and not (turn.say and turn.interrupt_after_ms):
            raise ScriptError(f"{path}: turn {n}: 'goes_on' needs 'say' and 'interrupt_after_ms'")
        if turn.kill_worker_after_ms and sum(t.kill_worker_after_ms > 0 for t in read) > 1:
            raise ScriptError(f"{path}: turn {n}: 'kill_worker_after_ms' may be in one turn only")
        if not turn.expect and not turn.expect_extension:
            raise ScriptError(f"{path}: turn {n}: without 'expect' nothing can be judged")
    if "dial" not in table:
        raise ScriptError(f"{path}: 'dial' is missing: the extension to call")
    script: Script = _build(Script, {**table, "turns": tuple(read)}, str(path))
    return script


def _build(kind: type, table: dict[str, Any], where: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in fields or (kind is Script and name == "turn"):
            raise ScriptError(f"{where}: unknown key '{name}'; there are: {', '.join(fields)}")
        default = fields[name].default
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = tuple(value)
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        wanted = str if default is dataclasses.MISSING and name == "dial" else type(default)
        if name != "turns" and type(value) is not wanted:
            raise ScriptError(f"{where}: '{name}' takes {_NAMES[wanted]}, not {value!r}")
        values[name] = value
    return kind(**values)


_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    tuple: "a list of texts",
    bool: "true or false",
}
