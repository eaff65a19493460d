"""Write the manual page of every command from its `--help`: `man_pages.py FOLDER`, which `make man` calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click_man.core import generate_man_page

import bridge
from handlers.commands.main import main


def pages(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of the manual page of a command and of each of its subcommands."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100)
    title = context.command_path.replace(" ", "-")
    page = generate_man_page(context, version=bridge.__version__)
    below = []
    if isinstance(command, click.Group):
        found = [(each, command.get_command(context, each)) for each in command.list_commands(context)]
        below = [(each, made) for each, made in found if made is not None and not made.hidden]
        if ".SH COMMANDS" not in page:  # click-man sees only commands that are imported already
            page += "\n.SH COMMANDS"
            for each, made in below:
                page += f"\n.PP\n\\fB{each}\\fP\n  {made.get_short_help_str(100)}\n  See \\fB{title}-{each}(1)\\fP"
    yield title, f"{page}\n"
    for each, made in below:
        yield from pages(made, each, context)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for title, text in pages(main, "lmarena-bridge"):
        (folder / f"{title}.1").write_text(text)
