"""aiohttp's connection, except that an answer can hear of its data in the moment in which it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp.client_proto import ResponseHandler


class Connection(ResponseHandler):
    """One connection. `on_data` is called behind each read from the socket, and when the connection is lost."""

    __slots__ = ("on_data",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.on_data: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what has come, as aiohttp does."""
        super().data_received(data)
        if self.on_data is not None and data:  # without any it goes on behind a pause, amid a read of the body
            self.on_data()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the body, as aiohttp does."""
        super().connection_lost(exc)
        if self.on_data is not None:
            self.on_data()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on after a pause. Each read of a body asks for it, and aiohttp parses anew though nothing was paused."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)
