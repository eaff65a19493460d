"""What `redis.url` may be, and that no message shows its password."""

from __future__ import annotations

import pytest

from bridge.shared.address import RedisAddress

GOOD = {
    "redis://localhost": ("redis://localhost:6379/0", "", ""),
    "redis://127.0.0.1:6380/3": ("redis://127.0.0.1:6380/3", "", ""),
    "redis://:secret@db.example.org/": ("redis://db.example.org:6379/0", "", "secret"),
    "rediss://user:p%40ss%3A@[::1]:7000/1": ("rediss://[::1]:7000/1", "user", "p@ss:"),
    "unix:///run/redis/redis.sock": ("unix:///run/redis/redis.sock", "", ""),
    "unix://:secret@/run/redis.sock?db=2": ("unix:///run/redis.sock?db=2", "", "secret"),
    "redis+sentinel://one,two:26380/mymaster": ("redis+sentinel://one:26379,two:26380/mymaster/0", "", ""),
    "redis+sentinel://u:p@one/mymaster/4": ("redis+sentinel://one:26379/mymaster/4", "u", "p"),
}

BAD = [
    "",
    "localhost",
    "http://localhost",
    "redis://",
    "redis://host:0",
    "redis://host:65536",
    "redis://host/name",
    "redis://host/65536",
    "redis://host?db=1",
    "redis://secret@host",
    "redis://a b",
    "redis://host/0#x",
    "redis://one,two",
    "unix://relative",
    "unix:///",
    "unix:///a?db=x",
    "redis+sentinel://one,two",
    "redis+sentinel://one,,two/service",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_valid_redis_url_is_parsed(url: str) -> None:
    shown, user, password = GOOD[url]
    address = RedisAddress.parse(url)
    assert (str(address), address.user, address.password) == (shown, user, password)


@pytest.mark.parametrize("url", BAD)
def test_an_invalid_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RedisAddress.parse(url)


def test_the_password_of_a_redis_url_is_not_shown() -> None:
    address = RedisAddress.parse("redis://user:canary@host")
    assert "canary" not in f"{address}{address!r}"
    with pytest.raises(ValueError, match=r".") as refused:
        RedisAddress.parse("redis://user:canary@host:port")
    assert "canary" not in str(refused.value)


def test_a_separate_password_is_used_only_if_the_url_has_none() -> None:
    assert RedisAddress.parse("redis://host").with_password("own").password == "own"
    assert RedisAddress.parse("redis://:first@host").with_password("own").password == "first"
