"""The content of one deployment of the site: its page and actions' answers (flight data), scripts with action ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

import orjson

from upstream.arena.models import UNREADABLE

Entries: TypeAlias = Sequence[Mapping[str, Any]]  # models in the page's format

_ACTIONS_SCRIPT: Final = "app-page"
_NO_LIST: Final = "$undefined"  # how flight data writes JavaScript's `undefined`
_PUSH_CHARS = 1900  # the real server splits flight data where it flushes; here the cuts are always within a model
_ANSWER_BYTES = 120_000  # of an action's answer, as seen
# Raw text in an action's answer that looks like rows.
_DECOY = """Paste your rows here — 例えば:
1:{"success":true,"data":{"uploadUrl":"https://decoy.invalid/put","key":"decoy","url":"https://decoy.invalid/get"}}
24:T5,décoy
1:E{"digest":"decoy"}
""".encode()


@dataclass(frozen=True, slots=True)
class Deployment:
    """The n-th deployment. Script names and action ids depend on the number only, and differ for each."""

    number: int

    @property
    def id(self) -> str:
        """The deployment's id, `dpl_…`, which the page appends to each script's URL."""
        return f"dpl_{self._hex('deployment', 28)}"

    @property
    def actions(self) -> Mapping[str, str]:
        """The hex ids of the two server actions for uploads, by name; 40 to 42 characters, as on the site."""
        return {
            "generateUploadUrl": "70" + self._hex("generateUploadUrl", 40),
            "getSignedUrl": self._hex("getSignedUrl", 40),
        }

    @property
    def scripts(self) -> Mapping[str, bytes]:
        """The JavaScript files by path. One file references the upload actions, among others."""
        sources = {
            "webpack": '!function(){"use strict";var e={},t={};function r(n){var o=t[n];if(void 0!==o)return o.exports;'
            "var i=t[n]={exports:{}};return e[n](i,i.exports,r),i.exports}r.m=e}();",
            "4bd1b696": self._chunk("updateTheme", "deleteChat"),
            _ACTIONS_SCRIPT: self._chunk(
                "acceptTerms", "generateUploadUrl", "renameChat", "getSignedUrl", "rateAnswer"
            ),
        }
        return {f"/_next/{self._bare(name)}": source.encode() for name, source in sources.items()}

    def page(self, path: str, entries: Entries | None, *, bare_names: bool = False) -> bytes:
        """The page at `path`: HTML whose scripts push the flight data in pieces.

        Without entries it has no list of models. With `bare_names` there is no element for the script of the upload
        actions: only the flight data names it, without `/_next/`.
        """
        paths = [script for script in self.scripts if not (bare_names and _ACTIONS_SCRIPT in script)]
        sources = "".join(f'<script src="{script}?dpl={self.id}" async=""></script>' for script in paths)
        flight = self._flight(path, entries)
        pieces = (flight[start : start + _PUSH_CHARS] for start in range(0, len(flight), _PUSH_CHARS))
        pushes = "".join(f"<script>self.__next_f.push([1,{_script_string(piece)}])</script>" for piece in pieces)
        return (
            f'<!DOCTYPE html><html lang="en" data-dpl-id="{self.id}"><head><meta charSet="utf-8"/>'
            f"<title>Arena | Benchmark &amp; Compare the Best AI Models</title>{sources}</head><body>"
            f"<script>(self.__next_f=self.__next_f||[]).push([0])</script>{pushes}</body></html>"
        ).encode()

    def action_answer(self, entries: Entries | None, result: Mapping[str, object]) -> bytes:
        """A server action's answer, `text/x-component`: its result is row `1:`, among many others."""
        rows = [
            f'0:{{"a":"$@1","f":"","b":"{self.id}"}}\n'.encode(),
            b'2:I[87555,["177","static/chunks/app-page.js"],"default"]\n',
            _text_row(24, 0xB50),
            b'8:["$","$L2",null,{"initialModels":%s}]\n' % orjson.dumps(_NO_LIST if entries is None else entries),
            b"1:%s\n" % orjson.dumps(result),
            b'21:["$","p",null,{"children":"11:"}]\n',
        ]
        filler = _text_row(25, max(_ANSWER_BYTES - sum(map(len, rows)), len(_DECOY)))
        return b"".join((*rows, filler, b'9:[["$","title","0",{"children":"Arena"}]]\n'))

    def _flight(self, page: str, entries: Entries | None) -> str:
        models: object = _NO_LIST
        if entries is not None:
            middle = len(entries) // 2
            models = [*entries[:middle], UNREADABLE, *entries[middle:]]
        text = 'Type “/” for “commands”, or ask in 中文 — "quoted", {braced} and [bracketed].\n'
        props = {
            "placeholder": 'Ask anything… "like this" \\ or that',
            "locales": ["en", "de", "日本語"],
            "initialModels": models,
            "initialModelAId": entries[0]["id"] if entries else None,
            "initialModelBId": None,
        }
        return (
            '1:"$Sreact.fragment"\n'
            f'2:I[87555,["177","{self._bare("4bd1b696")}"],"default"]\n'
            f'3:I[34979,["974","{self._bare(_ACTIONS_SCRIPT)}"],"ChatInput"]\n'
            f"24:T{len(text.encode()):x},{text}"
            f'0:{{"P":null,"b":"{self.id}","c":{orjson.dumps(page.split("/")).decode()},"i":false}}\n'
            f'8:["$","$L2",null,{orjson.dumps(props).decode()}]\n'
            '9:[["$","title","0",{"children":"Arena"}]]\n'
        )

    def _chunk(self, *names: str) -> str:
        """A minified chunk with one server reference for each name."""
        references = "".join(
            f'let {variable}=(0,n.createServerReference)("{self.actions.get(name, self._hex(name, 42))}",'
            f'n.callServer,void 0,n.findSourceMapURL,"{name}");'
            for variable, name in zip("abcdefgh", names, strict=False)
        )
        return (
            f'"use strict";(self.webpackChunk_N_E=self.webpackChunk_N_E||[]).push([[974],{{{self.number}'
            f":(e,t,r)=>{{r.d(t,{{Q:()=>a}});var n=r(34979);{references}}}}},e=>{{e.O(0,[441,684],()=>e(e.s=1))}}]);"
        )

    def _bare(self, script: str) -> str:
        """The script's path in flight data."""
        return f"static/chunks/{script}-{self._hex(script, 16)}.js"

    def _hex(self, seed: str, length: int) -> str:
        return sha256(f"{self.number} {seed}".encode()).hexdigest()[:length]


def _text_row(number: int, length: int) -> bytes:
    """A row of raw text of that many bytes, without a newline after it."""
    return b"%d:T%x,%s" % (number, length, _DECOY.ljust(length, b"."))


def _script_string(text: str) -> str:
    """A string literal for an inline script: `<` is escaped, so that the text cannot end the element."""
    return orjson.dumps(text).decode().replace("<", "\\u003c")
