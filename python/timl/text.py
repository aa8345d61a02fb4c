"""Text that names from files cannot turn into something else: terminal codes, markup, formulas."""

from __future__ import annotations

import html

_REPLACED = "\N{REPLACEMENT CHARACTER}"
_CONTROLS = dict.fromkeys(
    {
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    }
    - {ord("\n"), ord("\t")},
    _REPLACED,
)
"""Codes of ASCII and Latin-1 that are no characters, line separators, changes of direction."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of cells that a spreadsheet computes: OWASP, CSV Injection."""


def printable(text: str) -> str:
    """Return a text for a terminal: what could move its cursor or colour it is replaced by U+FFFD.

    Line feeds and tabs stay.
    """
    return text.translate(_CONTROLS)


def markdown_cell(text: str) -> str:
    """Return a name for a line or a table's cell in Markdown, where it is no markup and no HTML."""
    plain = html.escape(printable(text).replace("\n", " "), quote=False)
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")


def drawn(text: str) -> str:
    """Return a name for a figure: matplotlib typesets what stands between dollar signs."""
    return printable(text).replace("$", "\\$")


def csv_cell(text: str) -> str:
    """Return a name for a CSV file, with an apostrophe before what a spreadsheet would compute."""
    return f"'{text}" if text.startswith(_FORMULA) else text
