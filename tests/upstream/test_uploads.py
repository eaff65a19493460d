"""Uploads to the storage in three steps, which are repeated after transient failures, and downloads from it."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from polling import until
from tenacity import wait_none

from upstream import client, uploads
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.client import ClientSettings
from upstream.credentials import Credentials
from upstream.loop.timers import Timers
from upstream.protocol.cookies import decode
from upstream.protocol.errors import (
    Challenge,
    DownloadFailed,
    ProtocolViolated,
    RateLimited,
    SessionExpired,
    UploadFailed,
    UpstreamError,
)
from upstream.protocol.evaluations import Attachment
from upstream.protocol.files import File, signed_until
from upstream.uploads import Uploads, open_uploads

HEADS = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "jpeg": b"\xff\xd8\xff\xe0",
    "gif": b"GIF89a",
    "webp": b"RIFF\0\0\0\0WEBPVP8 ",
}


def picture(number: int = 0, *, kind: str = "png", size: int = 1000) -> File:
    return File.from_bytes((HEADS[kind] + str(number).encode()).ljust(size, b"\0"))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.retry._back_off", wait_none())


class Uploader:
    """Uploads for an arena's accounts, with a clock that tests move."""

    def __init__(self, arena: Arena, made: Uploads) -> None:
        self.arena = arena
        self.uploads = made
        self.session = arena.sign_in(expires_in=86_400.0)  # renewals are not tested here
        self.rotations: list[str] = []

    async def attach(self, *pictures: File, session: Session | None = None, timeout: float = 5) -> list[Attachment]:
        session = session or self.session
        account = Account("an account", decode(session.cookie_value))
        credentials = Credentials(session.cookie_value, self.rotations.append)
        return await self.uploads.attach(pictures, account, credentials, timeout=timeout)

    @property
    def steps(self) -> Counter[str]:
        """The number of calls of each kind to the site and its storage."""
        return Counter(call.kind for call in (*self.arena.calls, *self.arena.storage.calls))

    async def seen(self, kind: str, number: int = 1) -> None:
        """Wait until this many calls of a kind have arrived."""
        await until(lambda: self.steps[kind] >= number)


@asynccontextmanager
async def uploader_of(
    arena: Arena,
    clock: Callable[[], float] | None = None,
    monotonic: Callable[[], float] | None = None,
    **settings: object,
) -> AsyncIterator[Uploader]:
    values: dict[str, object] = {
        "base_url": arena.origin,
        "origins": frozenset({arena.origin}),
        "user_agent": "a browser's",
        "cf_clearance": "clear",
        "connect_timeout": 5.0,
        "idle_timeout": 5.0,
        "connections": 20,
    }
    async with client.connect(ClientSettings(**values), Timers()) as connected:  # type: ignore[arg-type]  # a test's table of settings
        connected.settings = replace(connected.settings, **settings)  # type: ignore[arg-type]  # as above
        async with open_uploads(connected, clock=clock or (lambda: arena.clock()), monotonic=monotonic) as made:
            yield Uploader(arena, made)


@pytest.fixture
async def uploader(arena: Arena) -> AsyncIterator[Uploader]:
    async with uploader_of(arena) as uploader:
        yield uploader


def later(arena: Arena, seconds: float) -> None:
    now = arena.clock()
    arena.clock = lambda: now + seconds


# The three steps


@pytest.mark.parametrize("kind", HEADS)
async def test_an_uploaded_file_is_stored_unchanged_and_can_be_fetched_at_its_url(
    uploader: Uploader, arena: Arena, kind: str
) -> None:
    sent = picture(kind=kind)
    (attachment,) = await uploader.attach(sent)
    stored = arena.storage.objects[attachment.name]
    assert (stored.data, stored.content_type) == (sent.data, sent.content_type)
    assert attachment.name.startswith(f"{uploader.session.user_id}/")
    assert attachment.name.endswith(sent.name)
    assert attachment.content_type == sent.content_type
    async with aiohttp.ClientSession() as http, http.get(attachment.url) as response:
        assert await response.read() == sent.data


