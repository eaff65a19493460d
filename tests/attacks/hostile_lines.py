"""Measures the CPU time for parsing a hostile site's lines, pages and catalogs. Uses no network.

python tests/attacks/hostile_lines.py       (about 20 s; the root of the checkout on PYTHONPATH)

Each row has the CPU time of the slowest single call. For lines that is the data fed in one iteration of the event loop,
which should take less than 50 ms; for the others a document of 1 MiB, which the daemon reads in a thread, in pieces.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from time import process_time

from upstream.answer import MANY_LINES, PIECE_BYTES
from upstream.protocol import flight, models
from upstream.protocol.errors import ProtocolViolated
from upstream.protocol.flight import FlightError
from upstream.protocol.wire import Wire

READ = 32 * 1024

#: Lines that are repeated to fill whole reads.
LINES: dict[str, bytes] = {
    "honest deltas": b'a0:"hello "\n',
    "a0 and ag in turn": b'a0:"x"\nag:"x"\n',
    "empty a0 and ag in turn": b'a0:""\nag:""\n',
    "deltas that end in CRLF": b'a0:"x"\r\n',
    "deltas that end in a blank": b'a0:"x" \n',
    "deltas with a blank before": b'a0: "x"\n',
    "the prefix on every other line": b'data: a0:"x"\na0:"x"\n',
    "unknown tags": b"zz:\n",
    "many unknown tags": b"".join(b"%c%c:\n" % (65 + n // 26, 97 + n % 26) for n in range(26 * 26)),
    "no tags": b"z\n",
    "empty lines": b"\n",
    "CRs alone": b"\r\n",
    "blanks": b" \n",
    "bookkeeping": b"ae:0\n",
    "bookkeeping with words": b'ae:{"message":"x"}\n',
    "other bookkeeping": b"af:\n",
    "heartbeats": b'a2:[{"type":"heartbeat"}]\n',
    "items that are none": b"a2:0\n",
    "citations that are none": b"ac:0\n",
    "citations": b'ac:{"argsTextDelta":"{\\"source\\":{\\"url\\":\\"x\\"}}"}\n',
    "lone surrogates": rb'a0:"\ud800"' + b"\n",
    "low surrogates": rb'a0:"\udc00"' + b"\n",
    "surrogates in turn": rb'a0:"\ud800"' + b"\n" + rb'ag:"\ud800"' + b"\n",
    "raw control characters": b'a0:"\x01"\n',
}

#: Functions that make one line of about the given number of bytes.
LONG: dict[str, Callable[[int], bytes]] = {
    "a line of text": lambda size: b'a0:"' + b"x" * size + b'"\n',
    "a line of lone surrogates": lambda size: b'a0:"' + rb"\ud800" * (size // 6) + b'"\n',
    "a line of raw control characters": lambda size: b'a0:"' + b"\x01" * size + b'"\n',
    "a line of escapes": lambda size: b'a0:"' + rb"\u00e9" * (size // 6) + b'"\n',
    "a line of items": lambda size: b"a2:[" + b"0," * (size // 2) + b"0]\n",
    "a line of items of unknown types": lambda size: b"a2:[" + b'{"type":"x"},' * (size // 13) + b"0]\n",
    "a line of lists": lambda size: b"a2:[" + b"[]," * (size // 3) + b"0]\n",
    "a line of brackets": lambda size: b"a2:" + b"[" * size + b"\n",
    "a line of sources": lambda size: (
        b'ac:{"argsTextDelta":"{\\"source\\":[' + b'{\\"url\\":\\"x\\"},' * (size // 16) + b'0]}"}\n'
    ),
    "a line of offsets": lambda size: (
        b'ac:{"argsTextDelta":"{\\"source\\":{\\"url\\":\\"x\\",\\"charLocation\\":['
        + b"1," * (size // 2)
        + b'0]}}"}\n'
    ),
    "a failure in a failure": lambda size: b'a3:"' + rb"{\"error\":" * (size // 10) + b'"\n',
}

PAGES: dict[str, Callable[[int], str]] = {
    "lists in lists": lambda size: '"initialModels":[{' * (size // 18),
    "lists with one entry each": lambda size: '"initialModels":[{}],' * (size // 21),
    "lists cut short": lambda size: '"initialModels":[{},{' * (size // 21),
    "empty lists in a list": lambda size: '"initialModels":[' + "[]," * (size // 3) + "0]",
    "pushes that are none": lambda size: r'self.__next_f.push([1,"\x"])' * (size // 28),
    "pushes of control characters": lambda size: 'self.__next_f.push([1,"\n"])' * (size // 27),
    "pushes within a push": lambda size: 'self.__next_f.push([1,"' * (size // 23),
    "scripts": lambda size: "".join(f'"static/chunks/{n}.js"' for n in range(size // 24)),
    "scripts that never end": lambda size: "static/chunks/" * (size // 14),
    "scripts of dots": lambda size: "static/chunks/" + ".js?" * (size // 4),
    "absent lists": lambda size: '"initialModels":"$undefined",' * (size // 29),
}

CATALOGS: dict[str, Callable[[int], bytes]] = {
    "a catalog of lists": lambda size: b"[" + b"[]," * (size // 3) + b"0]",
    "a catalog of brackets": lambda size: b"[" * size,
    "a catalog of empty groups": lambda size: b"[" + b'{"arena":"x","models":[]},' * (size // 26) + b"0]",
    "a catalog of surrogates": lambda size: b'["' + rb"\ud800" * (size // 6) + b'"]',
    "a catalog of models": lambda size: (
        b'[{"arena":"x","models":['
        + b",".join(
            b'{"id":"%d","publicName":"m","capabilities":{"inputCapabilities":{},"outputCapabilities":{}}}' % n
            for n in range(size // 90)
        )
        + b"]}]"
    ),
}

ACTIONS: dict[str, Callable[[int], bytes]] = {
    "empty rows": lambda size: b":\n" * (size // 2),
    "rows of no bytes": lambda size: b"2:T0," * (size // 5),
}


def turns(data: bytes) -> Iterator[bytes]:
    """The data fed in each iteration of the loop: a read, or a piece of a read with many lines (`upstream.answer`)."""
    for start in range(0, len(data), READ):
        read = data[start : start + READ]
        size = PIECE_BYTES if read.count(b"\n") > MANY_LINES else READ
        for place in range(0, len(read), size):
            yield read[place : place + size]


def slowest(data: bytes) -> float:
    """The CPU time of the slowest iteration for an answer, in seconds."""
    wire, longest = Wire(), 0.0
    for fed in turns(data):
        began = process_time()
        wire.feed(fed)
        longest = max(longest, process_time() - began)
    return longest


def timed(call: Callable[[], object]) -> float:
    began = process_time()
    with suppress(ProtocolViolated, FlightError):
        call()
    return process_time() - began


def models_of(text: str) -> object:
    return flight.Page.parse(text).models()


def scripts_of(text: str) -> object:
    return flight.Page.parse(text).script_paths()


def say(name: str, seconds: float) -> None:
    print(f"{name:45}{seconds * 1000:10.2f} ms", flush=True)


def main() -> None:
    """Print a row for each case."""
    small = 1024 * 1024 if "--small" in sys.argv else 8 * 1024 * 1024 - 100
    for name, line in LINES.items():
        say(name, min(slowest((line * (4 * READ // len(line) + 1))[: 4 * READ]) for _ in range(3)))
    for name, long in LONG.items():
        say(name, slowest(long(small)))
    size = 1024 * 1024
    for name, page in PAGES.items():
        text = page(size)
        say(f"page, {name}", timed(partial(models_of, text)))
        say(f"page, {name}: scripts", timed(partial(scripts_of, text)))
    for name, catalog in CATALOGS.items():
        body = catalog(size)
        say(name, timed(partial(models.read_catalog, body)))
    for name, action in ACTIONS.items():
        body = action(size)
        say(f"action, {name}", timed(partial(flight.action_result, body)))


main()
