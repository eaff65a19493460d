"""A call with a different secret in every place that can hold one, and the list of these secrets."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from urllib.parse import quote

from bridge.recording.material import AskedModel, Headers, Material, Outcome
from upstream.capture import Capture, CapturedBody, CapturedCall

EVALUATION = "0198f1a2-3b4c-7d5e-8f60-718293a4b5c6"
CALLER_KEY = "sk-lmab-Qm9vbUNhbmFyeUtleTAwMQ77zz"
PASSWORD = "Correct-Horse-41-Battery"
CLEARANCE = "cLe4r4nc3.Kq81xVbN_-77aa"
REFRESH = "rfrsh9Tok3nZq71"
ACCESS = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJaYW56aWJhcjEifQ.c2lnbmF0dXJlWlo5"
EMAIL = "ada.lovelace@difference-engine.example"
SESSION = "base64-" + urlsafe_b64encode(
    json.dumps(
        {
            "access_token": ACCESS,
            "refresh_token": REFRESH,
            "expires_at": 1796000000,
            "user": {"id": EVALUATION, "email": EMAIL},
        }
    ).encode()
).decode().rstrip("=")
#: Words of prompts and answers, in several scripts.
PROMPT_WORDS = ("Zanzibar", "kumquat", "xylophonist", "Überraschungsei", "тайна", "秘密計画", "pássaro")
ANSWER_WORDS = ("obsidian", "flibbertigibbet", "Weltschmerz", "ответ")
REASONING_WORDS = ("conjecture", "hemidemisemiquaver")
#: Further secrets, by the place in the call that holds each.
PLACES = {
    "caller header": "hdr-Canary-7781",
    "caller header name": "x-canaryname-5512",
    "query": "qryCanary8812",
    "path": "pthCanary3391",
    "user": "usrCanary6617",
    "metadata key": "mtaCanaryKey",
    "metadata value": "mtaCanary9921",
    "tool name": "toolCanary_weather",
    "tool parameter": "paramCanary_city",
    "tool description": "dscCanary1190",
    "tool argument": "argCanary4456",
    "stop": "stpCanaryEnd",
    "file name": "filCanary.pdf",
    "picture": "pctCanaryExifGps52",
    "site header": "sthCanary2231",
    "set-cookie": "stcCanary7765",
    "redirect": "rdrCanary1009",
    "error text": "errCanary3312",
    "unknown line": "unkCanary8123",
    "untagged line": "nolCanary4410",
    "image url": "imgCanary5567",
    "citation title": "citCanary9034",
    "page": "pagCanary6023",
    "form text": "frmCanary7001",
    "form file": "ffiCanary8800",
    "boundary": "bndCanary1234",
    "number": "90210904557781",
    "next action": "actCanary40ff",
    "signed url": "sigCanaryAA31",
    "broken json": "brkCanary9981",
    "host": "hstcanary.example",
    "forwarded": "198.51.100.77",
}


def canaries() -> list[str]:
    """Every secret and every word of prompts and answers, plain and in the encoded forms in which they may appear."""
    plain = [CALLER_KEY, PASSWORD, CLEARANCE, REFRESH, ACCESS, EMAIL, "difference-engine", EVALUATION]
    plain += [*PROMPT_WORDS, *ANSWER_WORDS, *REASONING_WORDS, *PLACES.values()]
    pieces = [SESSION[start : start + 24] for start in range(7, len(SESSION) - 24, 24)]
    return plain + pieces + [quote(each, safe="") for each in plain] + [json.dumps(each)[1:-1] for each in plain]


def call_with_canaries(*, texts: bool = False) -> Material:
    """A call that contains all canaries: several upstream calls, tools, a picture, and an answer in 7-byte pieces."""
    capture = Capture(max_bytes=10_000_000)
    capture.began = 0.0
    capture.calls += [_refused(), _upload(), _answered(), _page()]
    prompt = " ".join(PROMPT_WORDS)
    body = {
        "model": "gpt-6.1-high",
        "stream": True,
        "user": PLACES["user"],
        "password": PASSWORD,
        "metadata": {PLACES["metadata key"]: PLACES["metadata value"], "account": int(PLACES["number"])},
        "stop": [PLACES["stop"]],
        "messages": [
            {"role": "system", "content": f"{prompt}. Write to {EMAIL}, the password is {PASSWORD}"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": prompt + "\n" + CALLER_KEY},
                    {"type": "image_url", "image_url": {"url": _picture_url()}},
                    {"type": "file", "file": {"filename": PLACES["file name"], "file_data": _picture_url()}},
                ],
            },
            {"role": "assistant", "tool_calls": [_tool_call()]},
        ],
        "tools": [_tool()],
    }
    headers: Headers = (
        ("Host", PLACES["host"]),
        ("Authorization", f"Bearer {CALLER_KEY}"),
        ("X-Forwarded-For", PLACES["forwarded"]),
        ("X-Custom", PLACES["caller header"]),
        (PLACES["caller header name"], "1"),
        ("Content-Type", "application/json"),
    )
    return Material(
        request_id="req_1",
        at=1796000000.0,
        method="POST",
        target=f"/v1/chat/completions/{PLACES['path']}?key={PLACES['query']}&u={EVALUATION}",
        headers=headers,
        capture=capture,
        body=json.dumps(body, ensure_ascii=False).encode(),
        status=200,
        answer_headers=(("Content-Type", "text/event-stream"), ("x-bridge-account", EMAIL)),
        answer=_answer(),
        outcome=Outcome(200, "ok", None, ("stop",), 40, 0),
        models=(AskedModel("gpt-6.1-high", "chat", ("text",), ("text",), multiple_images=False),),
        accounts=1,
        public_names=frozenset(("gpt-6.1-high",)),
        secrets=frozenset((CALLER_KEY, SESSION, CLEARANCE)),
        drift=("tag zz", f"item {PLACES['unknown line']}"),
        texts=texts,
    )


def form_with_canaries() -> Material:
    """A call for an edited picture: a form with a text and a file."""
    mark = PLACES["boundary"]
    parts = (
        f'--{mark}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{PLACES["form text"]} Zanzibar\r\n'
        f'--{mark}\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n'
        f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{PLACES["file name"]}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = parts.encode() + b"\x89PNG\r\n\x1a\n" + PLACES["form file"].encode() + f"\r\n--{mark}--\r\n".encode()
    material = call_with_canaries()
    material.headers = (("Content-Type", f"multipart/form-data; boundary={mark}"),)
    material.target, material.body = "/v1/images/edits", body
    return material


def _tool() -> dict[str, object]:
    properties = {PLACES["tool parameter"]: {"type": "string", "description": PLACES["tool description"]}}
    parameters = {"type": "object", "properties": properties, "required": [PLACES["tool parameter"]]}
    return {"type": "function", "function": {"name": PLACES["tool name"], "parameters": parameters}}


def _tool_call() -> dict[str, object]:
    arguments = json.dumps({PLACES["tool parameter"]: PLACES["tool argument"]})
    return {
        "id": "call_1",
        "type": "function",
        "function": {"name": PLACES["tool name"], "arguments": arguments},
    }


def _picture_url() -> str:
    data = urlsafe_b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 10 + PLACES["picture"].encode()).decode()
    return f"data:image/png;base64,{data}"


def _sent() -> tuple[tuple[str, str], ...]:
    cookie = f"arena-auth-prod-v1.0={SESSION[:100]}; arena-auth-prod-v1.1={SESSION[100:]}; cf_clearance={CLEARANCE}"
    return (("User-Agent", "Mozilla/5.0"), ("Origin", "https://arena.ai"), ("Cookie", cookie))


def _captured(method: str, target: str, status: int, content_type: str, *pieces: bytes, **more: object) -> CapturedCall:
    headers = (
        ("Content-Type", content_type),
        ("Set-Cookie", f"arena-auth-prod-v1={SESSION}; note={PLACES['set-cookie']}; Path=/; HttpOnly"),
        ("X-Site", PLACES["site header"]),
        ("Retry-After", "7"),
    )
    sent, body = (*_sent(), ("Next-Action", PLACES["next action"])), CapturedBody(10_000_000)
    call = CapturedCall(method, "https://arena.ai", target, 0.1, sent, None, body)
    call.status, call.headers, call.end, call.end_at = status, headers, "complete", 1.0
    for number, piece in enumerate(pieces):
        body.add(piece, 0.2 + number / 100)
    for name, value in more.items():
        setattr(call, name, value)
    return call


def _refused() -> CapturedCall:
    refusal = json.dumps({"error": f"User {EMAIL} does not have access: {PLACES['error text']} {SESSION} Zanzibar"})
    sent = json.dumps({"id": EVALUATION, "userMessage": {"content": " ".join(PROMPT_WORDS)}}).encode()
    target = f"/nextjs-api/stream/post-to-evaluation/{EVALUATION}?t={REFRESH}"
    return _captured("POST", target, 401, "application/json", refusal.encode(), sent_body=sent)


def _upload() -> CapturedCall:
    location = f"https://{PLACES['host']}/login?next={PLACES['redirect']}"
    call = _captured("PUT", f"/bucket/{PLACES['path']}?X-Signature={PLACES['signed url']}", 302, "text/plain", b"moved")
    call.headers += (("Location", location),)
    call.sent_body = b"\x89PNG\r\n\x1a\n" + PLACES["picture"].encode()
    call.sent_headers += (("Content-Type", "image/png"),)
    return call


def _page() -> CapturedCall:
    page = f"<!DOCTYPE html><title>Just a moment...</title><p id='{PLACES['page']}'>{EMAIL} Zanzibar</p>"
    return _captured("GET", "/text/direct", 403, "text/html; charset=utf-8", page.encode())


def _answered() -> CapturedCall:
    said = " ".join(ANSWER_WORDS) + f" {EMAIL} {EVALUATION} {PASSWORD}"
    lines = [b"a0:%s\n" % json.dumps(char, ensure_ascii=False).encode() for char in said]  # each letter on its own
    lines += [b"ag:%s\n" % json.dumps(word + " ").encode() for word in REASONING_WORDS]
    source = json.dumps(
        {"source": {"url": f"https://x.example/{PLACES['image url']}", "title": PLACES["citation title"]}}
    )
    lines += [
        b"ac:%s\n" % json.dumps({"toolCallId": "citation-source", "argsTextDelta": source}).encode(),
        b"a2:%s\n" % json.dumps([{"type": "image", "image": f"https://{PLACES['image url']}.example/a"}]).encode(),
        b"zz:%s\n" % json.dumps({"note": PLACES["unknown line"], "n": int(PLACES["number"])}).encode(),
        f"{PLACES['untagged line']} {CLEARANCE}\n".encode(),
        f'a0:"{PLACES["broken json"]} \n'.encode(),
        b'ad:{"finishReason":"stop"}\n',
    ]
    whole = b"".join(lines)
    pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]  # splits lines and multi-byte characters
    return _captured("POST", "/nextjs-api/stream/create-evaluation", 200, "text/event-stream", *pieces)


def _answer() -> CapturedBody:
    events = [
        {"choices": [{"index": 0, "delta": {"content": word}}], "id": f"chatcmpl-{REFRESH}"} for word in ANSWER_WORDS
    ]
    chunks = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events]
    chunks += [
        f": {EMAIL}\n\n".encode(),
        f"event: error\ndata: {PLACES['error text']}\n\n".encode(),
        b"data: [DONE]\n\n",
    ]
    body = CapturedBody(10_000_000)
    for data in chunks:
        body.add(data)
    return body
