"""Makes calls through proxies that answer garbage: each must fail with one clear error and leak nothing.

python tests/attacks/hostile_proxies.py [--seed N]     (a minute; loopback only)

It tries thousands of answers of an HTTP and a SOCKS5 proxy: random bytes, valid answers with bytes changed, cut off or
inserted, endless heads and 1xx answers, and replies with every address type. It checks the kind of each error and its
text, which must not quote the proxy, and prints the growth of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the imports below need it: hence their E402

from upstream.http.connector import Reach  # noqa: E402 — the path is set above
from upstream.http.exchange import open_exchanges  # noqa: E402 — the path is set above
from upstream.http.exchange_types import HttpError, NotSent  # noqa: E402 — the path is set above
from upstream.http.proxies import Proxies  # noqa: E402 — the path is set above
from upstream.http.resolver import Resolver  # noqa: E402 — the path is set above
from upstream.loop.timers import Timers  # noqa: E402 — the path is set above

CANARY: Final = b"CANARY"
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
SOCKS: Final = b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
PATIENCE: Final = 5.0
ROUNDS: Final = 500


def answers(good: bytes, chance: random.Random) -> Iterator[bytes]:
    """Random answers, corruptions of the valid answer `good`, and SOCKS5 replies with every code and address type."""
    for _ in range(ROUNDS):
        yield chance.randbytes(chance.randrange(64)) + CANARY
        changed = bytearray(good)
        changed[chance.randrange(len(good))] = chance.randrange(256)
        yield bytes(changed) + CANARY
        yield good[: chance.randrange(len(good))]
        at = chance.randrange(len(good))
        yield good[:at] + chance.randbytes(chance.randrange(300)) + good[at:]
    for kind in range(256):
        yield b"\x05\x00\x05\x00\x00" + bytes((kind,)) + chance.randbytes(20)
        yield b"\x05\x00\x05" + bytes((kind,)) + CANARY
        yield b"\x05" + bytes((kind,)) + CANARY


#: Data that is repeated until the connection is closed.
ENDLESS: Final = {
    "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a head": b"X: " + b"x" * 1000 + b"\r\n",
    "zeroes": bytes(4096),
    "SOCKS5": b"\x05\x00\x05",
    "a body": b"HTTP/1.1 407 No\r\nContent-Length: 99999999999\r\n\r\n" + bytes(4096),
}


@asynccontextmanager
async def proxy(answer: bytes, *, endless: bool = False) -> AsyncIterator[int]:
    """Run a proxy that sends this answer on every connection; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(3)
        try:
            writer.write(answer)
            while endless:
                await writer.drain()
                writer.write(answer)
                await asyncio.sleep(0)
            writer.write_eof()
            await reader.read()
        except (OSError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def ask(scheme: str, answer: bytes, *, endless: bool = False) -> str:
    """Make a call through a proxy with this answer; return the outcome."""
    async with proxy(answer, endless=endless) as port, AsyncExitStack() as stack:
        proxies, timers = Proxies.from_setting(f"{scheme}://127.0.0.1:{port}", {}), Timers()
        exchanges = await stack.enter_async_context(
            open_exchanges(2, PATIENCE, timers, proxies=proxies, reach=Reach.PUBLIC_ADDRESSES, names=Resolver(4))
        )
        try:
            async with asyncio.timeout(PATIENCE):
                await exchanges.request("GET", "http://93.184.216.34", "/", {})
        except NotSent as error:
            if CANARY.decode() in error.cause or f"127.0.0.1:{port}" not in error.cause:
                return f"BAD TEXT: {error.cause}"
            return "not sent"
        except HttpError as error:  # the tunnel was established, but its data is not a valid answer
            return f"{type(error).__name__}"
        except TimeoutError:
            return "given up"
        except Exception as error:  # noqa: BLE001 — the attack looks for unexpected exceptions
            return f"UNEXPECTED {type(error).__name__}: {error}"
        return "answered"


async def main(seed: int) -> bool:
    """Run all attacks; return whether every call ended as expected."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    for scheme, good in (("http", ESTABLISHED), ("socks5h", SOCKS)):
        for answer in answers(good, chance):
            outcome = await ask(scheme, answer)
            if outcome.isupper() or outcome.startswith(("UNEXPECTED", "BAD")):
                print(scheme, answer[:80], outcome)
            found[f"{scheme}: {outcome[:60]}"] += 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name, piece in ENDLESS.items():
            outcome = await ask(scheme, piece, endless=True)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(f"{scheme}: {name} without end: {outcome}, {grown:.0f} MiB more at most", flush=True)
    for outcome, count in sorted(found.items()):
        print(f"{count:6} {outcome}")
    return not any("UNEXPECTED" in outcome or "BAD" in outcome for outcome in found)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    sys.exit(0 if asyncio.run(main(options.parse_args().seed)) else 1)
