"""Every form of a paste gives the same session, and no error quotes a secret."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from session_cookies import (
    CLEARANCE,
    LONG,
    LONGER,
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
    sessions,
)

from upstream.protocol.cookies import CookieError, Session, decode
from upstream.protocol.pastes import Pasted, read_pasted

AGENT = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko; "it\'s") Chrome/142.0.0.0'


def header(value: str, size: int = 3180) -> str:
    """A browser's `Cookie` header with the session, in pieces if it is long, among other cookies."""
    pieces = cut(value, size)
    ours = [(NAME, value)] if len(pieces) == 1 else named(pieces)
    return "; ".join(
        f"{name}={text}" for name, text in [("_ga", "GA1.1"), ("cf_clearance", CLEARANCE), *ours, ("p", "1=2")]
    )


def bash_single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def bash_double(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`") + '"'


def bash_ansi(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("!", "\\u0021").replace("(", "\\x28")
    return f"$'{escaped}'"


def windows(text: str) -> str:
    return '^"' + text.replace('"', '\\"').replace("(", "^(").replace("%", "^%^") + '^"'


def curl(
    value: str, quoted: Callable[[str], str], *, size: int = 3180, option: str = "-b", newline: str = " \\\n  "
) -> str:
    cookies = header(value, size)
    words = [
        f"curl {quoted('https://arena.example/?mode=direct')}",
        f"-H {quoted('accept: */*')}",
        f"{option} {quoted(cookies if option in ('-b', '--cookie') else f'cookie: {cookies}')}",
        f"-H {quoted(f'User-Agent: {AGENT}')}",
        f"--data-raw {quoted('a prompt: cf_clearance=wrong; user-agent: wrong 你好')}",
    ]
    return newline.join(words)


def rows(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(
        f"{name}\t{value}\tarena.example\t/\t2027-01-15T08:00:01.000Z\t{len(value)}\t✓" for name, value in pairs
    )


def export(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"domain": ".arena.example", "value": value, "httpOnly": True, "name": name} for name, value in pairs]


def forms(value: str, size: int = 3180) -> dict[str, str]:
    """This session in every form of a paste, in pieces of `size` characters."""
    pieces = cut(value, size)
    pairs = named(pieces)
    assignments = [f"{name}={piece}" for name, piece in pairs]
    return {
        "bare": value,
        "bare, quoted": f' "{value}"\r\n',
        "bare, percent-encoded": quote(value, safe=""),
        "bare, wrapped": "\n".join(cut(value, 76)),
        "bare pieces": "\n".join(pieces),
        "bare pieces in quotes and commas": ", ".join(f"'{piece}'" for piece in pieces),
        "bare, twice": f"{value}\n{value}",
        "named": f"{NAME}={value}",
        "named, with quotes": f'{NAME}="{value}"',
        "named, quoted": f"'{NAME}={value}'",
        "named, colon": f'{NAME}: "{value}"',
        "named, percent-encoded": f"{NAME}={quote(value, safe='')};",
        "named, on two lines": f"{NAME}\r\n{value}\r\n",
        "with a byte order mark": f"\ufeff{NAME}={value}",
        "set-cookie": f"Set-Cookie: {NAME}={value}; Path=/; Max-Age=34560000; SameSite=Lax",
        "pieces on a line": "; ".join(assignments),
        "pieces one a line": "\n".join(assignments),
        "pieces backwards": "\r\n".join(reversed(assignments)),
        "pieces, percent-encoded whole": "; ".join(
            f"{name}={piece}" for name, piece in named(cut(quote(value, safe=""), size))
        ),
        "row": rows([(NAME, value)]),
        "rows backwards": rows([*reversed(pairs), ("other", "1")]),
        "cookies.txt": "\n".join(f".arena.example\tTRUE\t/\tTRUE\t1800000001\t{name}\t{text}" for name, text in pairs),
        "header": header(value, size),
        "header with its word": f"Cookie: {header(value, size)}\r\n",
        "header, lower case": f"cookie:{header(value, size)}",
        "all headers": f"accept: */*\r\ncookie: {header(value, size)}\r\nuser-agent: {AGENT}\r\n",
        "curl, single quotes": curl(value, bash_single, size=size),
        "curl, double quotes": curl(value, bash_double, size=size, option="--cookie"),
        "curl, ansi quotes": curl(value, bash_ansi, size=size, option="-H"),
        "curl, header option": curl(value, bash_single, size=size, option="--header"),
        "curl on one line": curl(value, bash_single, size=size, newline=" "),
        "curl with CRLF": curl(value, bash_double, size=size, newline=" \\\r\n  "),
        "curl, windows": curl(value, windows, size=size, newline=" ^\r\n  "),
        "json list": json.dumps(export([("other", "x"), *reversed(pairs)]), indent=2),
        "json, whole": json.dumps(export([(NAME, value)])),
        "json storage state": json.dumps({"cookies": export(pairs), "origins": []}),
        "json mapping": json.dumps(dict(pairs) | {"n": 1}),
    }


@pytest.mark.parametrize("value", [VALUE, LONG, LONGER], ids=["one piece", "two pieces", "three pieces"])
def test_every_form_gives_the_same_session(value: str) -> None:
    for form, paste in forms(value).items():
        assert read_pasted(paste).session == expected(value), form


@pytest.mark.parametrize("form", [form for form in forms(VALUE) if form.startswith("curl")] + ["all headers"])
def test_clearance_and_user_agent_are_found(form: str) -> None:
    pasted = read_pasted(forms(LONG)[form])
    assert (pasted.cf_clearance, pasted.user_agent) == (CLEARANCE, AGENT)


def test_user_agent_by_its_own_option() -> None:
    pasted = read_pasted(f"$ curl https://arena.example -A '{AGENT[:40]}' -b {NAME}={VALUE}")
    assert (pasted.session, pasted.user_agent) == (SESSION, AGENT[:40])


def test_a_header_has_the_clearance_without_a_user_agent() -> None:
    pasted = read_pasted(header(VALUE))
    assert (pasted.cf_clearance, pasted.user_agent) == (CLEARANCE, None)


def test_a_clearance_and_its_user_agent_need_no_session() -> None:
    pasted = read_pasted(f"curl 'https://arena.example' -b 'cf_clearance={CLEARANCE}' -H 'user-agent: {AGENT[:30]}'")
    assert (pasted.session, pasted.cf_clearance, pasted.user_agent) == (None, CLEARANCE, AGENT[:30])


def test_the_first_of_several_clearances_counts() -> None:
    assert read_pasted(f"cf_clearance=first; {NAME}={VALUE}; cf_clearance=second").cf_clearance == "first"


def test_a_whole_cookie_takes_precedence_over_stale_pieces() -> None:
    assert read_pasted(f"{NAME}.0=stale; {NAME}.2=stale; {NAME}={VALUE}").session == SESSION


def test_an_empty_cookie_beside_pieces_is_ignored() -> None:
    zero, one = cut(LONG)
    session = read_pasted(f"{NAME}=; {NAME}.0={zero}; {NAME}.1={one}; {NAME}.2=").session
    assert session is not None
    assert session.value == LONG


def test_the_login_s_other_cookie_is_not_the_session() -> None:
    assert read_pasted(f"{NAME}-code-verifier=base64-abc; sb-{NAME}=base64-abc; {NAME}={VALUE}").session == SESSION


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "no session cookie in it", id="nothing"),
        pytest.param("hello world", "no session cookie in it", id="prose"),
        pytest.param("привет", "no session cookie in it", id="cyrillic prose"),
        pytest.param("_ga=1; theme=dark", "no session cookie in it", id="other cookies"),
        pytest.param(f"{NAME}=", "no session cookie in it", id="an empty cookie"),
        pytest.param(f"{NAME}.0\n{NAME}.1", "no session cookie in it", id="names only"),
        pytest.param("[]", "no session cookie in it", id="an empty export"),
        pytest.param('[1, {"name": 2, "value": 3}]', "no session cookie in it", id="an odd export"),
        pytest.param("[{", "no session cookie in it", id="a broken export"),
        pytest.param("curl 'https://arena.example'", "no session cookie in it", id="a bare curl"),
        pytest.param("curl 'unmatched -b \\", "no session cookie in it", id="an unmatched quote"),
        pytest.param(f"cf_clearance={CLEARANCE}", "this is cf_clearance only", id="clearance only"),
        pytest.param(rows([("cf_clearance", CLEARANCE)]), "this is cf_clearance only", id="its row only"),
        pytest.param(rows(named(cut(LONG))[1:]), "piece 0 of the session cookie is missing", id="no first piece"),
        pytest.param(
            rows([named(cut(LONGER))[i] for i in (0, 2)]),
            "piece 1 of the session cookie is missing",
            id="no middle piece",
        ),
        pytest.param(rows(named(cut(LONG))[:1]), "cut short", id="no last piece"),
        pytest.param(f"{NAME}.0={cut(LONG)[0]}\n{NAME}.0={cut(LONG)[1]}", "occurs twice", id="one piece twice"),
        pytest.param(f"{NAME}={VALUE}\n{NAME}={LONG}", "occurs twice", id="two accounts"),
        pytest.param(f"{VALUE}\n{LONG}", "two session cookies", id="two bare values"),
        pytest.param(f"{NAME}=eyJhbGciOi.eyJzdWIi.c2ln", "does not begin with base64-", id="a token"),
        pytest.param(f"{NAME}=base64-*", "not base64", id="not base64"),
        pytest.param(f"{NAME}={VALUE}жж", "not allowed in a cookie", id="cyrillic in the value"),
        pytest.param(f"{NAME}={VALUE}%0d%0aX:1", "not allowed in a cookie", id="an encoded line end"),
        pytest.param(f"{NAME}={VALUE}\x1b[201~", "control characters", id="an escape sequence"),
        pytest.param(f"{NAME}={VALUE}\x00", "control characters", id="a null"),
        pytest.param(json.dumps(export([(NAME, VALUE + "\x7f")])), "control characters", id="a control in an export"),
        pytest.param(f"{NAME}={VALUE}; cf_clearance=ключ", "value of cf_clearance", id="cyrillic clearance"),
        pytest.param(f"cookie: {NAME}={VALUE}\nuser-agent: Мозилла", "the user agent", id="cyrillic user agent"),
    ],
)
def test_an_incomplete_paste_is_explained(text: str, message: str) -> None:
    with pytest.raises(CookieError, match=message) as caught:
        read_pasted(text)
    assert not any(secret in str(caught.value) for secret in (VALUE[:20], LONG[:20], CLEARANCE, "eyJ"))


def test_no_repr_shows_a_secret() -> None:
    pasted = read_pasted(curl(LONG, bash_single))
    assert "u-1" in repr(pasted)
    assert LONG[7:30] not in repr(pasted)
    assert CLEARANCE not in repr(pasted)


@a_share(of=5)
@given(sessions, st.booleans(), st.booleans(), st.integers(60, 900), st.sampled_from(sorted(forms(VALUE))))
def test_random_sessions_in_every_form(
    whole: dict[str, Any], standard: bool, padded: bool, size: int, form: str
) -> None:
    value = "base64-" + encoded(whole, standard=standard, padded=padded)
    session = replace(
        decode(value), user_id=whole["user"]["id"], email=whole["user"]["email"], expires_at=float(whole["expires_at"])
    )
    read = read_pasted(forms(value, size)[form]).session
    assert read is not None
    assert read.value.rstrip("=") == value.rstrip("=")  # a piece that is nothing but padding may be left out
    assert replace(read, value=value) == session
    assert decode(value) == session


@given(st.text() | st.text(alphabet=f"{NAME}.01=;\t\n\"' cf_clearance$\\^{{[base64-"))
def test_any_text_gives_a_paste_or_a_cookie_error(pasted: str) -> None:
    for prefix in ("", "curl ", f"{NAME}=", "base64-", "[", '{"cookies":['):
        with suppress(CookieError):
            read_pasted(prefix + pasted)


def test_a_paste_of_spaces_is_read_at_once() -> None:
    """Backtracking over the spaces would take minutes."""
    with pytest.raises(CookieError):
        read_pasted(f"user-agent: x{' ' * 250_000}y")


# Further forms of pastes, from Chrome, Firefox and other tools, and as changed by editors and chats.

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
def test_real_world_pastes_are_read(paste: str, result: Pasted) -> None:
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
        "cannot be made a cookie",
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
    """Each takes some hundredths of a second, of the processor's time: a search in quadratic time would take many."""
    for start in ("", "curl -b '", "fetch(", "$s.Cookies.Add", '{"'):
        began = time.thread_time()
        with suppress(CookieError):
            read_pasted(start + part * (64 * 1024 // len(part)))
        assert time.thread_time() - began < 1, start


@pytest.mark.parametrize("part", ['{"', "curl ", f"{NAME}="])
def test_a_paste_as_large_as_a_form_may_be_is_read(part: str) -> None:
    with suppress(CookieError):
        read_pasted(part * (256 * 1024 // len(part)))
