"""The client across answers: where cookies are sent, which calls are never repeated, when connections are released."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from asking import Asker, connected, held
from peer import pool_of

from upstream import client
from upstream.arena import Arena, Eof, Line
from upstream.credentials import Credentials
from upstream.protocol import evaluations
from upstream.protocol.errors import (
    ProtocolViolated,
    Redirected,
    ServerFailed,
    SessionExpired,
    SilentAnswer,
    TimedOut,
    Truncated,
    Unreachable,
)
from upstream.protocol.events import Failure, Finish, TextDeltas


async def test_the_site_sees_a_fixed_set_of_headers_and_nothing_of_the_callers(asker: Asker, arena: Arena) -> None:
    await asker.ask()
    (call,) = arena.calls
    assert call.headers.keys() == {
        "host",
        "content-type",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "origin",
        "referer",
        "cookie",
    }
    assert call.headers["user-agent"] == "a browser's"
    assert call.headers["cookie"].startswith("cf_clearance=clear; arena-auth-prod-v1")


async def test_a_permanent_redirect_within_the_origins_is_followed_and_remembered(arena: Arena) -> None:
    async with Arena() as old, connected(old.origin, arena.origin) as arena_client:
        old.moved_to = arena.origin
        await arena_client.page(timeout=5)
        assert arena_client.location.origin == arena.origin
        asker = Asker(arena, arena_client, arena.sign_in())
        assert isinstance((await asker.ask())[-1], Finish)
        assert len(old.calls) == 1
        assert [call.kind for call in arena.calls if call.kind != "unknown"] == ["page", "create"]
        assert arena.calls[-1].headers["origin"] == arena.origin


async def test_the_next_call_after_a_change_of_base_url_goes_to_the_new_one(asker: Asker, arena: Arena) -> None:
    async with Arena(era=arena.era) as moved:
        settings = replace(asker.client.settings, base_url=moved.origin, origins=frozenset({moved.origin}))
        asker.client.reconfigure(settings)
        asker.credentials = Credentials(moved.sign_in().cookie_value, asker.rotations.append)
        assert isinstance((await asker.ask())[-1], Finish)
        assert (len(arena.calls), len(moved.calls)) == (0, 1)


async def test_a_redirect_to_another_origin_is_refused_and_gets_no_cookie(asker: Asker, arena: Arena) -> None:
    async with Arena() as elsewhere:
        arena.faults.arm("redirect", location=f"{elsewhere.origin}/nextjs-api/stream/create-evaluation", status=308)
        with pytest.raises(Redirected) as caught:
            await asker.ask()
        assert caught.value.origin == elsewhere.origin
        assert not elsewhere.calls


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("/login", SessionExpired),
        ("http://user:word@elsewhere.example/nextjs-api/stream/create-evaluation", Redirected),
        ("", ProtocolViolated),
        ("http://[::1", ProtocolViolated),
        ("mailto:ada@example.org", ProtocolViolated),
    ],
)
async def test_redirects_to_the_login_elsewhere_or_invalid_urls_are_not_followed(
    asker: Asker, arena: Arena, location: str, error: type[Exception]
) -> None:
    arena.faults.arm("redirect", location=location, status=302)
    with pytest.raises(error):
        await asker.ask()
    assert len(arena.calls) == 1


async def test_a_redirect_loop_is_a_protocol_violation(asker: Asker, arena: Arena) -> None:
    await asker.client.page(timeout=5)  # now the client knows the page's path
    before = len(arena.calls)
    arena.faults.arm("redirect", None, location=arena.page_path, status=307, on="page")
    with pytest.raises(ProtocolViolated, match="loop"):
        await asker.client.page(asker.credentials, timeout=5)
    assert len(arena.calls) - before == client.MAX_REDIRECTS + 1


async def test_a_put_whose_connection_breaks_is_not_repeated(asker: Asker, arena: Arena) -> None:
    """aiohttp by itself repeats idempotent methods once, which would regenerate an answer twice.

    Source: docs/reliability.md, "Failing calls".
    """
    created = asker.create()
    await asker.ask(created)
    for fault in ("close_before_headers", "reset_before_headers"):
        arena.faults.arm(fault)
        before = len(arena.calls)
        with pytest.raises(ServerFailed):
            await asker.ask(evaluations.regenerate(created.evaluation_id, created.message_id))
        assert len(arena.calls) == before + 1


async def test_a_call_to_a_closed_port_is_unreachable() -> None:
    async with Arena() as gone:
        origin = gone.origin
    async with Arena() as other, connected(origin) as arena_client:
        with pytest.raises(Unreachable, match="refused"):
            await Asker(other, arena_client, other.sign_in()).ask()


async def test_the_wait_for_a_full_pool_is_limited_by_the_connect_timeout(arena: Arena) -> None:
    release = asyncio.Event()
    arena.script = held(release)
    async with connected(arena.origin, connections=1, connect_timeout=0.5) as arena_client:
        asker = Asker(arena, arena_client, arena.sign_in())
        first = await arena_client.open(asker.create(), asker.credentials, first_byte_timeout=5)
        with pytest.raises(Unreachable):
            await asker.ask()
        await first.aclose()


async def test_silence_of_upstream_at_any_stage_of_an_answer_is_a_timeout(impatient: Asker, arena: Arena) -> None:
    arena.faults.arm("no_headers")
    with pytest.raises(TimedOut) as silence:
        await impatient.ask(timeout=0.2)
    assert type(silence.value) is TimedOut
    for fault, error, timeout in (("silent_start", SilentAnswer, 1.0), ("silent_middle", TimedOut, 60)):
        arena.faults.arm(fault)
        last = (await impatient.ask(timeout=timeout))[-1]  # on a busy machine even the head may be late
        assert isinstance(last, Failure)
        assert type(last.error) is error
        await asyncio.wait_for(arena.calls[-1].closed.wait(), 10)


async def test_silence_within_an_answer_is_noticed_long_before_the_first_byte_timeout(
    impatient: Asker, arena: Arena
) -> None:
    arena.faults.arm("silent_middle")
    async with asyncio.timeout(20):
        last = (await impatient.ask(timeout=60))[-1]
    assert isinstance(last, Failure)
    assert isinstance(last.error, TimedOut)


async def test_a_delay_of_the_reader_is_not_a_timeout_of_upstream(arena: Arena) -> None:
    """The idle timeout does not run while the answer is not being read."""
    release = asyncio.Event()
    arena.script = held(release)
    async with connected(arena.origin, idle_timeout=1.0) as arena_client:
        answer = await Asker(arena, arena_client, arena.sign_in()).open()
        assert isinstance((await answer.read())[0], TextDeltas)
        await asyncio.sleep(1.2)
        release.set()
        assert isinstance((await answer.read())[-1], Finish)
        await answer.aclose()


async def test_a_finished_answer_returns_its_connection_to_the_pool_and_a_silent_one_does_not(
    arena: Arena,
) -> None:
    resting: list[int] = []
    async with connected(arena.origin, idle_timeout=1.0) as arena_client:
        asker = Asker(arena, arena_client, arena.sign_in())
        for fault in (None, None, "eof_middle", None):
            if fault:
                arena.faults.arm(fault)
            await asker.ask()
            resting.append(len(pool_of(arena_client)))
        assert resting == [1, 1, 1, 1]
        arena.faults.arm("silent_middle")
        await asker.ask()
        assert not len(pool_of(arena_client))


async def test_an_answer_that_ends_cleanly_without_a_finish_is_truncated(asker: Asker, arena: Arena) -> None:
    arena.script = lambda _: [Line("a0", "half"), Eof()]
    first, last = await asker.ask()
    assert isinstance(first, TextDeltas)
    assert isinstance(last, Failure)
    assert isinstance(last.error, Truncated)


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
async def test_a_rotated_cookie_is_passed_to_the_account_even_with_a_refusal(
    asker: Asker, arena: Arena, pieces: bool
) -> None:
    session = arena.sign_in()
    asker.credentials = Credentials(session.cookie_value, asker.rotations.append)
    arena.rotate(session, pieces)
    arena.faults.arm("moderated")
    with pytest.raises(Exception, match="moderation"):
        await asker.ask()
    assert asker.rotations == [session.cookie_value]


async def test_a_header_of_30_kib_is_read_and_a_larger_one_fails_without_a_quote(asker: Asker, arena: Arena) -> None:
    arena.faults.arm("huge_header", bytes=30 * 1024)
    assert isinstance((await asker.ask())[-1], Finish)
    arena.faults.arm("huge_header", bytes=100 * 1024)
    with pytest.raises(ProtocolViolated) as caught:
        await asker.ask()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("arena", [2026], indirect=True)  # the site of 2025 has no such call
async def test_a_cookie_set_by_a_redirect_is_sent_to_its_target(asker: Asker, arena: Arena) -> None:
    session = arena.sign_in(expires_in=100.0)
    asker.credentials = Credentials(session.cookie_value, asker.rotations.append)
    arena.rotate(session)
    arena.faults.arm("redirect", location="/api/me", status=307, on="me")
    me = await asker.client.me(asker.credentials, timeout=5)
    assert me is not None
    assert me.email == session.email
    assert [call.status for call in arena.calls] == [307, 200]
    assert (asker.rotations[-1], asker.credentials.session) == (session.cookie_value, session.cookie_value)
    assert (session.alive, session.spent_twice) == (True, 0)
