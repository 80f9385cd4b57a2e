"""What Redis URLs mean."""

import pytest

from bridge.errors import ConfigError
from bridge.sessions.server import Address, connect, is_cluster, parse, where
from bridge.sessions.settings import RedisSettings
from bridge.settings import build


def test_one_server_is_left_to_the_library():
    for url in ("redis://h:1/2", "rediss://u:p@h", "unix:///run/redis.sock?db=1"):
        assert parse(url) is None


def test_sentinel_and_cluster():
    assert parse("redis+sentinel://u:p%40@h1,h2:5/calls/3") == Address(
        "sentinel", (("h1", 26379), ("h2", 5)), "u", "p@", "calls", 3
    )
    assert parse("rediss+cluster://:p@[::1]:7,h2") == Address(
        "cluster", (("::1", 7), ("h2", 6379)), None, "p", tls=True
    )


async def test_the_right_client():
    for url, expected in (
        ("redis://h", False),
        ("redis+sentinel://h/calls", False),
        ("redis+cluster://h", True),
    ):
        client = connect(url, 1.0)
        assert is_cluster(client) is expected
        await client.aclose()


@pytest.mark.parametrize(
    "url", ["http://h", "redis+ring://h", "redis+sentinel://h", "redis+cluster://", "redis://h:x"]
)
def test_what_can_not_be_used_is_said(url):
    with pytest.raises(ConfigError, match="'url' can't be used"):
        build(RedisSettings, {"url": url}, "bridge.toml [redis]")


def test_no_password_in_messages():
    assert where("redis://u:p@h:1/0") == "h:1/0"
    assert where("redis+sentinel://u:p@h/calls") == "redis+sentinel://h/calls"
