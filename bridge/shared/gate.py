"""Whether the site demands a human or is down: a process that learns it tells the others at once."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import orjson

from bridge.shared.link import Link
from bridge.state.errors import StateUnavailable
from upstream.gate import OUTAGES, WALLS, Gate
from upstream.protocol.errors import UpstreamError

#: The topic of this news. The text is the name of the process and what it has learned.
TOPIC: Final = "gate"
#: How long processes that start learn of a wall, in seconds. It falls when a probe gets through.
KEPT_SECONDS: Final = 3600


class RedisGate:
    """Tells the other processes what `gate` learns, and tells `gate` what they have learned."""

    def __init__(self, link: Link, gate: Gate) -> None:
        self._link = link
        self._gate = gate
        gate.on_change = self._publish
        link.on_news(TOPIC, self._on_news)
        link.on_reconnect(self._catch_up)

    def _publish(self) -> None:
        gate = self._gate
        value = {"wall": _to_json(gate.wall), "outage": _to_json(gate.outage), "open_for": gate.open_for}
        text = orjson.dumps(value).decode()
        name = self._link.settings.instance
        self._link.post(
            ("SET", self._link.key("gate"), text, "EX", KEPT_SECONDS),
            self._link.publish_command(TOPIC, f"{name} {text}"),
        )

    def _on_news(self, news: str) -> None:
        name, _, text = news.partition(" ")
        if not name:  # some may have been missed
            self._link.spawn(self._read_again(), name="read the gate")
        elif name != self._link.settings.instance:
            self._adopt(text)

    async def _read_again(self) -> None:
        with suppress(StateUnavailable):  # it is read once Redis is back
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Adopt what other processes know. Raises StateUnavailable."""
        if self._gate.wall is None and self._gate.outage is None:
            text = await self._link.text(self._link.key("gate"))
            if text is not None:
                self._adopt(text.decode("utf-8", "replace"))

    def _adopt(self, text: str) -> None:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:  # not the bridge's
            return
        match value:
            case {"wall": wall, "outage": outage, "open_for": int() | float() as open_for}:
                self._gate.adopt(_from_json(wall, WALLS), _from_json(outage, OUTAGES), float(open_for))


def _to_json(error: UpstreamError | None) -> object:
    if error is None:
        return None
    return {"kind": type(error).__name__, "message": error.message, "status": error.status, "detail": error.detail}


def _from_json(value: object, kinds: Iterable[type[UpstreamError]]) -> UpstreamError | None:
    match value:
        case {"kind": kind, "message": str(message), "status": status, "detail": str(detail)} if isinstance(
            status, int | None
        ):
            found = next((each for each in kinds if each.__name__ == kind), None)
            return None if found is None else found(message, status=status, detail=detail)
    return None
