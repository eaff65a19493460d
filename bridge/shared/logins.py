"""Logins of the dashboard that all processes know: one begun at one process is found at any other.

A login is a key that expires when it is idle. It names the password that it was begun with, so that a change of the
password ends it everywhere.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from hashlib import sha256, shake_256
from typing import Final

import orjson

from bridge.access.logins import IDLE_SECONDS, LONGEST_SECONDS, Login, Logins
from bridge.shared.link import Link
from bridge.state.documents import StateUnavailable

_IDLE_MS: Final = round(IDLE_SECONDS * 1000)
_NONCE_BYTES: Final = 16


class RedisLogins:
    """Brings logins to Redis and from there; `logins` has those of this process.

    `password_hash` is that of the dashboard's present password, '' where there is none; `clock` is the monotonic clock
    of `logins`.
    """

    def __init__(
        self, link: Link, logins: Logins, password_hash: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        self._link = link
        self._logins = logins
        self._password_hash = password_hash
        self._clock = clock

    async def fetch(self, session_id: str, *, used: bool) -> None:
        """Make this process know a login as it is now. Without Redis, it knows what it knew."""
        key = self._key(session_id)
        try:
            text = await self._link.text(key, *([("PEXPIRE", key, _IDLE_MS)] if used else ()))
        except StateUnavailable:
            return
        known = self._logins.find(session_id, used=False)
        match _read(text):
            case None if known is not None and text is None:  # Redis has lost it: one that has ended leaves a mark
                await self.keep(session_id, known)
            case {"csrf": str(csrf), "began": int() | float() as began, "password": password} if (
                password == self._password()
            ):
                now = self._clock()
                if known is None:
                    self._logins.put(session_id, Login(csrf, now - (time.time() - began), now))
            case _:
                self._logins.end(session_id)

    async def keep(self, session_id: str, login: Login) -> None:
        """Make all processes know a login that has begun here."""
        began = time.time() - (self._clock() - login.began)
        value = {"csrf": login.csrf, "began": began, "password": self._password()}
        try:
            await self._link.call(("SET", self._key(session_id), orjson.dumps(value), "PX", _IDLE_MS))
        except StateUnavailable:  # it holds in this process
            return

    def end(self, session_id: str) -> None:
        """A login has ended."""
        self._link.post(
            ("SET", self._key(session_id), "ended", "EX", round(LONGEST_SECONDS)), ("DEL", self._made(session_id))
        )

    async def keep_made(self, session_id: str, key_id: str, secret: str, seconds: float) -> None:
        """Let whichever process shows the page after it show the secret of a key that this login has made."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        veiled = nonce + _veil(f"{key_id} {secret}".encode(), nonce, session_id)
        try:
            await self._link.call(("SET", self._made(session_id), veiled, "PX", round(seconds * 1000)))
        except StateUnavailable:  # this process shows it
            return

    async def made(self, session_id: str) -> tuple[str, str]:
        """The id and the secret of the key that this login has made last; both '' where that is not known any more."""
        try:
            veiled = await self._link.text(self._made(session_id))
        except StateUnavailable:
            return "", ""
        if veiled is None:
            return "", ""
        nonce, rest = veiled[:_NONCE_BYTES], veiled[_NONCE_BYTES:]
        key_id, _, secret = _veil(rest, nonce, session_id).decode("utf-8", "replace").partition(" ")
        return key_id, secret

    def _made(self, session_id: str) -> str:
        return self._link.key("made", _digest(session_id))

    def _key(self, session_id: str) -> str:
        return self._link.key("login", _digest(session_id))

    def _password(self) -> str:
        return _digest(self._password_hash())


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _veil(text: bytes, nonce: bytes, session_id: str) -> bytes:
    """Veil a text, or unveil it, with bytes that only the session id gives: Redis has no more than that id's hash."""
    stream = shake_256(nonce + session_id.encode(errors="surrogatepass")).digest(len(text))
    return bytes(one ^ other for one, other in zip(text, stream, strict=True))


def _read(text: bytes | None) -> object:
    try:
        return None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
