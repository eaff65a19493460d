"""Schemas of the tools that Anthropic's models know without a schema, and that callers run themselves.

Other models need to be shown the schemas. Tools that Anthropic's servers run (web search, code execution) are not
available here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.answering.chat import Tool

_TWO_INTEGERS: Final = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}


def _text_editor(name: str, inserted: str, *more_commands: str) -> Tool:
    """Make the tool that edits files; older versions have more commands, and another name for the inserted text."""
    return Tool(
        name,
        "View, create and edit text files. `view` shows a file or lists a folder; `create` writes a whole file; "
        f"`str_replace` replaces `old_str`, which must occur exactly once, by `new_str`; `insert` inserts `{inserted}` "
        "after the line `insert_line`.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", *more_commands]},
                "path": {"type": "string"},
                "file_text": {"type": "string"},
                "old_str": {"type": "string"},
                "new_str": {"type": "string"},
                "insert_line": {"type": "integer"},
                inserted: {"type": "string"},
                "view_range": _TWO_INTEGERS,
            },
            "required": ["command", "path"],
        },
    )


#: Tools by the beginning of their type, which ends in a date; the first match counts.
VENDOR_TOOLS: Final[Mapping[str, Tool]] = {
    "bash_2": Tool(
        "bash",
        "Run a command in a bash session that stays open between calls.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "The command to run."},
                "restart": {"type": "boolean", "description": "Start a new session instead of running a command."},
            },
        },
    ),
    "text_editor_2024": _text_editor("str_replace_editor", "new_str", "undo_edit"),
    "text_editor_20250124": _text_editor("str_replace_editor", "new_str", "undo_edit"),
    "text_editor_": _text_editor("str_replace_based_edit_tool", "insert_text"),
    "memory_": Tool(
        "memory",
        "Keep notes between conversations as files below /memories.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
                "path": {"type": "string"},
                "file_text": {"type": "string"},
                "old_str": {"type": "string"},
                "new_str": {"type": "string"},
                "insert_line": {"type": "integer"},
                "insert_text": {"type": "string"},
                "view_range": _TWO_INTEGERS,
                "old_path": {"type": "string"},
                "new_path": {"type": "string"},
            },
            "required": ["command"],
        },
    ),
    "computer_2": Tool(
        "computer",
        "Use the mouse and the keyboard of a screen, and take screenshots of it.",
        {
            "type": "object",
            "properties": {
                "action": {"type": "string"},
                "coordinate": _TWO_INTEGERS,
                "start_coordinate": _TWO_INTEGERS,
                "text": {"type": "string"},
                "duration": {"type": "number"},
                "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
                "scroll_amount": {"type": "integer"},
            },
            "required": ["action"],
        },
    ),
}
