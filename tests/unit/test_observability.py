"""The rules and the dashboard ask for what there is."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import metrics
from bridge.web import metrics as web

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "observability"
RULES = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FILES / "grafana/dashboards/ari-bridge.json").read_text())


@pytest.fixture(scope="module")
def names() -> dict[str, set[str]]:
    """Each series, with its labels."""
    own = {"instance", "job", "le"}
    found = {rule["record"]: own | {"leg"} for rule in RULES if "record" in rule}
    fresh = metrics._Meters()
    ours = [m for m in vars(fresh).values() if hasattr(m, "_labelnames")]
    for meter in ours:
        (family,) = meter.describe()
        for name in _series(family.name, family.type):
            found[name] = own | set(meter._labelnames)
    told = {"load": {"busy_ms": 1, "late_ms": 1, "late": [0] * 11}, "open_calls": 0}
    with pytest.MonkeyPatch.context() as patch:

        async def ask(folder: Path) -> dict[str, Any]:
            return {**told, "counters": {"unknown_source": 1}}

        patch.setattr(web, "_ask", ask)
        for family in [*asyncio.run(web.of_media(Path())), web._build()]:
            labels = {name for sample in family.samples for name in sample.labels}
            for name in _series(family.name, family.type):
                found[name] = own | labels
    found["ari_bridge_web_redis_up"] = own
    return found


def _series(name: str, kind: str) -> list[str]:
    if kind == "histogram":
        return [f"{name}_{part}" for part in ("bucket", "sum", "count")]
    return [f"{name}_total"] if kind == "counter" else [name]


def _wrong(text: str, names: dict[str, set[str]]) -> list[str]:
    """What an expression asks for that there is not."""
    plain = re.sub(r'"[^"]*"', '""', text.replace("$__rate_interval", "5m"))
    wrong = [
        f"unbalanced {a}{b}" for a, b in ("()", "{}", "[]") if plain.count(a) != plain.count(b)
    ]
    asked = re.findall(r"\b(ari_bridge[\w:]*)", plain)
    wrong += [name for name in asked if name not in names]
    known = set.union(
        {"alertname", "alertstate", "job"}, *(names.get(name, set()) for name in asked)
    )
    for group in re.findall(r"(?:by|on) \(([^)]*)\)|\{([^}]*)\}", plain):
        for label in re.findall(r"(\w+)\s*(?=,|$|=|!)", " ".join(group)):
            if label not in known:
                wrong.append(f"label {label}")
    return wrong


def test_every_rule_asks_for_what_there_is(names: dict[str, set[str]]) -> None:
    for rule in RULES:
        assert _wrong(rule["expr"], names) == [], rule
        if "alert" in rule:
            assert rule["alert"].startswith("AriBridge")
            assert rule["labels"]["severity"] in ("warning", "critical")
            for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
                asked = re.findall(r"\b(ari_bridge[\w:]*|up)", rule["expr"])
                assert any(label in names.get(name, {"instance"}) for name in asked)


def test_every_panel_asks_for_what_there_is(names: dict[str, set[str]]) -> None:
    asked = [t["expr"] for panel in DASHBOARD["panels"] for t in panel.get("targets", [])]
    assert len(asked) > 20
    for expr in asked:
        assert _wrong(expr, names) == [], expr
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_everything_that_is_counted_is_shown_or_alarms(names: dict[str, set[str]]) -> None:
    text = json.dumps(DASHBOARD) + json.dumps(RULES)
    hidden = {"ari_bridge_call_duration_seconds", "ari_bridge_calls_begun", "ari_bridge_workers"}
    hidden |= {"ari_bridge_media_calls", "ari_bridge_web_redis_up"}
    for name in names:
        base = re.sub(r"_(bucket|sum|count|total)$", "", name)
        assert base in text or base in hidden, name


def test_a_wrong_question_is_found(names: dict[str, set[str]]) -> None:
    assert _wrong("rate(ari_bridge_call_begun_total[5m])", names) == ["ari_bridge_call_begun_total"]
    assert _wrong("sum by (caller) (ari_bridge_calls)", names) == ["label caller"]
    assert _wrong('ari_bridge_calls{instanze="a"}', names) == ["label instanze"]
    assert _wrong("sum(ari_bridge_calls", names) == ["unbalanced ()"]


def test_what_the_issue_asks_alarms() -> None:
    exprs = {rule["alert"]: rule["expr"] for rule in RULES if "alert" in rule}
    assert exprs["AriBridgeAudioLoss"].endswith("> 0.03")
    assert exprs["AriBridgeOneWayDelay"].endswith("> 0.15")
    assert "turns_over_budget" in exprs["AriBridgeSlowAnswers"]


def test_prometheus_is_told_where_the_bridge_is() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    address = compose["services"]["bridge"]["networks"]["calls"]["ipv4_address"]
    (scrape,) = yaml.safe_load((FILES / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == [f"{address}:8090"]
    secret = Path(scrape["authorization"]["credentials_file"]).name
    assert secret in compose["services"]["prometheus"]["secrets"]
    assert compose["secrets"][secret] == {"environment": "API_TOKEN"}
    source = yaml.safe_load((FILES / "grafana/provisioning/datasources/prometheus.yml").read_text())
    own = compose["services"]["prometheus"]["networks"]["calls"]["ipv4_address"]
    assert source["datasources"][0]["url"] == f"http://{own}:9090"
    assert source["datasources"][0]["uid"] == DASHBOARD["panels"][1]["datasource"]["uid"]
    for name in ("prometheus", "grafana"):
        service = compose["services"][name]
        assert service["profiles"] == ["observability"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for item in compose["configs"].values():
        if "file" in item:
            assert (ROOT / item["file"]).is_file()