async def test_upload_steps_are_taken_in_order_with_the_headers_of_a_browser(uploader: Uploader, arena: Arena) -> None:
    await uploader.attach(picture())
    *pages, generate, sign = [call for call in arena.calls if call.kind != "script"]
    assert [call.kind for call in pages] == (["page"] if arena.era == 2026 else ["unknown", "page"])
    assert [generate.kind, sign.kind] == ["upload-url", "sign"]
    scripts = [call for call in arena.calls if call.kind == "script"]
    assert {script.kind for script in scripts} == {"script"}
    for action in (generate, sign):
        assert action.headers["content-type"] == "text/plain;charset=UTF-8"
        assert action.headers["accept"] == "text/x-component"
        assert "arena-auth-prod-v1" in action.headers["cookie"]
    (put,) = arena.storage.calls
    assert put.headers.keys() == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
    }
    assert put.headers["user-agent"] == "a browser's"


async def test_a_picture_of_ten_mebibytes_is_uploaded(uploader: Uploader, arena: Arena) -> None:
    sent = picture(size=10 * 1024 * 1024)
    (attachment,) = await uploader.attach(sent)
    assert arena.storage.objects[attachment.name].data == sent.data


async def test_many_pictures_are_uploaded_four_at_a_time_and_keep_their_order(uploader: Uploader, arena: Arena) -> None:
    release = asyncio.Event()
    arena.faults.arm("silent_start", None, on="sign", release=release)
    pictures = [picture(number) for number in range(10)]
    attaching = asyncio.gather(uploader.attach(*pictures))
    await uploader.seen("put", uploads.MAX_PER_REQUEST)
    await asyncio.sleep(0.05)
    assert len(arena.storage.calls) == uploads.MAX_PER_REQUEST
    arena.faults.clear()
    release.set()
    (attachments,) = await attaching
    assert [arena.storage.objects[attachment.name].data for attachment in attachments] == [p.data for p in pictures]


async def test_uploads_of_all_requests_together_stay_within_the_daemons_limit(uploader: Uploader, arena: Arena) -> None:
    release = asyncio.Event()
    arena.faults.arm("no_headers", None, on="put", release=release)
    attaching = asyncio.gather(*(uploader.attach(picture(number)) for number in range(uploads.MAX_AT_ONCE + 8)))
    await uploader.seen("put", uploads.MAX_AT_ONCE)
    await asyncio.sleep(0.05)
    assert len(arena.storage.calls) == uploads.MAX_AT_ONCE
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    arena.faults.clear()
    await uploader.attach(*(picture(number) for number in range(100, 110)))


async def test_a_request_without_pictures_makes_no_upload_calls(uploader: Uploader, arena: Arena) -> None:
    assert await uploader.attach() == []
    assert not arena.calls


# Remembered uploads


async def test_the_same_picture_is_not_uploaded_twice(uploader: Uploader) -> None:
    first = await uploader.attach(picture())
    before = uploader.steps
    assert await uploader.attach(picture(), picture()) == first * 2
    assert uploader.steps == before


async def test_a_url_about_to_expire_is_signed_again_without_an_upload(uploader: Uploader, arena: Arena) -> None:
    (first,) = await uploader.attach(picture())
    later(arena, 3600 - uploads.MIN_VALIDITY_SECONDS - 2)
    assert await uploader.attach(picture()) == [first]
    later(arena, 3)
    (second,) = await uploader.attach(picture())
    assert second.name == first.name
    ends = signed_until(second.url)
    assert ends is not None
    assert ends - arena.clock() > 3590
    assert (uploader.steps["put"], uploader.steps["sign"]) == (1, 2)


