"""All undocumented parts of aiohttp that the server uses, under public names, and a check that they exist.

aiohttp.web has no public way to bound the cost of callers without a key, nor to send headers together with the body.
Nothing outside this file may use a private name of aiohttp (`tests/handlers/request/test_aiohttp_internals.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.http import StreamWriter

#: The attributes that an instance of each class must have.
_ATTRIBUTES: Final[dict[type, tuple[str, ...]]] = {
    web.RequestHandler: ("_messages", "_request_in_progress", "_task_handler", "_waiter", "transport"),
    web.StreamResponse: ("_send_headers_immediately",),
    StreamWriter: ("chunked", "output_size"),
    aiohttp.StreamReader: ("total_raw_bytes",),
}
#: The methods that are overridden or called, with the parameters that are passed to them.
_METHODS: Final[dict[str, tuple[str, ...]]] = {
    "__init__": (
        *("manager", "loop", "keepalive_timeout", "access_log", "lingering_time", "read_bufsize"),
        *("max_line_size", "max_field_size", "max_headers", "auto_decompress"),
    ),
    "close": (),
    "connection_lost": ("exc",),
    "connection_made": ("transport",),
    "data_received": ("data",),
    "finish_response": ("request", "resp", "start_time"),
    "force_close": (),
    "handle_error": ("request", "status", "exc", "message"),
    "log_exception": (),
}


class IncompatibleAiohttp(Exception):
    """aiohttp lacks something that the server uses; the text names its version, and what is missing."""


class ServerConnection(web.RequestHandler):
    """aiohttp's connection, with some of its private state made public."""

    #: Called when the connection is lost while a request is being handled; returns whether the handler goes on.
    on_disconnect: Callable[[], bool] | None = None
    #: Whether the answer to the request that is being handled has been written to its end. The rest of the handler then
    #: goes on after the connection is lost.
    answer_written = False

    def detach_handler(self) -> None:
        """Let the running handler go on after the connection is lost: aiohttp will not cancel its task."""
        self._task_handler = None

    @property
    def is_answering(self) -> bool:
        """Whether a request is being handled or its answer sent."""
        return self._request_in_progress

    @property
    def is_waiting(self) -> bool:
        """Whether the connection is idle: it waits for a request."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def parsed(self) -> Sequence[tuple[object, aiohttp.StreamReader]]:
        """The head and body of each parsed request that no handler has taken. A head with `exc` is a parse error."""
        return self._messages


class CallerResponse(web.StreamResponse):
    """A response whose headers are sent together with the first part of its body: one packet, one system call."""

    _send_headers_immediately = False


def check_aiohttp() -> None:
    """Raise IncompatibleAiohttp if anything is missing; needs a running event loop."""
    if missing := _missing(web.Server(_unused)()):
        what = ", ".join(missing)
        raise IncompatibleAiohttp(
            f"aiohttp {aiohttp.__version__} does not have what the server needs: {what}; "
            "install the version that requirements/runtime.txt names"
        )


async def _unused(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


def _missing(connection: web.RequestHandler) -> list[str]:
    missing = [
        f"{kind.__name__}.{name}"
        for kind, names in _ATTRIBUTES.items()
        for name in names
        if not hasattr(connection if kind is web.RequestHandler else kind, name)
    ]
    for name, parameters in _METHODS.items():
        method = getattr(web.RequestHandler, name, None)
        if method is None:
            missing.append(f"RequestHandler.{name}()")
        else:
            accepted = inspect.signature(method).parameters
            missing += [f"RequestHandler.{name}({each})" for each in parameters if each not in accepted]
    return missing
