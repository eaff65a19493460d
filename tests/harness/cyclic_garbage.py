"""Finds the reference cycles that code leaves behind, which only the garbage collector would free.

with left_behind() as left:
    …
left.ours, left.others      # how many cycles of each kind
"""

from __future__ import annotations

import gc
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
#: The folders of the daemon's own code; the arena within `upstream` is the fake site and does not count.
_OURS: Final = tuple(f"{ROOT / folder}/" for folder in ("bridge", "handlers", "upstream"))
_ARENA: Final = f"{ROOT / 'upstream/arena'}/"
_OUR_MODULES: Final = ("bridge.", "handlers.", "upstream.")


@dataclass
class Left:
    """The numbers of cycles left behind, by a description of their frames and of the types of their other objects.

    Each cycle in `ours` contains an object or a frame of the daemon.
    """

    ours: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)


@contextmanager
def left_behind() -> Iterator[Left]:
    """Disable garbage collection within the context, then find what it would have had to collect."""
    left = Left()
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield left
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        for cycle in _cycles(list(gc.garbage)):
            (left.ours if any(map(_is_ours, cycle)) else left.others)[_described(cycle)] += 1
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        if was_enabled:
            gc.enable()


def _cycles(objects: Sequence[object]) -> list[list[object]]:
    """The strongly connected components of more than one object (Tarjan), and objects that refer to themselves."""
    known = {id(each): each for each in objects}
    held = {at: [id(each) for each in gc.get_referents(of) if id(each) in known] for at, of in known.items()}
    order: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[object]] = []
    for root in known:
        if root in order:
            continue
        order[root] = lowest[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(held[root]))]
        while work:
            node, rest = work[-1]
            for each in rest:
                if each not in order:
                    order[each] = lowest[each] = len(order)
                    stack.append(each)
                    on_stack.add(each)
                    work.append((each, iter(held[each])))
                    break
                if each in on_stack:
                    lowest[node] = min(lowest[node], order[each])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == order[node]:
                    component = []
                    while True:
                        each = stack.pop()
                        on_stack.discard(each)
                        component.append(known[each])
                        if each == node:
                            break
                    if len(component) > 1 or node in held[node]:
                        found.append(component)
    return found


def _code(of: object) -> types.CodeType | None:
    match of:
        case types.FrameType():
            return of.f_code
        case types.CoroutineType():
            return of.cr_code
        case types.GeneratorType():
            return of.gi_code
        case types.AsyncGeneratorType():
            return of.ag_code
        case types.FunctionType():
            return of.__code__
    return None


def _is_ours(of: object) -> bool:
    code = _code(of)
    if code is not None:
        return code.co_filename.startswith(_OURS) and not code.co_filename.startswith(_ARENA)
    module = type(of).__module__ or ""
    return module.startswith(_OUR_MODULES) and not module.startswith("upstream.arena")


def _described(cycle: Sequence[object]) -> str:
    frames = sorted({_place(code) for each in cycle if (code := _code(each)) is not None})
    kinds = Counter(type(each).__name__ for each in cycle if _code(each) is None)
    return f"{', '.join(frames)}: {', '.join(f'{name}×{n}' if n > 1 else name for name, n in sorted(kinds.items()))}"


def _place(code: types.CodeType) -> str:
    return f"{Path(code.co_filename).stem}.{code.co_qualname}"
