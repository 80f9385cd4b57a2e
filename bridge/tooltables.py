"""The tables `[tool.NAME]` of an agent's file: tools that need no code.

    [tool.order_status]
    type = "http"
    description = "Where an order is. Ask the caller for its number first."
    url = "https://shop.example.com/orders/{order}"
    headers = { Authorization = "Bearer ${SHOP_KEY}" }

    [tool.order_status.parameters.order]
    type = "string"
    description = "six digits"

`parameters` holds the JSON schema of each argument, by name; `required` says which of them must be
there (all, without it). What can be checked without running anything is checked when the file is
read; `bridge.toolbox` makes tools of the tables.

A table is one tool, but for `mcp`: that is a server, and brings those that its `tools` name. Each
goes by its own name where no other tool of the agent's has it, else by the table's before it
(`crm_search`).
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

Parameters = dict[str, dict[str, Any]]

PLACE = re.compile(r"\{(\w+)\}")
"""Where an argument stands in a URL."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What every vendor takes for a function's or an argument's name."""
_TYPES = ("string", "integer", "number", "boolean", "array", "object")
_WORDS = (
    *("type", "description", "title", "enum", "const", "default", "examples", "format", "pattern"),
    *("minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("multipleOf", "items", "minItems", "maxItems", "uniqueItems"),
    *("properties", "required", "additionalProperties"),
)
_BODILESS = ("GET", "DELETE")


@dataclass(frozen=True)
class HttpTool:
    """A request to a service. Arguments that don't stand in `url` go into its query (GET, DELETE)
    or are its JSON body."""

    type: Literal["http"]
    description: str
    """What a model is told of it."""
    url: str
    """`{name}` is an argument, behind the host."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    parameters: Parameters = field(default_factory=dict)
    required: tuple[str, ...] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """`${NAME}` is an environment variable, `${file:PATH}` what a file holds."""
    filler: str = ""
    """What is said while it runs, if that takes longer, such as "I'll look that up."."""
    timeout_s: float = 10.0
    """For all tries together."""
    retries: int = 1
    """After a try that failed, if it surely had no effect or may be made twice."""
    idempotent: bool | None = None
    """Whether the same request may be made twice, because the service knows `Idempotency-Key`;
    None: as HTTP says of the method (all but POST and PATCH, RFC 9110 section 9.2.2)."""

    def __post_init__(self) -> None:
        _check_parameters(self.parameters, self.required)
        _check_time(self.timeout_s)
        if not 0 <= self.retries <= 5:
            raise ValueError(f"'retries' is {self.retries}; it takes 0 to 5")
        parts = _address(self.url)
        if parts.username or parts.password:
            raise ValueError("'url' holds a password; put it into 'headers' as ${NAME}")
        if PLACE.search(parts.netloc):
            raise ValueError("'url' has an argument in its host; a model can't choose that")
        must = self.parameters if self.required is None else self.required
        for name in PLACE.findall(self.url):
            if name not in self.parameters:
                raise ValueError(f"'url' has {{{name}}}; {_cure(name, self.parameters)}")
            if name not in must:
                raise ValueError(f"'url' has {{{name}}}, so that must be in 'required'")

    @property
    def may_repeat(self) -> bool:
        """Whether it may be made twice."""
        if self.idempotent is not None:
            return self.idempotent
        return self.method not in ("POST", "PATCH")

    @property
    def has_body(self) -> bool:
        """Whether what doesn't stand in the URL is its body."""
        return self.method not in _BODILESS


@dataclass(frozen=True)
class KnowledgeTool:
    """Search in a folder of the operator's own documents (.md, .txt, .html)."""

    type: Literal["knowledge"]
    description: str
    """What a model is told of it: what the documents are about."""
    folder: str
    """Relative to the agent's file; folders within it count too."""
    results: int = 3
    """How many pieces are given, of at most 900 characters."""
    filler: str = ""
    """What is said while it runs, if that takes longer."""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        _check_time(self.timeout_s)
        if not 1 <= self.results <= 4:
            raise ValueError(f"'results' is {self.results}; it takes 1 to 4")


@dataclass(frozen=True)
class McpTool:
    """Tools of an MCP server: a program that is started here, or one that listens at a URL."""

    type: Literal["mcp"]
    tools: tuple[str, ...]
    """Which of its tools the agent has, by the server's names; it has no other."""
    command: tuple[str, ...] = ()
    """The program and its arguments, which speaks on its standard input and output; it runs in the
    folder of the agent's file."""
    url: str = ""
    """Where it listens, if there is no `command` (streamable HTTP)."""
    env: dict[str, str] = field(default_factory=dict)
    """For the program, which else gets only HOME, LOGNAME, PATH, SHELL, TERM and USER."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of requests to `url`. In both `${NAME}` is an environment variable, `${file:PATH}` what a
    file holds."""
    filler: str = ""
    """What is said while one of them runs, if that takes longer."""
    timeout_s: float = 10.0
    idempotent: bool | None = None
    """Whether the same call may be made twice; None: as the server says of each tool
    (`readOnlyHint`, `idempotentHint`)."""

    def __post_init__(self) -> None:
        _check_time(self.timeout_s)
        if not self.tools:
            raise ValueError("'tools' is empty; name the server's tools that the agent may use")
        if bool(self.command) == bool(self.url):
            raise ValueError("it takes either 'command' (a program) or 'url' (a server)")
        if self.url:
            _address(self.url)
        if self.url and self.env:
            raise ValueError("'env' is for 'command'; with 'url' it takes 'headers'")
        if self.command and self.headers:
            raise ValueError("'headers' are for 'url'; with 'command' it takes 'env'")


ToolTable = HttpTool | KnowledgeTool | McpTool


def served(tables: Mapping[str, ToolTable], others: Iterable[str]) -> dict[str, tuple[str, str]]:
    """What servers bring: the name of each tool for us, with its table and its name there.

    Args:
        tables: of the agent's file, by name.
        others: names of tools that are no table's.

    Raises:
        ValueError: two would have the same name.
    """
    every = [
        (_name(tool), table, tool)
        for table, one in tables.items()
        if isinstance(one, McpTool)
        for tool in dict.fromkeys(one.tools)
    ]
    count = Counter(name for name, _, _ in every)
    taken = {*others, *(name for name, one in tables.items() if not isinstance(one, McpTool))}
    found: dict[str, tuple[str, str]] = {}
    for name, table, tool in every:
        whole = name if count[name] == 1 and name not in taken else f"{table}_{name}"[:64]
        if whole in taken or whole in found:
            raise ValueError(f"tool '{table}': '{tool}' would be '{whole}', as another is")
        found[whole] = table, tool
    return found


def _name(tool: str) -> str:
    """One that every vendor takes."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", tool)[:64] or "_"
    return f"_{name}"[:64] if name[0].isdigit() else name


def check_names(names: Iterable[str], reserved: Iterable[str]) -> None:
    """Raise `ValueError` if a tool can't be called so."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"tool '{name}': a name takes letters, digits and _, up to 64")
        if name in reserved:
            raise ValueError(f"tool '{name}' is built in; choose another name")


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        there = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets that don't close
        there = False
    if not there:
        raise ValueError(f"'url' is '{url}'; it takes http://... or https://...")
    return parts


def _check_time(timeout_s: float) -> None:
    if not 0.1 <= timeout_s <= 120:
        raise ValueError(f"'timeout_s' is {timeout_s:g}; it takes 0.1 to 120")


def _check_parameters(parameters: Parameters, required: tuple[str, ...] | None) -> None:
    for name, schema in parameters.items():
        where = f"parameter '{name}'"
        if not _NAME.fullmatch(name):
            raise ValueError(f"{where}: a name takes letters, digits and _")
        for word in schema:
            if word not in _WORDS:
                raise ValueError(f"{where}: unknown key '{word}'; {_cure(word, _WORDS)}")
        if schema.get("type") not in _TYPES:
            raise ValueError(f"{where}: 'type' takes {', '.join(map(repr, _TYPES))}")
    for name in required or ():
        if name not in parameters:
            raise ValueError(f"'required' has '{name}'; {_cure(name, parameters)}")


def _cure(word: str, known: Iterable[str] | Mapping[str, Any]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names) or 'none'}"
