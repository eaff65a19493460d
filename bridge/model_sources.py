"""Reading the site's two lists of models, its catalog and its page, of which either may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from upstream.client import ArenaClient
from upstream.protocol.errors import ProtocolViolated, UpstreamError
from upstream.protocol.flight import Page
from upstream.protocol.models import ModelList, merged, read_catalog

T = TypeVar("T")


class Sources(NamedTuple):
    """The results of reading the two sources of models: each is a list, None if the source has none, or an error.

    `page` is the list on the page; `site_page` is the page itself, None if it cannot be read.
    """

    catalog: ModelList | UpstreamError | None
    page: ModelList | UpstreamError | None
    site_page: Page | None

    def merged(self) -> ModelList:
        """Merge both lists. Raises UpstreamError if neither has a model."""
        found = merged(*(each if isinstance(each, ModelList) else None for each in (self.catalog, self.page)))
        if not found.models:
            failures = (each for each in (self.catalog, self.page) if isinstance(each, UpstreamError))
            raise next(failures, ProtocolViolated("LMArena lists no model that can be read."))
        return found


async def read_list(client: ArenaClient, *, timeout: float) -> ModelList:
    """Read the models from the site's catalog and its page, as far as these can be read, merged by id.

    Neither needs a login. Raises UpstreamError if neither has a model.
    """
    return (await read_sources(client, timeout=timeout)).merged()


async def read_sources(client: ArenaClient, *, timeout: float) -> Sources:
    """Read the site's catalog and its page concurrently, without a login. `timeout` is in seconds, for each."""

    async def read_catalog_document() -> ModelList | None:
        body = await client.catalog(timeout=timeout)
        # In a thread, so that a large response cannot block the event loop.
        return None if body is None else await asyncio.to_thread(read_catalog, body)

    async def read_page() -> tuple[Page, ModelList | UpstreamError | None]:
        page = await asyncio.to_thread(Page.parse, await client.page(timeout=timeout))
        try:
            return page, await asyncio.to_thread(page.models)
        except UpstreamError as error:
            return page, error

    catalog, page = await asyncio.gather(_attempted(read_catalog_document), _attempted(read_page))
    site_page, listed = (None, page) if isinstance(page, UpstreamError) else page
    return Sources(catalog, listed, site_page)


async def _attempted(read: Callable[[], Awaitable[T]]) -> T | UpstreamError:
    try:
        return await read()
    except UpstreamError as error:
        return error
