"""A module imports only what stands above it (docs: the architecture's layers), and no cycle."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "bridge"

# From the bottom of the picture up: a module may import from its own layer's package and from those
# that stand before it; adapters never import another adapter.
LAYERS = [
    "errors",
    "garbage",
    "keeper",
    "notify",
    "secrets",
    "settings",
    "outbound",
    "logs",
    "metrics",
    "tracing",
    "tooltables",
    "transfertable",
    "agent",
    "audio",
    "rtp",
    "dialog",
    "media",
    "recording",
    "ears",
    "pbx",
    "relay",
    "sessions",
    "toolbox",
    "engines",
    "recall",
    "rejoin",
    "transcript",
    "transfer",
    "recorded",
    "quality",
    "filler",
    "stopwatch",
    "stages",
    "tools",
    "mouth",
    "talk",
    "callrecord",
    "call",
    "calls",
    "reconcile",
    "callrate",
    "door",
    "orders",
    "configfile",
    "config",
    "configshow",
    "schema",
    "check",
    "minds",
    "worker",
    "launcher",
    "web",
    "cli",
    "__main__",
]
PURE = {"audio", "rtp", "dialog"}
NEVER_IN_PURE = {
    "asyncio",
    "socket",
    "time",
    "redis",
    "aiohttp",
    "threading",
    "subprocess",
    "select",
}
# Adapters never import another adapter; they meet in call.py (by their ports) and worker.py.
ADAPTERS = {"media", "pbx", "sessions", "engines"}
# What wires them knows ports only.
WIRING = {
    "ears",
    "recall",
    "transcript",
    "transfer",
    "recorded",
    "quality",
    "filler",
    "stopwatch",
    "tools",
    "mouth",
    "talk",
    "callrecord",
    "call",
    "calls",
    "reconcile",
    "door",
    "orders",
}
PORTS = {
    "bridge.pbx.base",
    "bridge.engines.base",
    "bridge.sessions.base",
    "bridge.sessions.model",
    "bridge.sessions.progress",
    "bridge.media.base",
}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(["bridge", *path.relative_to(ROOT).with_suffix("").parts]), path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            if node.module and node.module.startswith("bridge"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else None


def wrong(name, imported):
    """Why this import may not be, or None."""
    mine, theirs = layer(name), layer(imported)
    if mine in PURE and imported.split(".")[0] in NEVER_IN_PURE:
        return "a pure layer knows no clock, socket or loop"
    if not imported.startswith("bridge.") or mine is None or theirs not in LAYERS or theirs == mine:
        return None
    if mine not in LAYERS:
        return "is in no layer"
    if LAYERS.index(theirs) > LAYERS.index(mine):
        return "stands below"
    if mine in ADAPTERS and theirs in ADAPTERS:
        return "is another adapter"
    if mine in WIRING and theirs in ADAPTERS:
        module = ".".join(imported.split(".")[:3])
        if module not in PORTS:
            return "is not a port"
    return None


def test_imports_point_upwards():
    faults = [
        f"{name} imports {imported}: it {why}"
        for name, path in modules()
        for imported in imports(path)
        if (why := wrong(name, imported))
    ]
    assert not faults, "\n".join(faults)


def test_every_module_has_a_layer():
    assert {layer(name) for name, _ in modules()} - {"__init__"} <= set(LAYERS)


def test_the_rules_can_fail():
    assert wrong("bridge.rtp.jitter", "asyncio")
    assert wrong("bridge.audio.g711", "bridge.media.plane")
    assert wrong("bridge.engines.echo", "bridge.pbx.base")
    assert wrong("bridge.call", "bridge.pbx.asterisk")
    assert wrong("bridge.talk.conversation", "bridge.media.client")
    assert wrong("bridge.tools", "bridge.call")
    assert wrong("bridge.call", "bridge.pbx.base") is None


def test_no_cycles():
    graph = {
        name: {i for i in imports(path) if i.startswith("bridge.")} for name, path in modules()
    }
    done, path = set(), []

    def visit(name):
        if name in path:
            raise AssertionError(" → ".join([*path[path.index(name) :], name]))
        if name in done or name not in graph:
            return
        path.append(name)
        for imported in graph[name]:
            visit(imported)
        done.add(path.pop())

    for name in graph:
        visit(name)