@pytest.mark.parametrize("by", [-18_000.0, -3600.0, 0.0, 3600.0, 18_000.0])
async def test_an_uploads_url_expires_on_time_although_the_clock_is_set(arena: Arena, by: float) -> None:
    passed, ahead = 0.0, 0.0
    begun = arena.clock()
    arena.clock = lambda: begun + passed
    async with uploader_of(arena, lambda: begun + passed + ahead, lambda: passed) as uploader:
        (first,) = await uploader.attach(picture())
        ahead += by
        passed = 3600 - uploads.MIN_VALIDITY_SECONDS - 2
        assert await uploader.attach(picture()) == [first]
        passed += 3
        (second,) = await uploader.attach(picture())
        assert second.url != first.url
        assert (uploader.steps["put"], uploader.steps["sign"]) == (1, 2)


async def test_a_short_lived_url_is_signed_each_time(uploader: Uploader, arena: Arena) -> None:
    arena.storage.expires = 200
    await uploader.attach(picture())
    await uploader.attach(picture())
    assert (uploader.steps["put"], uploader.steps["sign"]) == (1, 2)


async def test_a_picture_that_the_storage_has_lost_is_uploaded_again(uploader: Uploader, arena: Arena) -> None:
    (first,) = await uploader.attach(picture())
    arena.storage.forget(first.name)
    later(arena, 3600)
    (second,) = await uploader.attach(picture())
    assert second.name != first.name
    assert second.name in arena.storage.objects


async def test_the_same_picture_is_uploaded_once_per_account(uploader: Uploader, arena: Arena) -> None:
    (first,) = await uploader.attach(picture())
    other = arena.sign_in("grace@example.org")
    (second,) = await uploader.attach(picture(), session=other)
    assert second.name.startswith(f"{other.user_id}/")
    assert (await uploader.attach(picture())) == [first]


