"""Sends request bodies that are expensive to read. Prints how long each blocks the event loop and delays others.

python tests/attacks/heavy_bodies.py [NAME ...]     (about 3 minutes; the root of the checkout and tests/harness on
                                                     PYTHONPATH)

"Callback" is the CPU time of the longest callback of the event loop; "others" is the longest time of another caller's
/livez, which includes the work of threads that hold the GIL and delays by other processes on the machine.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from daemon import ROOT
from process import Home
from streams import chat_model

from upstream.arena import Arena

Body = dict[str, object]
#: A sentence in ASCII, and one with characters of up to four bytes.
SENTENCE, WIDE_SENTENCE = "Some words of a text, as people write it. ", "数 Ünïcode \N{GRINNING FACE} x1y2 "


def chat(text: str = "/say hello", **more: object) -> Body:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 10, **more}


def fields(count: int) -> Body:
    return {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(count)}}


def tools(count: int, parameters: Body) -> Body:
    made = [{"type": "function", "function": {"name": f"t{n}", "parameters": parameters}} for n in range(count)]
    return chat(tools=made, tool_choice="required")


def schema(of: Body, text: str = "/say hello") -> Body:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": of, "strict": True}}
    return chat(text, response_format=form)


def tool_results(count: int) -> Body:
    messages: list[object] = [{"role": "user", "content": "a"}]
    for n in range(count):
        call = {"id": f"c{n}", "type": "function", "function": {"name": "t", "arguments": "{}"}}
        messages += (
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{n}", "content": "r"},
        )
    return {"messages": messages}


def picture(data: str) -> Body:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    return {"messages": [{"role": "user", "content": [url]}]}


#: References whose number doubles at each level.
REFERENCES: Body = {
    "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(25)} | {"d25": {"type": "string"}},
    "$ref": "#/$defs/d0",
}
EMPTY = {"role": "user", "content": ""}
PART = {"type": "text", "text": "a"}

#: The body with a prompt for each API.
PROMPTS: dict[str, Callable[[str], Body]] = {
    "/chat/completions": chat,
    "/responses": lambda text: {"input": text},
    "/messages": chat,
    "/completions": lambda text: {"prompt": text},
    "/messages/count_tokens": chat,
    "/responses/input_tokens": lambda text: {"input": text},
    "/images/generations": lambda text: {"prompt": text},
}
#: Texts that are sent to every API.
TEXTS: dict[str, Callable[[], str]] = {
    "60 KB": lambda: SENTENCE * (60_000 // len(SENTENCE)),
    "3.9 MB": lambda: SENTENCE * (3_900_000 // len(SENTENCE)),
    "30 MB, wide,": lambda: WIDE_SENTENCE * (15_000_000 // len(WIDE_SENTENCE.encode())),  # larger when escaped in JSON
}
#: Bodies that are sent to one API each.
BODIES: dict[str, tuple[str, Callable[[], Body | bytes]]] = {
    "99,000 empty lists": ("/chat/completions", lambda: chat(metadata=[[]] * 49_000)),
    "99,000 unknown fields": ("/chat/completions", lambda: chat() | {f"x{n}": 1 for n in range(98_000)}),
    "99,000 fields of metadata": (
        "/responses",
        lambda: {"input": "a", "metadata": dict.fromkeys(map(str, range(98_000)), "")},
    ),
    "9,900 messages": ("/chat/completions", lambda: {"messages": [EMPTY] * 9_900}),
    "33,000 messages": ("/chat/completions", lambda: {"messages": [EMPTY] * 33_000}),
    "33,000 messages, to count": ("/messages/count_tokens", lambda: {"messages": [EMPTY] * 33_000}),
    "33,000 items, to be truncated": ("/responses", lambda: {"input": [EMPTY] * 33_000, "truncation": "auto"}),
    "1,300 items of 3 KB, to be truncated": (
        "/responses",
        lambda: {"input": [{"role": "user", "content": SENTENCE * 70}] * 1_300, "truncation": "auto"},
    ),
    "33,000 parts": ("/chat/completions", lambda: {"messages": [{"role": "user", "content": [PART] * 33_000}]}),
    "4,000 calls and results": ("/chat/completions", lambda: tool_results(4_000)),
    "128 tools of 100 KB in all": ("/chat/completions", lambda: tools(128, fields(30))),
    "128 tools of 1 MB in all": ("/chat/completions", lambda: tools(128, fields(280))),
    "a schema of 1 MB": ("/chat/completions", lambda: schema(fields(40_000))),
    "a schema of references that double": ("/chat/completions", lambda: schema(REFERENCES)),
    "an enum of 90,000 values": ("/chat/completions", lambda: schema({"enum": [f"v{n}" for n in range(90_000)]})),
    "a pattern that backtracks": (
        "/chat/completions",
        lambda: schema({"type": "string", "pattern": "^(a+)+$"}, f'/say "{"a" * 40}!"'),
    ),
    "a pattern of 10^6 states": ("/chat/completions", lambda: schema({"pattern": "(a{1000}){1000}"})),
    "2,000 patterns": (
        "/chat/completions",
        lambda: schema({"anyOf": [{"pattern": f"^[a-z]{{1,{n}}}$"} for n in range(1, 2_000)]}),
    ),
    "half characters": ("/chat/completions", lambda: rb'{"a":"%b"}' % (rb"\ud800" * 170_000)),
    "broken JSON": ("/chat/completions", lambda: b'{"a":"%b' % (b"x" * 3_900_000)),
    "broken JSON behind 30 MB of a picture": ("/messages", lambda: json.dumps(picture("A" * 30_000_000)).encode()[:-1]),
    "30 MB of a picture that is cut off": ("/responses", lambda: json.dumps(picture("A" * 30_000_000)).encode()[:-20]),
    "30 MB of quotes": ("/chat/completions", lambda: b'"' * 30_000_000),
    "30 MB of zeroes": ("/completions", lambda: bytes(30_000_000)),
    "20 MB of a picture that is none": ("/chat/completions", lambda: picture("A" * 20_000_000)),
    "stop strings of 1 MB": ("/chat/completions", lambda: chat(stop=["a" * 250_000] * 4)),
    "8 choices of 110 KB": ("/chat/completions", lambda: chat("a" * 110_000, n=8)),
}
BODIES |= {
    f"{name} of text to {path}": (path, lambda ask=ask, text=text: ask(text()))  # type: ignore[misc]
    for name, text in TEXTS.items()
    for path, ask in PROMPTS.items()
}

_PROBE = """
import socket, sys, time
connection, most = socket.create_connection(("127.0.0.1", int(sys.argv[1]))), 0.0
print(flush=True)
while True:
    began = time.monotonic()
    connection.sendall(b"GET /livez HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    try:
        if not connection.recv(65536):
            break
    except ConnectionError:
        break
    if time.monotonic() - began > most:
        most = time.monotonic() - began
        print(most, flush=True)
    time.sleep(0.002)
"""


def write(home: Home, path: Path, body: Body | bytes) -> None:
    path.write_bytes(body if isinstance(body, bytes) else json.dumps({"model": chat_model(home), **body}).encode())


async def output(*words: str) -> bytes:
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0]


async def measure(name: str, arena: Arena) -> None:
    """Send one body three times to a new daemon, and print the figures."""
    path, make = BODIES[name]
    with tempfile.TemporaryDirectory() as folder:
        home, sent, out = Home(arena, Path(folder)), Path(folder, "body"), Path(folder, "longest")
        await home.prepare()
        program = (sys.executable, "-m", "bench.callbacks", str(out), "-m", "bridge")
        async with home.serve(program=program, environ={"PYTHONPATH": str(ROOT)}) as daemon:
            ask: tuple[str, ...] = (
                "curl",
                "-s",
                "-o",
                str(sent) + ".answer",
                "-w",
                "%{http_code} ",
                "-m",
                "60",
                "-H",
                "Expect:",
            )
            ask += ("-H", f"Authorization: Bearer {home.secret}", "--data-binary", f"@{sent}")
            write(home, sent, chat())
            await output(*ask, f"{daemon.origin}/v1/chat/completions")
            daemon.signal(signal.SIGUSR2)
            write(home, sent, make())
            port = daemon.origin.rpartition(":")[2]
            probe = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _PROBE, port, stdout=asyncio.subprocess.PIPE
            )
            assert probe.stdout is not None
            await probe.stdout.readline()
            said = [(await output(*ask, f"{daemon.origin}/v1{path}")).decode() for _ in range(3)]
            await daemon.stop()
            longest = float((await probe.communicate())[0].split()[-1])
        say(name, sent, said, out, longest)


def say(name: str, sent: Path, said: list[str], out: Path, longest: float) -> None:
    (seconds, callback), *_ = json.loads(out.read_text())
    print(
        f"{name:52}{sent.stat().st_size / 1e6:6.2f} MB  {''.join(said)} callback {1000 * seconds:6.1f} ms"
        f"  others {1000 * longest:6.0f} ms  {callback[-60:]}",
        flush=True,
    )


async def main() -> None:
    """Measure the bodies named on the command line, or all of them."""
    began = time.monotonic()
    async with Arena() as arena:
        for name in sys.argv[1:] or BODIES:
            await measure(name, arena)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    asyncio.run(main())
