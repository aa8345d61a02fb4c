"""Writes the commands and their options into the page of the command line, from the program."""

from __future__ import annotations

import html
from typing import Any

MARKER = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker by a section for each command."""
    return markdown.replace(MARKER, describe_commands()) if MARKER in markdown else markdown


def describe_commands() -> str:
    """Return, as Markdown, each command's help and a table of its options."""
    import typer
    from timl.cli import app

    group: Any = typer.main.get_command(app)
    return "\n\n".join(_section(name, command) for name, command in group.commands.items())


def _section(name: str, command: Any) -> str:
    lines = [f"## timl {name}", "", str(command.help).strip(), ""]
    lines += ["| option | default | |", "|---|---|---|"]
    for option in command.params:
        names = ", ".join(f"`{text}`" for text in (*option.opts, *option.secondary_opts))
        lines.append(f"| {names} | {_default(option)} | {html.escape(option.help or '')} |")
    return "\n".join(lines)


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.default is None or option.default is False:
        return ""
    if option.default is True:
        return f"`{option.opts[0]}`"
    return f"`{option.default}`"
