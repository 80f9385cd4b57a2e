"""The commands that speak with the API, against one on a socket."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bridge import cli
from bridge.web import explain
from bridge.web.token import VARIABLE

CALL = {
    "id": "out-1",
    "direction": "out",
    "state": "ringing",
    "agent": "demo",
    "engine": "offline",
    "caller": "+4930",
    "caller_id": "+4955",
    "dialed": "+4930",
    "started": 1000.0,
    "answered": None,
    "ended": None,
    "seconds": 65.2,
    "result": "",
    "reason": "",
    "codec": "PCMU",
    "worker": "w1",
    "variables": ["order=17"],
    "audio": {"mos": 4.2},
    "latency": [{"turn": 1, "response_ms": 640}],
    "transcript": [
        {"at": 1001.0, "role": "agent", "text": "Hello.", "heard_ms": 700, "cut": True},
        {"at": 1002.0, "role": "caller", "text": "Hi!", "heard_ms": None, "cut": False},
    ],
}
ENDED = {**CALL, "state": "ended", "result": "busy", "reason": "busy"}


class Api:
    """Answers what the test says, in turn, and keeps what it was asked."""

    def __init__(self):
        self.asked, self.answers = [], []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                api.asked.append((self.command, self.path, body))
                assert self.headers["Authorization"] == "Bearer a-token-of-the-tests"
                status, answer = api.answers.pop(0)
                text = json.dumps(answer).encode() if answer is not None else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_POST(self):
                self.do_GET()

            def do_DELETE(self):
                self.do_GET()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def api():
    api = Api()
    yield api
    api.close()


@pytest.fixture
def run(api, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "a-token-of-the-tests")
    monkeypatch.setattr("bridge.web.cli._LOOK_S", 0)
    (tmp_path / "agents").mkdir()
    file = tmp_path / "bridge.toml"
    file.write_text(
        f"[web]\nport = {api.server.server_port}\n[agents]\nfolder = 'agents'\n"
        f"[media]\nruntime_dir = '{tmp_path}'\n"
    )

    def run(*words):
        status = cli.main([*words, *run.config])
        said = capsys.readouterr()
        return status, said.out, said.err

    run.config = ["--config", str(file)]
    return run


def test_calls_are_listed(api, run):
    api.answers = [(200, {"calls": [CALL], "next": None})]
    status, said, _ = run("calls")
    assert status == 0
    head, row = said.splitlines()
    assert head.split()[:2] == ["ID", "STATE"]
    assert row.split()[:5] == ["out-1", "ringing", "to", "+4930", "demo"]
    assert api.asked == [("GET", "/v1/calls?limit=20&live=true", None)]


def test_a_call_is_explained(api, run):
    api.answers = [(200, CALL)]
    status, said, _ = run("show", "out-1")
    assert status == 0
    for text in ("ringing", "to +4930", "showing +4955", "order=17", "mos 4.2", "1:05"):
        assert text in said
    assert "Hello.  [cut short]  (0.7 s heard)" in said
    assert "turn 1  response_ms 640" in said


def test_an_incoming_call_that_has_ended():
    call = {**ENDED, "direction": "in", "caller": "", "dialed": "700", "answered": 1001.0}
    said = explain.whole(call)
    assert "busy (busy)" in said
    assert "from unknown to 700" in said


def test_a_caller_cannot_speak_to_the_operators_terminal(api, run):
    evil = "\x1b]0;pwned\x07\x9b2J\r\n555"
    line = {**CALL["transcript"][0], "text": evil}
    call = {**CALL, "caller": evil, "reason": evil, "transcript": [line]}
    api.answers = [(200, {"calls": [call], "next": None}), (200, call)]
    said = run("calls")[1] + run("show", "out-1")[1]
    assert "]0;pwned" in said
    assert all(c.isprintable() for c in said.replace("\n", ""))
    assert len(said.splitlines()) == 2 + len(explain.whole(CALL).splitlines()) - 1


def test_somebody_is_called_and_followed(api, run):
    answered = {**CALL, "state": "talking", "answered": 1001.0}
    api.answers = [
        (201, CALL),
        (200, CALL),
        (200, CALL),
        (200, answered),
        (200, {**answered, "state": "ended", "result": "done", "reason": "goodbye"}),
    ]
    status, said, _ = run("call", "+4930", "--agent", "demo", "--var", "a=b=c", "--timeout", "9")
    assert status == 0
    assert said.splitlines() == ["call out-1 to +4930", "ringing", "talking", "done: goodbye"]
    (_, path, body), *_ = api.asked
    assert (path, body["variables"], body["timeout_s"]) == ("/v1/calls", {"a": "b=c"}, 9)


def test_who_does_not_answer_is_a_failure_for_scripts(api, run):
    api.answers = [(201, CALL), (200, ENDED)]
    assert run("call", "+4930", "--agent", "demo")[0] == 1
    api.answers = [(201, CALL)]
    assert run("call", "+4930", "--agent", "demo", "--no-wait")[0] == 0


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (("hangup", "c/1"), "/v1/calls/c%2F1/hangup", {}),
        (("transfer", "c1", "200"), "/v1/calls/c1/transfer", {"to": "200"}),
        (("mute", "c1"), "/v1/calls/c1/mute", {"on": True}),
        (("unmute", "c1"), "/v1/calls/c1/mute", {"on": False}),
        (("say", "c1", "Hello there."), "/v1/calls/c1/say", {"text": "Hello there."}),
    ],
)
def test_verbs(api, run, words, path, body):
    api.answers = [(204, None)]
    assert run(*words)[0] == 0
    assert api.asked == [("POST", path, body)]


GONE = {"calls": 3, "recordings": 2, "live": 0, "not_here": 0}


def test_a_caller_is_erased(api, run):
    api.answers = [(200, GONE)]
    status, said, _ = run("erase", "+49 30/1", "--yes")
    assert (status, said) == (0, "erased of +49 30/1: calls 3, recordings 2\n")
    assert api.asked == [("DELETE", "/v1/callers/%2B49%2030%2F1", None)]


def test_what_of_a_caller_could_not_be_erased_is_told(api, run):
    api.answers = [(200, {**GONE, "live": 1}), (200, {**GONE, "not_here": 1})]
    status, said, _ = run("erase", "555", "--yes")
    assert status == 1
    assert "calls that go on, left alone: 1" in said
    status, said, _ = run("erase", "555", "--yes")
    assert status == 0
    assert "recordings that this host doesn't have: 1" in said


@pytest.mark.parametrize(("answer", "asked"), [("y", 1), ("", 0), ("no", 0)])
def test_nobody_is_erased_by_mistake(api, run, monkeypatch, answer, asked):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    api.answers = [(200, GONE)]
    status, said, _ = run("erase", "555")
    assert len(api.asked) == asked
    assert (status == 0) == bool(asked)
    assert asked or "nothing was erased" in said


def test_a_program_has_to_say_that_it_means_it(api, run, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    status, _, said = run("erase", "555")
    assert (status, api.asked) == (2, [])
    assert "--yes" in said


def test_what_is_heard_goes_to_a_player(api, run, monkeypatch, tmp_path):
    api.answers = [(200, "sound" * 3000), (409, {"error": "ended", "reason": "it has ended"})]
    with (tmp_path / "sound").open("w+b", buffering=0) as file:
        monkeypatch.setattr("bridge.web.cli.sys.stdout", io.TextIOWrapper(file))
        assert cli.main(["listen", "c1", *run.config]) == 0
        assert (tmp_path / "sound").stat().st_size == 15002  # as JSON, in quotes
        assert cli.main(["listen", "c1", *run.config]) == 2


def test_what_is_refused_is_told(api, run):
    api.answers = [(403, {"error": "forbidden", "reason": "'110' is not in [outbound]"})]
    status, _, said = run("call", "110", "--agent", "demo")
    assert (status, said) == (2, "ari-bridge: '110' is not in [outbound]\n")
    assert run("call", "1", "--agent", "demo", "--var", "x")[2].startswith("ari-bridge: --var")


def test_no_api_names_the_cure(api, run, monkeypatch):
    api.close()
    assert "[web] enabled = true" in run("calls")[2]
