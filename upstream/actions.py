"""The server actions of the site's page: calls that name a function by an id found only in the page's scripts.

The protocol: docs/protocol.md, "Server actions and uploads".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import orjson

from upstream.client import ArenaClient
from upstream.credentials import Credentials
from upstream.loop.parallel import map_concurrently
from upstream.protocol.errors import NotFound, RateLimited, Rejected, SessionExpired, StaleAction, UploadFailed
from upstream.protocol.flight import FlightError, Page, action_ids, action_result
from upstream.retry import IdempotentRetries

#: The server actions for uploading a file: one returns a URL to upload to, the other a URL to read from.
GENERATE_UPLOAD_URL: Final = "generateUploadUrl"
GET_SIGNED_URL: Final = "getSignedUrl"
UPLOAD_ACTIONS: Final = frozenset({GENERATE_UPLOAD_URL, GET_SIGNED_URL})
#: How many scripts are read concurrently: as many as a browser has connections to one host.
MAX_SCRIPTS: Final = 6


class ServerActions:
    """Calls the page's server actions. Their ids are read on first use, and again when they are stale.

    `retries` applies to single requests, all of which are idempotent.
    """

    def __init__(self, client: ArenaClient, retries: IdempotentRetries) -> None:
        self._client = client
        self._retries = retries
        self._ids: Mapping[str, str] | None = None
        self._reading_ids = asyncio.Lock()

    async def call(self, name: str, arguments: Sequence[str], credentials: Credentials, *, timeout: float) -> object:
        """Call one of UPLOAD_ACTIONS; return its data, or None if it failed or its answer cannot be read.

        If the site refuses the id as stale, the call is repeated once with fresh ids. `timeout` is in seconds, for each
        request. Raises UpstreamError: UploadFailed if the ids cannot be found.
        """
        body = orjson.dumps(arguments)
        ids = self._ids or await self._ids_after(None, timeout)
        try:
            return await self._call(ids[name], body, credentials, timeout)
        except StaleAction:
            ids = await self._ids_after(ids, timeout)
            return await self._call(ids[name], body, credentials, timeout)

    async def _call(self, action_id: str, body: bytes, credentials: Credentials, timeout: float) -> object:
        answer = await self._retries.run(partial(self._client.action, action_id, body, credentials, timeout=timeout))
        with suppress(FlightError):  # the action failed, or its result has an unknown format
            match action_result(answer):
                case {"success": True, "data": data}:
                    return data
        return None

    async def _ids_after(self, stale: Mapping[str, str] | None, timeout: float) -> Mapping[str, str]:
        """The action ids, read again unless another call already replaced `stale`."""
        async with self._reading_ids:
            if self._ids is None or self._ids is stale:
                self._ids = await self._read_ids(timeout)
            return self._ids

    async def _read_ids(self, timeout: float) -> Mapping[str, str]:
        """Read the ids without a cookie: with one, the page could renew the login while other calls use it."""

        async def read_script(path: str) -> str:
            try:
                return await self._retries.run(partial(self._client.read, path, timeout=timeout))
            except NotFound:  # the page may name scripts that do not exist
                return ""

        try:
            text = await self._retries.run(partial(self._client.page, timeout=timeout))
            ids = await find_upload_actions(await asyncio.to_thread(Page.parse, text), read_script)
        except (SessionExpired, RateLimited, Rejected) as error:  # no cookie was sent, so no account is at fault
            raise UploadFailed(f"LMArena's page or its scripts cannot be read: {error.message}") from error
        if not ids.keys() >= UPLOAD_ACTIONS:
            raise UploadFailed("LMArena has changed: its page has no upload actions.")
        return ids


async def find_upload_actions(page: Page, read_script: Callable[[str], Awaitable[str]]) -> dict[str, str]:
    """Find the ids of UPLOAD_ACTIONS, by name, in the page's scripts; those that no script has are left out.

    `read_script` returns the script at a path, '' if it cannot be read; an exception from it ends the search.
    """

    async def ids_in(path: str) -> dict[str, str]:
        found = await asyncio.to_thread(action_ids, await read_script(path))
        return {name: found[name] for name in UPLOAD_ACTIONS if name in found}

    ids: dict[str, str] = {}
    for found in await map_concurrently(ids_in, await asyncio.to_thread(page.script_paths), MAX_SCRIPTS):
        ids |= found
    return ids
