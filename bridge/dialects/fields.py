"""Typed access to a parsed JSON object. A value of the wrong type is a 400 that names the field by its path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping
from typing import Final, TypeAlias, TypeVar

import orjson

from bridge.dialects import json_text
from bridge.errors import ApiError, invalid_request

T = TypeVar("T")

#: Integers have 64 bits; the parser reads larger ones as floats.
_INTEGERS_END: Final = 2.0**63

#: The encoder takes 254 levels, and an object that was sent becomes part of larger ones: of calls, of messages.
_OUTER_LISTS: Final = 8

_KINDS: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def read_object(body: bytes) -> Fields:
    """Parse a request body. Raises ApiError (400) `invalid_json` or `invalid_type`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _read_mended(body, error)
    if not isinstance(value, dict):
        raise invalid_request("invalid_type", f"The body must be a JSON object, not {_KINDS[type(value)]}.")
    return Fields(value)


def _read_mended(body: bytes, error: orjson.JSONDecodeError) -> object:
    """Mend and parse a body that the parser refused. Raises ApiError (400) `invalid_json`."""
    text = json_text.without_bom(body)
    refusal = json_text.utf8_error(text)
    try:
        if refusal is not None:
            raise refusal
    finally:
        del refusal  # its traceback refers to this frame: keeping it here would be a reference cycle
    mended = json_text.replace_lone_surrogates(text)
    if mended is not None or text is not body:
        try:
            return orjson.loads(text if mended is None else mended)
        except orjson.JSONDecodeError as other:
            error = other.with_traceback(None)  # the traceback refers to this frame
    message = f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."
    raise invalid_request("invalid_json", message) from None


class Fields:
    """One object of a request. A field that is absent or null reads as None."""

    __slots__ = ("_at", "_name", "_parent", "_values")

    def __init__(
        self, values: dict[str, object], parent: Fields | None = None, name: str = "", at: int | None = None
    ) -> None:
        self._values = values
        self._parent = parent  # with the name and the index there, from which the path is built when an error needs it
        self._name = name
        self._at = at

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    @property
    def names(self) -> KeysView[str]:
        """The names of the fields that were sent, including those that are null."""
        return self._values.keys()

    @property
    def own_path(self) -> str:
        """The path of this object in the request, in OpenAI's notation (`messages[1]`); '' for the whole request."""
        if self._parent is None:
            return self._name
        at = "" if self._at is None else f"[{self._at}]"
        return f"{self._parent.path(self._name)}{at}"

    def path(self, name: str) -> str:
        """Return the path of a field in the request, such as `messages[1].content`."""
        own_path = self.own_path
        return f"{own_path}.{name}" if own_path else name

    def string(self, name: str) -> str | None:
        """Read a string."""
        value = self._values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong_type(name, "a string")

    def required_string(self, name: str) -> str:
        """Read a string that must be there, but may be empty."""
        value = self.string(name)
        if value is None:
            raise self.required(name)
        return value

    def nonempty_string(self, name: str) -> str:
        """Read a string that must be there, and not be empty."""
        value = self.string(name)
        if not value:
            raise self.required(name)
        return value

    def boolean(self, name: str) -> bool | None:
        """Read true or false."""
        value = self._values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong_type(name, "a boolean")

    def integer(self, name: str, *, minimum: int | None = None) -> int | None:
        """Read an integer of at least `minimum`; 1.0 is accepted, because some clients have only floats."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer() and abs(value) < _INTEGERS_END:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong_type(name, "an integer")
        if minimum is not None and value < minimum:
            raise self.invalid(name, "invalid_value", f"'{self.path(name)}' must be at least {minimum}, not {value}.")
        return value

    def number(self, name: str) -> float | None:
        """Read a number."""
        value = self._values.get(name)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise self._wrong_type(name, "a number")

    def mapping(self, name: str) -> Fields | None:
        """Read an object."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, dict):
            return Fields(value, self, name)
        raise self._wrong_type(name, "an object")

    def json_object(self, name: str) -> tuple[dict[str, object], bytes] | None:
        """Read an object as it was sent, with its JSON text. Raises ApiError (400) if it is nested too deeply."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong_type(name, "an object")
        try:
            text = orjson.dumps([[[[[[[[value]]]]]]]])[_OUTER_LISTS:-_OUTER_LISTS]
        except orjson.JSONEncodeError:
            raise self.invalid(name, "invalid_value", f"'{self.path(name)}' is nested too deeply.") from None
        return value, text

    def array(self, name: str) -> list[object] | None:
        """Read an array."""
        value = self._values.get(name)
        if value is None or isinstance(value, list):
            return value
        raise self._wrong_type(name, "an array")

    def strings(self, name: str) -> list[str] | None:
        """Read an array of strings."""
        items = self.array(name)
        return None if items is None else [self._item(name, at, item, str) for at, item in enumerate(items)]

    def mappings(self, name: str) -> list[Fields] | None:
        """Read an array of objects."""
        items = self.array(name)
        if items is None:
            return None
        return [self.mapping_at(name, at, item) for at, item in enumerate(items)]

    def mapping_at(self, name: str, at: int, item: object) -> Fields:
        """Read an item of an array, which must be an object."""
        return Fields(self._item(name, at, item, dict), self, name, at)

    def _item(self, name: str, at: int, item: object, kind: type[T]) -> T:
        if isinstance(item, kind):
            return item
        path = f"{self.path(name)}[{at}]"
        raise invalid_request("invalid_type", f"'{path}' must be {_KINDS[kind]}, not {_KINDS[type(item)]}.", path)

    @property
    def values(self) -> dict[str, object]:
        """The parsed object itself."""
        return self._values

    def any(self, name: str) -> object:
        """Return a field's value without checking its type."""
        return self._values.get(name)

    def any_mappings(self, name: str) -> Iterator[Fields]:
        """Yield the objects in a field, which is an object or an array; other values are skipped."""
        value = self._values.get(name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield Fields(item, None, name)

    def required(self, name: str) -> ApiError:
        """Make the 400 for a missing field."""
        return self.invalid(name, "missing_required_parameter", f"Missing required parameter: '{self.path(name)}'.")

    def invalid(self, name: str, code: str, message: str) -> ApiError:
        """Make a 400 about a field."""
        return invalid_request(code, message, self.path(name))

    def unsupported(self, name: str) -> ApiError:
        """Make the 400 for a field that the bridge does not support."""
        message = f"The bridge does not support '{name}': leave it out."
        return self.invalid(name, "unsupported_parameter", message)

    def ignored(self, readers: Mapping[str, Reader]) -> list[str]:
        """Check the types of fields that have no effect; return the names of those that are set."""
        values = self._values
        return [name for name, read in readers.items() if values.get(name) is not None and read(self, name) is not None]

    def kind(self, name: str) -> type:
        """Return the Python type of a field's value."""
        return type(self._values.get(name))

    def _wrong_type(self, name: str, wanted: str) -> ApiError:
        found = _KINDS[self.kind(name)]
        return self.invalid(name, "invalid_type", f"'{self.path(name)}' must be {wanted}, not {found}.")


#: A method of `Fields` that reads a field of one type.
Reader: TypeAlias = Callable[[Fields, str], object]
