"""Log lines: the call's id in each, and never a secret."""

import io
import json
import logging

import pytest

from bridge import config, logs, secrets


@pytest.fixture
def told(monkeypatch):
    """`told(form)` logs into what it returns."""
    root, ours = logging.getLogger(), logging.getLogger(logs.OURS)
    before = root.handlers[:], root.level, ours.level
    monkeypatch.setattr(secrets, "known", {"hush-hush"})
    token = logs.call_id.set("1763.4")

    def set_up(form, level="info"):
        logs.set_up(level, form)
        stream = io.StringIO()
        root.handlers[0].setStream(stream)
        return stream

    yield set_up
    logs.call_id.reset(token)
    root.handlers[:], root.level, ours.level = before
    root.setLevel(before[1])


LOG = logging.getLogger("bridge.some")


def fail():
    try:
        raise ValueError("no\nhush-hush")
    except ValueError:
        LOG.exception("it failed")


def test_every_line_for_people_has_the_call(told):
    stream = told("text")
    LOG.info("from %s\n12:00:00.000 INFO    9.9 faked: line", "555")
    fail()
    lines = stream.getvalue().splitlines()
    assert len(lines) > 5
    assert all("1763.4" in line for line in lines)
    assert lines[0].endswith("INFO    1763.4 bridge.some: from 555")
    assert lines[1] == "             1763.4 | 12:00:00.000 INFO    9.9 faked: line"


def test_a_line_for_programs_is_an_object(told):
    stream = told("json")
    LOG.info("from %s\nmore", "555")
    fail()
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.keys() == {"at", "level", "call", "logger", "process", "message"}
    assert (first["level"], first["call"], first["message"]) == ("info", "1763.4", "from 555\nmore")
    assert first["at"].endswith("Z")
    assert second["exception"].startswith("Traceback")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_holds_a_secret(told, form):
    stream = told(form)
    fail()
    LOG.info("with hush-hush, Authorization: Basic aHVzaDpodXNo and Bearer hu.sh-hu/sh=")
    LOG.info("at redis://anna:hush@h/0 and wss://x/y?key=hush&alt=sse and ?api_key=hush")
    out = stream.getvalue()
    assert "hush" not in out.replace("***", "")
    assert "aHVzaDpodXNo" not in out
    assert "alt=sse" in out
    assert "@h/0" in out


def test_a_port_is_no_password(told):
    stream = told("text")
    LOG.warning("nobody listens at http://127.0.0.1:8088: start it; or wss://h:1/x, mail a@b.c")
    text = "nobody listens at http://127.0.0.1:8088: start it; or wss://h:1/x, mail a@b.c"
    assert stream.getvalue().endswith(f"{text}\n")


def test_libraries_say_little_whatever_the_level(told):
    stream = told("text", "debug")
    logging.getLogger("aiohttp.client").debug("a frame with keys that were pressed: 1234")
    logging.getLogger("httpx").info("GET https://x/?key=k")
    logging.getLogger("aiohttp.client").warning("loud")
    LOG.debug("ours")
    assert [line.split(": ")[-1] for line in stream.getvalue().splitlines()] == ["loud", "ours"]
    stream = told("text", "error")
    logging.getLogger("httpx").warning("loud")
    LOG.warning("ours")
    assert stream.getvalue() == ""


def test_what_the_configuration_keeps_secret_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "known", set())
    monkeypatch.setenv("SOME_VENDORS_API_KEY", "sk-of-a-vendor")
    monkeypatch.setenv("SHOP_PLACE", "from-elsewhere")
    path = tmp_path / "bridge.toml"
    path.write_text(
        '[asterisk]\npassword = "of-the-ari"\n[redis]\nurl = "redis://u:p%40of-redis@h/0"\n'
        '[web.phone]\nurl = "wss://h"\npassword = "${SHOP_PLACE}"\n'
    )
    config.load(path)
    assert {"of-the-ari", "p%40of-redis", "p@of-redis"} <= secrets.known
    assert {"sk-of-a-vendor", "from-elsewhere"} <= secrets.known
