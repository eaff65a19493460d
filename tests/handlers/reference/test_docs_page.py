"""/docs: the API as a page, for everybody, with the caller's own address in each curl line."""

from __future__ import annotations

import html
import re
import shlex
from itertools import pairwise

import described
import pytest
from described import hold
from running import RunningBridge

from bridge.error_codes import CODES, Cause
from handlers.reference.page import kind_of
from handlers.reference.served import PIECE_BYTES, pieces


async def read(bridge: RunningBridge, **headers: str) -> str:
    async with bridge.http.get(f"{bridge.origin}/docs", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        await hold(answer)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = await answer.text()
    assert not re.search(r"<(script|style)|\s(style|on\w+)=", page)
    return page


async def test_the_docs_page_lists_every_call_parameter_and_error(bridge: RunningBridge) -> None:
    page = html.unescape(await read(bridge))
    for method, call in described.calls():
        about = call.operation
        shown = page.partition(f'<article class="card" id="{about["operationId"]}"')[2].partition("</article>")[0]
        assert f"<code>{method} {call.path}</code>" in shown
        assert about["summary"] in shown
        for parameter in about.get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in shown
        sent = about.get("requestBody", {}).get("content", {}).get("application/json")
        for name in described.resolved(sent["schema"])["properties"] if sent else ():
            assert re.search(rf"\b{name}\b", shown), (call.path, name)
        for status in about["responses"]:
            assert f">{status}<" in shown or f"<li>{status}:" in shown, (call.path, status)
    for row in CODES:
        assert f"<code>{row.code}</code>" in page or row.of is Cause.THREAD  # Messages API only, without codes


async def test_the_curl_lines_of_the_docs_page_work(bridge: RunningBridge) -> None:
    """Each curl line is a valid request once a key and a model are filled in."""
    page = html.unescape(await read(bridge))
    lines = re.findall(r'<pre tabindex="0" aria-label="curl">(.*?)</pre>', page, re.DOTALL)
    assert len(lines) == len([call for _, call in described.calls() if "200" in call.operation["responses"]])
    for line in lines:
        drawn = bridge.model(output="image" if "/images/" in line else "text")
        words = shlex.split(line.replace("MODEL", drawn).replace("$OPENAI_API_KEY", bridge.key))
        url = next(word for word in words if word.startswith("http"))
        assert url.startswith(bridge.origin)
        options = dict(pairwise(words))
        headers = dict(word.split(": ", 1) for before, word in pairwise(words) if before == "-H")
        method = options.get("-X", "POST" if "-d" in words else "GET")
        async with bridge.http.request(method, url, data=options.get("-d"), headers=headers) as answer:
            expected = {"/images/edits": 400, "/responses/RESPONSE": 404, "/metrics": 403}  # placeholders; no metrics
            assert answer.status == next((each for part, each in expected.items() if part in url), 200), (
                line,
                await answer.text(),
            )
            await hold(answer)


async def test_the_curl_lines_have_the_address_that_the_caller_used(bridge: RunningBridge) -> None:
    assert f"curl {bridge.origin}/health" in await read(bridge)
    assert "curl http://bridge.example:8443/health" in await read(bridge, Host="bridge.example:8443")
    assert "curl http://[::1]:80/health" in await read(bridge, Host="[::1]:80")
    for hostile in ("a.example/<script>alert(1)</script>", "a.example b", "x';reboot;'", "a.example\u00e9"):
        page = await read(bridge, Host=hostile)
        assert "curl http://127.0.0.1:8000/health" in page
        assert hostile not in page


async def test_the_docs_page_is_304_with_a_matching_etag(bridge: RunningBridge) -> None:
    url = f"{bridge.origin}/docs"
    async with bridge.http.get(url) as answer:
        etag = answer.headers["ETag"]
    async with bridge.http.get(url, headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await hold(answer)) == (304, b"")
    async with bridge.http.get(url, headers={"If-None-Match": etag, "Host": "bridge.example"}) as answer:
        assert answer.status == 200
        length = len(await answer.read())
    async with bridge.http.head(url, headers={"Host": "bridge.example"}) as answer:
        assert (answer.status, int(answer.headers["Content-Length"]), await answer.read()) == (200, length, b"")


@pytest.mark.parametrize(
    "parts", [(b"",), (b"", b""), (b"a", b"b"), (bytes(PIECE_BYTES), b"", bytes(3 * PIECE_BYTES + 1))]
)
def test_a_page_sent_in_pieces_is_complete(parts: tuple[bytes, ...]) -> None:
    sent = list(pieces(parts, b"http://a"))
    assert b"".join(sent) == b"http://a".join(parts)
    assert max(map(len, sent)) <= PIECE_BYTES + 8


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["integer", "null"], "minimum": 1, "maximum": 8}, "integer, 1 to 8"),
        ({"type": "integer", "minimum": -1}, "integer, at least -1"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/ChatTool"}}, "list of ChatTool"),
        ({"anyOf": [{"type": "string"}, {"type": "array", "items": {}}, {"type": "null"}]}, "string or list"),
        ({"type": "string", "enum": ["a", "b"]}, '"a" or "b"'),
        ({"type": "boolean", "const": False}, "false"),
        ({}, "anything"),
    ],
)  # fmt: skip
def test_each_schema_has_a_readable_type_name(schema: dict[str, object], kind: str) -> None:
    assert kind_of(schema) == kind