async def test_remembered_uploads_are_bounded_and_the_least_recently_used_is_evicted(
    uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_REMEMBERED", 2)
    for number in (1, 2, 1, 3, 1):
        await uploader.attach(picture(number))
    assert uploader.steps["put"] == 3
    await uploader.attach(picture(2))
    assert uploader.steps["put"] == 4


async def test_two_requests_with_one_new_picture_share_its_upload(uploader: Uploader) -> None:
    answers = await asyncio.gather(*(uploader.attach(picture()) for _ in range(20)))
    assert answers == [answers[0]] * 20
    assert uploader.steps["put"] == 1


async def test_a_cancelled_upload_does_not_fail_another_requests_upload(uploader: Uploader, arena: Arena) -> None:
    arena.faults.arm("no_headers", on="put")
    leaving, staying = (asyncio.gather(uploader.attach(picture())) for _ in range(2))
    await uploader.seen("put", 1)
    leaving.cancel()
    ((attachment,),) = await staying
    assert arena.storage.objects[attachment.name].data == picture().data
    with pytest.raises(asyncio.CancelledError):
        await leaving


# Action ids


async def test_action_ids_are_read_once_for_all_uploads_and_again_after_a_deployment(
    uploader: Uploader, arena: Arena
) -> None:
    await uploader.attach(*(picture(number) for number in range(10)))
    assert uploader.steps["page"] == 1
    arena.deploy()
    await asyncio.gather(*(uploader.attach(picture(number)) for number in range(10, 30)))
    assert uploader.steps["page"] == 2
    assert len(arena.storage.objects) == 30


async def test_an_action_id_that_stays_stale_is_reported(uploader: Uploader, arena: Arena) -> None:
    arena.faults.arm("stale_action", 2, on="upload-url")
    with pytest.raises(UploadFailed, match="stale"):
        await uploader.attach(picture())
    assert uploader.steps["page"] == 2
    await uploader.attach(picture())


async def test_the_next_request_reads_the_action_ids_after_a_cancelled_one(uploader: Uploader, arena: Arena) -> None:
    arena.faults.arm("no_headers", on="page")
    leaving, staying = (asyncio.gather(uploader.attach(picture(number))) for number in range(2))
    await uploader.seen("page")
    leaving.cancel()
    await staying
    with pytest.raises(asyncio.CancelledError):
        await leaving


# Failures


REPEATED = {
    "503 from the storage, twice": ("put_unavailable", 2, "put"),
    "503 from the storage, as a page": ("server_error", 1, "put"),
    "a reset before the answer": ("reset_before_headers", 2, "put"),
    "no answer to the upload": ("close_before_headers", 1, "put"),
    "503 for an action": ("server_error", 2, "upload-url"),
    "an action reset in the middle": ("reset_middle", 1, "sign"),
    "a limit that is over at once": ("rate_limited", 1, "sign"),
    "503 for the page": ("server_error", 1, "page"),
    "503 for a script": ("server_error", 1, "script"),
    "an upload URL that has expired": ("expired_url", 1, "upload-url"),
    "403 from the storage": ("put_expired", 1, "put"),
    "a stale id": ("stale_action", 1, "upload-url"),
    "a stale id at the last step": ("stale_action", 1, "sign"),
}
PARAMETERS: defaultdict[str, dict[str, Any]] = defaultdict(
    dict, {"rate_limited": {"retry_after": "0"}, "server_error": {"status": 503}, "redirect": {"location": "/a"}}
)


@pytest.mark.parametrize(("fault", "times", "on"), REPEATED.values(), ids=REPEATED)
async def test_an_upload_step_is_repeated_after_a_transient_failure(
    uploader: Uploader, arena: Arena, fault: str, times: int, on: str
) -> None:
    arena.faults.arm(fault, times, on=on, **PARAMETERS[fault])
    (attachment,) = await uploader.attach(picture())
    assert arena.storage.objects[attachment.name].data == picture().data


FAILING = {
    "503 from the storage, thrice": ("put_unavailable", 3, "put"),
    "resets without end": ("reset_before_headers", None, "put"),
    "two upload URLs that have expired": ("expired_url", 2, "upload-url"),
    "no upload URL": ("action_failed", None, "upload-url"),
    "no signature": ("action_failed", None, "sign"),
    "a limit of the storage's": ("rate_limited", None, "put"),
    "a redirect by the storage": ("redirect", None, "put"),
    "404 for an action": ("evaluation_gone", None, "upload-url"),
    "404 for the page": ("evaluation_gone", None, "page"),
    "404 for all scripts": ("evaluation_gone", None, "script"),
    "silence": ("no_headers", None, "put"),
}


@pytest.mark.parametrize(("fault", "times", "on"), FAILING.values(), ids=FAILING)
async def test_a_lasting_failure_fails_the_upload_without_quoting_its_url(
    uploader: Uploader, arena: Arena, fault: str, times: int | None, on: str
) -> None:
    arena.faults.arm(fault, times, on=on, **PARAMETERS[fault])
    with pytest.raises(UploadFailed) as caught:
        await uploader.attach(picture(), timeout=1 if fault == "no_headers" else 60)
    told = f"{caught.value} {caught.value.detail}"
    assert "X-Amz" not in told
    assert arena.storage.origin not in told
    arena.faults.clear()
    await uploader.attach(picture())


async def test_a_timeout_of_the_sites_gateway_is_repeated_and_fails_only_the_upload(
    uploader: Uploader, arena: Arena
) -> None:
    arena.faults.arm("server_error", 2, on="action", status=504)
    await uploader.attach(picture(1))
    arena.faults.arm("server_error", None, on="action", status=504)
    with pytest.raises(UploadFailed, match=r"gateway timed out \(504\)"):
        await uploader.attach(picture(2))


PASSED_ON: dict[str, tuple[str, type[UpstreamError]]] = {
    "a dead session": ("expired", SessionExpired),
    "a limit of the account's": ("rate_limited", RateLimited),
    "a challenge": ("challenge", Challenge),
}


@pytest.mark.parametrize(("fault", "error"), PASSED_ON.values(), ids=PASSED_ON)
async def test_an_upload_raises_errors_of_the_account_or_the_site_unchanged(
    uploader: Uploader, arena: Arena, fault: str, error: type[UpstreamError]
) -> None:
    more: dict[str, Any] = {"retry_after": "60"} if fault == "rate_limited" else {}
    arena.faults.arm(fault, None, on="action", **more)
    with pytest.raises(error) as caught:
        await uploader.attach(picture(1), picture(2))
    assert type(caught.value) is error
    assert uploader.steps["put"] == 0
    assert uploader.steps["upload-url"] <= 2


async def test_an_html_page_in_place_of_an_actions_answer_is_reported_by_its_type(
    uploader: Uploader, arena: Arena
) -> None:
    arena.faults.arm("html", on="sign")
    with pytest.raises(ProtocolViolated, match="text/html"):
        await uploader.attach(picture())


async def test_a_cookie_rotated_during_an_upload_is_used_for_the_next_step(uploader: Uploader, arena: Arena) -> None:
    old = uploader.session.cookie_value
    arena.faults.arm("rotate_cookie", on="upload-url")
    await uploader.attach(picture())
    assert uploader.rotations == [uploader.session.cookie_value] != [old]


# The storage's URLs


def elsewhere(url: str) -> Callable[..., str]:
    return lambda *_, **__: url


@pytest.mark.parametrize(
    ("base_url", "url", "why"),
    [
        ("http://lmarena.example", "{origin}/a", "no public address"),
        ("http://lmarena.example", "http://[::1]/a", "no public address"),
        ("https://lmarena.example", "{origin}/a", "invalid URL"),
        ("http://127.0.0.1", "file:///etc/passwd", "invalid URL"),
        ("http://127.0.0.1", "http://user:word@127.0.0.1/a", "invalid URL"),
        ("http://127.0.0.1", "{origin}/a b", "invalid URL"),
        ("http://127.0.0.1", "{origin}/a\r\nCookie: b", "invalid URL"),
        ("http://127.0.0.1", "http://[::1", "invalid URL"),
    ],
)
async def test_an_invalid_storage_url_is_refused(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, base_url: str, url: str, why: str
) -> None:
    url = url.format(origin=arena.storage.origin)
    monkeypatch.setattr(arena.storage, "presign", elsewhere(url))
    async with uploader_of(arena, base_url=base_url) as uploader:
        with pytest.raises(UploadFailed, match=why):
            await uploader.attach(picture())
        with pytest.raises(DownloadFailed, match=why):
            await uploader.uploads.download(url, limit_bytes=1000, timeout=5)
    assert not arena.storage.calls


# Downloads


async def test_a_generated_picture_is_downloaded(uploader: Uploader, arena: Arena) -> None:
    url = arena.storage.draw("a fox")
    (stored,) = arena.storage.objects.values()
    size = len(stored.data)
    arena.faults.arm("reset_middle", on="get", after=1)
    assert await uploader.uploads.download(url, limit_bytes=size, timeout=5) == (stored.data, "image/png")
    with pytest.raises(DownloadFailed, match="larger"):
        await uploader.uploads.download(url, limit_bytes=size - 1, timeout=5)
    assert not {"cookie", "authorization"} & arena.storage.calls[0].headers.keys()


@pytest.mark.parametrize(
    ("fault", "why", "timeout"),
    [
        ("huge_body", "larger", 60),
        ("endless_body", "larger", 60),
        ("no_headers", "within 0.5 s", 0.5),
        ("html", "not a picture", 60),
    ],
)
async def test_a_download_is_limited_in_size_time_and_content(
    uploader: Uploader, arena: Arena, fault: str, why: str, timeout: float
) -> None:
    url = arena.storage.draw("a fox")
    arena.faults.arm(fault, None, on="get")
    with pytest.raises(DownloadFailed, match=why):
        await uploader.uploads.download(url, limit_bytes=100_000, timeout=timeout)


async def test_an_expired_picture_url_fails_the_download_and_is_not_quoted(uploader: Uploader, arena: Arena) -> None:
    url = arena.storage.draw("a fox")
    later(arena, 3601)
    with pytest.raises(DownloadFailed, match="403") as caught:
        await uploader.uploads.download(url, limit_bytes=100_000, timeout=5)
    assert "X-Amz" not in str(caught.value)
