"""Further forms of pastes, from Chrome, Firefox and other tools, and as changed by editors and chats."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paste_forms import AGENT, bash_single, curl, export, header
from session_cookies import (
    CLEARANCE,
    LONG,
    NAME,
    SESSION,
    VALUE,
    cookie,
    cut,
    encoded,
    expected,
    jwt,
    named,
    session_json,
)

from upstream.protocol.cookies import CookieError, Session
from upstream.protocol.pastes import Pasted, read_pasted

LONG_0, LONG_1 = cut(LONG)
PLAIN_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
STORED = session_json()  # as in local storage
STORED_TEXT = json.dumps(STORED)
STORED_VALUE = "base64-" + encoded(STORED)
COMPACT_VALUE = "base64-" + base64.urlsafe_b64encode(orjson.dumps(STORED)).decode().rstrip("=")
GUEST = cookie(user={"id": "u-1", "is_anonymous": True})
OTHER = cookie(user={"id": "u-2", "email": "bob@example.org"})
VERIFIER = "base64-" + encoded("0123456789abcdef/PASSWORD_RECOVERY")

POWERSHELL_AGENT = f'{PLAIN_AGENT} $x "quoted"'

SHORT = SESSION
PIECED = expected(LONG)
LOCAL = expected(COMPACT_VALUE)

POWERSHELL = f"""\
$session = New-Object Microsoft.PowerShell.Commands.WebRequestSession
$session.UserAgent = "{PLAIN_AGENT} `$x `"quoted`""
$session.Cookies.Add((New-Object System.Net.Cookie("_ga", "GA1.1", "/", ".arena.ai")))
$session.Cookies.Add((New-Object System.Net.Cookie("cf_clearance", "{CLEARANCE}", "/", ".arena.ai")))
$session.Cookies.Add((New-Object System.Net.Cookie("arena-auth-prod-v1.0", "{LONG_0}", "/", "arena.ai")))
$session.Cookies.Add((New-Object System.Net.Cookie("arena-auth-prod-v1.1", "{LONG_1}", "/", "arena.ai")))
Invoke-WebRequest -UseBasicParsing -Uri "https://arena.ai/nextjs-api/stream/create-evaluation" `
-Method "POST" `
-WebSession $session `
-Headers @{{
"authority"="arena.ai"
  "accept"="*/*"
}} `
-ContentType "text/plain;charset=UTF-8" `
-Body "{{`"content`":`"cf_clearance=wrong; {NAME}=wrong`"}}"
"""

POWERSHELL_TABLE = f"""\
Invoke-WebRequest -UseBasicParsing -Uri "https://arena.ai/" -UserAgent "{PLAIN_AGENT}" `
-Headers @{{ "cookie"="_ga=GA1.1; {NAME}={VALUE}; cf_clearance={CLEARANCE}" }}
"""

POWERSHELL_WITHOUT = """\
$session = New-Object Microsoft.PowerShell.Commands.WebRequestSession
$session.UserAgent = "Mozilla/5.0"
Invoke-WebRequest -UseBasicParsing -Uri "https://static.arena.ai/logo.svg" -WebSession $session
"""


def fetch(headers: dict[str, str], before: str = "") -> str:
    options = {"headers": headers, "body": f'{{"content":"{NAME}=wrong; cf_clearance=wrong"}}', "method": "POST"}
    return f'{before}fetch("https://arena.ai/nextjs-api/stream/create-evaluation", {json.dumps(options, indent=2)});'


def har(cookies: str) -> dict[str, Any]:
    headers = [{"name": "User-Agent", "value": PLAIN_AGENT}, {"name": "Cookie", "value": cookies}]
    answer = {"headers": [{"name": "Set-Cookie", "value": f"{NAME}={OTHER}; Path=/"}]}
    body = {"mimeType": "text/plain", "text": f"{NAME}=wrong"}
    return {"log": {"entries": [{"request": {"headers": headers, "postData": body}, "response": answer}]}}


def right(session: Session | None, clearance: str | None = None, agent: str | None = None) -> Pasted:
    return Pasted(session, clearance, agent)


READ: dict[str, tuple[str, Pasted]] = {
    "PowerShell, pieces": (POWERSHELL, right(PIECED, CLEARANCE, POWERSHELL_AGENT)),
    "PowerShell, Windows line ends": (POWERSHELL.replace("\n", "\r\n"), right(PIECED, CLEARANCE, POWERSHELL_AGENT)),
    "PowerShell, a table of headers": (POWERSHELL_TABLE, right(SHORT, CLEARANCE, PLAIN_AGENT)),
    "PowerShell, a visitor's": (
        "\n".join(line for line in POWERSHELL.splitlines() if "arena-auth" not in line),
        right(None, CLEARANCE, POWERSHELL_AGENT),
    ),
    "Node.js fetch": (fetch({"accept": "*/*", "cookie": header(LONG)}), right(PIECED, CLEARANCE)),
    "fetch with a user agent": (
        fetch({"User-Agent": PLAIN_AGENT, "Cookie": header(VALUE)}, before="await "),
        right(SHORT, CLEARANCE, PLAIN_AGENT),
    ),
    "fetch in other JavaScript": (
        (
            f"fetch('https://arena.ai', {{\n  headers: {{\n    'user-agent': '{PLAIN_AGENT}',\n"
            f"    'cookie': '{NAME}.0={LONG_0}; {NAME}.1={LONG_1}',\n  }}\n}})"
        ),
        right(PIECED, None, PLAIN_AGENT),
    ),
    "a HAR file": (json.dumps(har(header(LONG))), right(PIECED, CLEARANCE, PLAIN_AGENT)),
    "a list of headers": (
        json.dumps(har(header(VALUE))["log"]["entries"][0]["request"]["headers"]),
        right(SHORT, CLEARANCE, PLAIN_AGENT),
    ),
    "Firefox, copied request headers": (
        (
            f"GET /text/direct HTTP/2\r\nHost: arena.ai\r\nUser-Agent: {PLAIN_AGENT}\r\nAccept: */*\r\n"
            f"Cookie: {header(LONG)}\r\nTE: trailers\r\n"
        ),
        right(PIECED, CLEARANCE, PLAIN_AGENT),
    ),
    "Firefox, copied cookies": (json.dumps({"Request Cookies": dict(named(cut(LONG)))}), right(PIECED)),
    "Chrome's table of headers": (
        f"cookie\n{header(LONG)}\nuser-agent\n{PLAIN_AGENT}\n",
        right(PIECED, CLEARANCE, PLAIN_AGENT),
    ),
    "cookies.txt of a browser": (
        (
            f"# Netscape HTTP Cookie File\n\n#HttpOnly_.arena.ai\tTRUE\t/\tTRUE\t0\tcf_clearance\t{CLEARANCE}\n"
            f"arena.ai\tFALSE\t/\tTRUE\t1800000000\t{NAME}.0\t{LONG_0}\narena.ai\tFALSE\t/\tTRUE\t0\t{NAME}.1\t{LONG_1}\n"
        ),
        right(PIECED, CLEARANCE),
    ),
    "Cookie Quick Manager": (
        json.dumps([{"Host raw": "https://arena.ai/", "Name raw": n, "Content raw": v} for n, v in named(cut(LONG))]),
        right(PIECED),
    ),
    "the site's other cookies beside it": (
        (
            f"provisional_user_id=01-ab; arena_visit_id=v; user_country_code=DE; {NAME}-code-verifier={VERIFIER}; "
            f"{NAME}={VALUE}"
        ),
        right(SHORT),
    ),
    "session=": (f"session={VALUE}", right(SHORT)),
    "LA_COOKIE": (f"export LA_COOKIE='{LONG}'", right(PIECED)),
    "arena_auth": (f"arena_auth: {VALUE}", right(SHORT)),
    "auth_tokens": (json.dumps({"auth_tokens": [LONG], "api_keys": []}, indent=2), right(PIECED)),
    "auth_tokens in part": (f'  "auth_tokens": [\n    "{VALUE}"\n  ],\n  "models": [', right(SHORT)),
    "auth_token in TOML": (f'[arena]\nauth_token = "{VALUE}"\n', right(SHORT)),
    "bearer": (f"Authorization: Bearer {LONG}", right(PIECED)),
    "bridge.toml": (
        f'cf_clearance = "{CLEARANCE}"\nuser_agent = "{PLAIN_AGENT}"\nsession = "{VALUE}"',
        right(SHORT, CLEARANCE, PLAIN_AGENT),
    ),
    ".env": (f"ARENA_AUTH_PROD_V1={VALUE}\nUSER_AGENT={PLAIN_AGENT}\n", right(SHORT, None, PLAIN_AGENT)),
    "YAML": (f"arena:\n  - {NAME}.0: {LONG_0}\n  - {NAME}.1: '{LONG_1}'\n", right(PIECED)),
    "Python, a dict": (f"{dict(named(cut(LONG)))!r}", right(PIECED)),
    "Python, headers": (
        f"{ {'User-Agent': PLAIN_AGENT, 'Cookie': header(VALUE)}!r}",
        right(SHORT, CLEARANCE, PLAIN_AGENT),
    ),
    "Python, calls": (f'jar.set("{NAME}.0", "{LONG_0}")\njar.set("{NAME}.1", "{LONG_1}")', right(PIECED)),
    "document.cookie": (f"'_ga=GA1.1; {NAME}.0={LONG_0}; {NAME}.1={LONG_1}'", right(PIECED)),
    "document.cookie, as JSON": (json.dumps(f"_ga=GA1.1; {header(LONG)}"), right(PIECED, CLEARANCE)),
    "local storage, the value": (STORED_TEXT, right(LOCAL)),
    "local storage, indented": (json.dumps(STORED, indent=2), right(LOCAL)),
    "local storage, key and value": (f"sb-arena-auth-token\t{STORED_TEXT}", right(LOCAL)),
    "local storage, exported": (
        json.dumps({"theme": "dark", "sb-arena-auth-token": STORED_TEXT, "n": "{broken"}),
        right(LOCAL),
    ),
    "local storage, exported as objects": (json.dumps({"sb-arena-auth-token": STORED}), right(LOCAL)),
    "local storage, JSON in JSON": (json.dumps(STORED_TEXT), right(LOCAL)),
    "Playwright's storage state": (
        json.dumps(
            {
                "cookies": [],
                "origins": [
                    {"origin": "https://arena.ai", "localStorage": [{"name": "x-auth-token", "value": STORED_TEXT}]}
                ],
            }
        ),
        right(LOCAL),
    ),
    "local storage and the cookie of one session": (
        f"{NAME}={STORED_VALUE}\n{STORED_TEXT}",
        right(expected(STORED_VALUE)),
    ),
    "a fence": (f"```json\n{STORED_TEXT}\n```", right(LOCAL)),
    "a fenced command": (f"Here it is:\n\n```bash\n{curl(LONG, bash_single)}\n```\n", right(PIECED, CLEARANCE, AGENT)),
    "a fence on one line": (f"```{VALUE}```", right(SHORT)),
    "backticks": (f"the cookie is `{NAME}={VALUE}`, thanks", right(SHORT)),
    "prose around it": (f"Hello, my cookie is {VALUE} and that is all.", right(SHORT)),
    "typographic quotes": (f"“{NAME}”: “{VALUE}”", right(SHORT)),
    "typographic quotes in JSON": (f"{{“auth_tokens”: [“{VALUE}”]}}", right(SHORT)),
    "single typographic quotes": (f"curl ‘https://arena.ai’ -b ‘{NAME}={VALUE}’", right(SHORT)),
    "zero-width characters": (
        f"\u200b{NAME}\u200c={VALUE[:50]}\u200b{VALUE[50:90]}\u200d{VALUE[90:]}\u2060\ufeff",
        right(SHORT),
    ),
    "non-breaking spaces": (f"Cookie:\u00a0a=b;\u00a0{NAME}={VALUE};\u202fc=d", right(SHORT)),
    "a wrapped value with its name": (f"{NAME}=" + "\n".join(cut(VALUE, 60)), right(SHORT)),
    "wrapped pieces": (
        "\r\n".join(f"{NAME}.{n}=" + "\r\n".join(cut(piece, 76)) for n, piece in enumerate([LONG_0, LONG_1])),
        right(PIECED),
    ),
    "a wrapped header": ("\n".join(cut(f"Cookie: a=b; {NAME}={VALUE}; theme=dark", 79)), right(SHORT)),
    "a wrapped command": (
        "curl 'https://arena.ai' -b '" + "\r\n".join(cut(f"{NAME}={VALUE}; cf_clearance={CLEARANCE}", 60)) + "'",
        right(SHORT, CLEARANCE),
    ),
    "the same session twice, in two forms": (f"{header(LONG)}\n\n{LONG}\n", right(PIECED, CLEARANCE)),
    "an old word before the cookie": (f"{NAME}: see below\n\nsession={VALUE}", right(SHORT)),
    "lmarena.ai beside arena.ai": (f"https://lmarena.ai/ moved to https://arena.ai/\n{NAME}={VALUE}", right(SHORT)),
    "a guest's": (f"{NAME}={GUEST}", right(replace(expected(GUEST, email=None), guest=True))),
}


@pytest.mark.parametrize(("paste", "result"), READ.values(), ids=READ)
def test_pastes_from_real_tools_are_read(paste: str, result: Pasted) -> None:
    assert read_pasted(paste) == result


REFUSED = {
    "two accounts, by name and by form": (f"{NAME}={VALUE}\nsession={OTHER}", "two session cookies in it"),
    "two accounts in a list": (json.dumps({"auth_tokens": [VALUE, OTHER]}), "two session cookies in it"),
    "two accounts in local storages": (f"{STORED_TEXT}\n{json.dumps(STORED | {'x': 1})}", "two session cookies in it"),
    "two accounts named": (f"{NAME}={VALUE}\n{NAME}={OTHER}\nsession={VALUE}", "occurs twice"),
    "only the site's other cookies": (
        f"provisional_user_id=01-ab; {NAME}-code-verifier={VERIFIER}; user_country_code=DE",
        "no session cookie in it: copy the value of",
    ),
    "a code verifier in an export": (
        json.dumps(export([(f"{NAME}-code-verifier", VERIFIER)])),
        "no session cookie in it",
    ),
    "cURL without cookies": (
        "curl 'https://static.arena.ai/x.js' -H 'user-agent: M'",
        "this request carried no cookie",
    ),
    "PowerShell without cookies": (POWERSHELL_WITHOUT, "Copy one that was made to arena.ai itself"),
    "fetch without cookies": (fetch({"accept": "*/*"}), "this request carried no cookie"),
    "cURL with other cookies": ("curl 'https://arena.ai' -b '_ga=GA1.1'", "no session cookie in it: copy the value of"),
    "fetch with other cookies": (fetch({"cookie": "_ga=GA1.1"}), "no session cookie in it: copy the value of"),
    "PowerShell without the first piece": (
        "\n".join(line for line in POWERSHELL.splitlines() if "v1.0" not in line),
        "piece 0 of the session cookie is missing",
    ),
    "an access token alone": (f"Authorization: Bearer {jwt(sub='u-1')}", "no session cookie in it"),
    "half of local storage": (STORED_TEXT[:-20], "no session cookie in it"),
    "local storage that names no user": (
        json.dumps({"access_token": "opaque", "refresh_token": "r"}),
        "the session cookie names no user",
    ),
    "a label and a cut value": (f"session={VALUE[:-30]}", "cut short"),
    "a label and base64 of something else": (f"session=base64-{encoded({'a': 1})}", "no access_token"),
    "JSON nested too deeply for a cookie": (
        f'{{"access_token": "a", "refresh_token": "r", "in": {"[" * 400}{"]" * 400}}}',
        "cannot be encoded as a cookie",
    ),
}


@pytest.mark.parametrize(("paste", "message"), REFUSED.values(), ids=REFUSED)
def test_unusable_pastes_are_explained(paste: str, message: str) -> None:
    with pytest.raises(CookieError, match=message) as caught:
        read_pasted(paste)
    assert not any(secret in str(caught.value) for secret in (VALUE[:20], LONG[:20], CLEARANCE, "eyJ"))


PARTS = [
    *(NAME, f"{NAME}.0", f"{NAME}.1", "cf_clearance", "user-agent", "base64-", VALUE, LONG_0, LONG_1, STORED_TEXT),
    *("curl ", "fetch(", "$session.UserAgent = ", "System.Net.Cookie(", "Invoke-WebRequest ", "-b ", "-Body "),
    *("\n", "\r\n", "\t", " "),
    *"""{}[]"'`\\^=:,;""",
    *('{"', '"}', "$'", "%2", "```"),
]


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=5), max_size=25).map("".join))
def test_parts_of_pastes_in_any_order_are_read_or_refused(pasted: str) -> None:
    with suppress(CookieError):
        read_pasted(pasted)


HOSTILE = [
    *"""{["`^%""",
    *('{"', '{"a":', '{"\\', '\\"', '{"access_token":"', '`"', '"`', "\\y", "$'\\'", "fetch({", "base64-"),
    *("user-agent", "UserAgent", '-Body "', 'System.Net.Cookie("', '"="'),
    *("{ ", "base64-e30 ", "base64-\n", f"{NAME} ", f"{NAME}=", f"{NAME}.0\n", f"{NAME}-code-verifier= "),
    *("user-agent: ", "user-agent \t", ", ", "a\n", "a \n", "ab.\n", "\n", "\r\n ", "```\n", "``` "),
    *("curl ", "cookie "),
    f"session={VALUE}\n",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_a_long_paste_is_read_in_linear_time(part: str) -> None:
    """Each takes a few hundredths of a second of CPU time; a search in quadratic time would take many seconds."""
    for start in ("", "curl -b '", "fetch(", "$s.Cookies.Add", '{"'):
        began = time.thread_time()
        with suppress(CookieError):
            read_pasted(start + part * (64 * 1024 // len(part)))
        assert time.thread_time() - began < 1, start


@pytest.mark.parametrize("part", ['{"', "curl ", f"{NAME}="])
def test_a_paste_as_large_as_a_form_may_be_is_read(part: str) -> None:
    with suppress(CookieError):
        read_pasted(part * (256 * 1024 // len(part)))
