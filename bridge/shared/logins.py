"""Logins of the dashboard, shared by all processes: a login is valid at each of them, whichever it began at.

A login is a key that expires when it is idle. It holds a digest of the password's hash, so a change of the password
ends it everywhere.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256, shake_256
from typing import Final

import orjson

from bridge.access.logins import IDLE_SECONDS, LONGEST_SECONDS, Login, Logins
from bridge.shared.link import Link
from bridge.state.errors import StateUnavailable

_IDLE_MS: Final = round(IDLE_SECONDS * 1000)
_NONCE_BYTES: Final = 16


class RedisLogins:
    """Writes this process's logins to Redis, and fetches those of others into `logins`.

    `password_hash` returns the hash of the dashboard's present password, '' if there is none; `clock` is the monotonic
    clock of `logins`.
    """

    def __init__(
        self, link: Link, logins: Logins, password_hash: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        self._link = link
        self._logins = logins
        self._password_hash = password_hash
        self._clock = clock

    async def fetch(self, session_id: str, *, used: bool) -> None:
        """Update what this process knows of a login; `used` prolongs the login. Without Redis nothing changes."""
        key = self._key(session_id)
        try:
            text = await self._link.text(key, *([("PEXPIRE", key, _IDLE_MS)] if used else ()))
        except StateUnavailable:
            return
        known = self._logins.find(session_id, used=False)
        match _read(text):
            case None if known is not None and text is None:  # Redis has lost it; one that has ended is "ended" there
                await self.keep(session_id, known)
            case {"csrf": str(csrf), "began": int() | float() as began, "password": password} if (
                password == self._password()
            ):
                now = self._clock()
                if known is None:
                    self._logins.adopt(session_id, Login(csrf, now - (time.time() - began), now))
            case _:
                self._logins.end(session_id)

    async def keep(self, session_id: str, login: Login) -> None:
        """Let all processes find a login that has begun here."""
        began = time.time() - (self._clock() - login.began)
        value = {"csrf": login.csrf, "began": began, "password": self._password()}
        with suppress(StateUnavailable):  # it is valid in this process
            await self._link.call(("SET", self._key(session_id), orjson.dumps(value), "PX", _IDLE_MS))

    def end(self, session_id: str) -> None:
        """End a login at all processes."""
        self._link.post(
            ("SET", self._key(session_id), "ended", "EX", round(LONGEST_SECONDS)), ("DEL", self._created(session_id))
        )

    async def keep_made(self, session_id: str, key_id: str, secret: str, seconds: float) -> None:
        """Keep the secret of an API key that this login has made, for whichever process serves its next page."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        encrypted = nonce + _encrypt(f"{key_id} {secret}".encode(), nonce, session_id)
        with suppress(StateUnavailable):  # this process shows it
            await self._link.call(("SET", self._created(session_id), encrypted, "PX", round(seconds * 1000)))

    async def made(self, session_id: str) -> tuple[str, str]:
        """The id and the secret of the API key that this login has made last; both '' if they are not kept any more."""
        try:
            encrypted = await self._link.text(self._created(session_id))
        except StateUnavailable:
            return "", ""
        if encrypted is None:
            return "", ""
        nonce, rest = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
        key_id, _, secret = _encrypt(rest, nonce, session_id).decode("utf-8", "replace").partition(" ")
        return key_id, secret

    def _created(self, session_id: str) -> str:
        return self._link.key("made", _digest(session_id))

    def _key(self, session_id: str) -> str:
        return self._link.key("login", _digest(session_id))

    def _password(self) -> str:
        return _digest(self._password_hash())


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()


def _encrypt(text: bytes, nonce: bytes, session_id: str) -> bytes:
    """Encrypt or decrypt a text with a key stream from the session id, of which Redis has only the hash."""
    key_stream = shake_256(nonce + session_id.encode(errors="surrogatepass")).digest(len(text))
    return bytes(one ^ other for one, other in zip(text, key_stream, strict=True))


def _read(text: bytes | None) -> object:
    try:
        return None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
