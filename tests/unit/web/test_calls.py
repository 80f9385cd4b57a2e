"""Resource: calls."""

import json

import pytest

from bridge.sessions.model import Line, Record


def record(n, **more):
    return Record(f"call-{n}", agent="demo", started=1000.0 + n, state="talking", **more)


async def got(api, path, status=200):
    answer = await api.get(path)
    assert answer.status == status
    return await answer.json()


async def test_calls_are_listed_page_by_page(api, sessions):
    for n in range(5):
        sessions.add(record(n))
    first = await got(api, "/v1/calls?limit=3")
    assert [c["id"] for c in first["calls"]] == ["call-4", "call-3", "call-2"]
    second = await got(api, f"/v1/calls?limit=3&before={first['next']}")
    assert [c["id"] for c in second["calls"]] == ["call-1", "call-0"]
    assert second["next"] is None


async def test_those_under_way(api, sessions):
    sessions.add(record(1))
    sessions.add(Record("over", started=1.0, state="ended", ended=5.0, result="done"))
    assert [c["id"] for c in (await got(api, "/v1/calls?live=true"))["calls"]] == ["call-1"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "'limit' is 0; it takes 1 to 500"),
        ("limit=many", "'limit' is 'many'; it takes a whole number"),
        ("limt=5", "unknown key 'limt'; did you mean 'limit'?"),
        ("before=nan", "'before' is nan; it takes a time"),
        ("live=perhaps", "'live' is 'perhaps'; it takes true or false"),
    ],
)
async def test_a_query_that_can_not_be_understood(api, query, reason):
    assert reason in (await got(api, f"/v1/calls?{query}", 400))["reason"]


@pytest.mark.parametrize("name", ["since", "until", "cursor"])
async def test_a_time_that_is_none(api, name):
    told = await got(api, f"/v1/history?{name}=-inf", 400)
    assert told["reason"] == f"query: '{name}' is -inf; it takes a time"


async def test_a_call_is_explained(api, sessions):
    sessions.add(
        record(
            *(1,),
            caller="555",
            dialed="700",
            variables='["order=17"]',
            latency='[{"turn": 1, "response_ms": 800}]',
            answered=1002.0,
        ),
        [Line(1003.0, "agent", "Hello.", heard_ms=700), Line(1004.0, "caller", "Hi!")],
    )
    call = await got(api, "/v1/calls/call-1")
    assert call["caller"] == "555"
    assert call["variables"] == ["order=17"]
    assert call["latency"] == json.loads('[{"turn": 1, "response_ms": 800}]')
    assert call["transcript"] == [
        {"at": 1003.0, "role": "agent", "text": "Hello.", "heard_ms": 700, "cut": False},
        {"at": 1004.0, "role": "caller", "text": "Hi!", "heard_ms": None, "cut": False},
    ]


async def test_no_such_call(api):
    assert "no call 'nobody'" in (await got(api, "/v1/calls/nobody", 404))["reason"]


async def test_workers(api):
    (worker,) = (await got(api, "/v1/workers"))["workers"]
    assert worker == {
        "name": "w1",
        "alive": True,
        "takes_calls": True,
        "calls": 2,
        "started": 1.0,
        "host": "host",
    }


async def test_why_somebody_hangs_up_is_told_shortly(api):
    answer = await api.post("/v1/calls/c1/hangup", json={"reason": "x" * 201})
    assert answer.status == 400
    assert "200 letters" in (await answer.json())["reason"]
    answer = await api.post("/v1/calls/c1/hangup", json={"reason": "x" * 200})
    assert answer.status == 404, "there is no such call"
