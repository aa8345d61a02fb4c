"""A document of sections with text, tables and pictures, as one HTML file or as Markdown."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from jinja2 import Environment

_MARKDOWN = re.compile(r"([\\`*_\[\]|~#$])")
_MARKS = {1: "*", 2: "°"}
_SHORT = 15
"""Most rows of a table that is printed on one page."""


@dataclass(frozen=True)
class Text:
    """A paragraph; `link`, if any, is an address that is shown after it."""

    text: str
    link: str = ""
    kind: Literal["plain", "note", "faint", "command"] = "plain"
    """What it is: a note is a warning, a faint text may be skipped, a command is to be typed."""


@dataclass(frozen=True)
class Table:
    """A table; the first column has the rows' headings."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    ranks: Sequence[Sequence[int]] = ()
    """Rank of each text: 1 the best of its column, 2 the second best, 0 any other."""
    wide: bool = False
    """Whether the texts are sentences, which may break, and not numbers."""
    meanings: Sequence[str] = ()
    """A sentence about each row, shown under its heading."""

    @property
    def short(self) -> bool:
        """Whether the table is printed on one page."""
        return len(self.rows) <= _SHORT

    def mark(self, row: int, column: int) -> str:
        """Return the mark of a text's rank: "*" for the best, "°" for the second best."""
        return _MARKS.get(self.ranks[row][column], "") if self.ranks else ""


@dataclass(frozen=True)
class Picture:
    """A figure."""

    name: str
    """Name of its file, without suffix."""
    data: bytes
    """Its file: SVG or PNG."""
    alternative: str
    """What a reader who cannot see it must know."""
    caption: str
    wide: bool = False
    """Whether it takes the whole width of the page."""

    @property
    def suffix(self) -> str:
        """The suffix of its file, ".svg" or ".png"."""
        return ".png" if self.data.startswith(b"\x89PNG") else ".svg"

    @property
    def address(self) -> str:
        """The data URI that holds it."""
        kind = "image/png" if self.suffix == ".png" else "image/svg+xml"
        return f"data:{kind};base64,{base64.b64encode(self.data).decode('ascii')}"


Block: TypeAlias = Text | Table | Picture


@dataclass
class Section:
    """A part of the document with a heading."""

    name: str
    """Name in links."""
    title: str
    blocks: list[Block] = field(default_factory=list)
    absent: str = ""
    """Where it has no blocks: why, and how to get them."""

    @property
    def groups(self) -> list[list[Block]]:
        """Its blocks in order, figures that follow each other together."""
        groups: list[list[Block]] = []
        for block in self.blocks:
            if groups and isinstance(block, Picture) and isinstance(groups[-1][-1], Picture):
                groups[-1].append(block)
            else:
                groups.append([block])
        return groups


@dataclass(frozen=True)
class Document:
    """A title, a paragraph that says the most important, and the sections.

    Sections without blocks are left out; the last one says which, and why.
    """

    title: str
    summary: str
    sections: Sequence[Section]
    headline: str = ""
    """The one figure to remember, which the summary explains; shown large above it."""
    opening: Sequence[Block] = ()
    """What is shown before the contents."""

    @property
    def filled(self) -> list[Section]:
        """The sections that have blocks, then one on the others."""
        filled = [section for section in self.sections if section.blocks]
        absent: list[Block] = [
            Text(f"{section.title}: {section.absent}", kind="faint")
            for section in self.sections
            if section.absent and not section.blocks
        ]
        return [*filled, Section("absent", "Not in this report", absent)] if absent else filled

    @property
    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        blocks = [*self.opening, *(block for section in self.sections for block in section.blocks)]
        return [block for block in blocks if isinstance(block, Picture)]

    def to_html(self) -> str:
        """Return one HTML page that needs no other file and loads nothing."""
        return _environment().get_template("document.html").render(document=self)

    def to_markdown(self) -> str:
        """Return Markdown; the figures are files beside it, see `Picture.name`."""
        parts = [f"# {_plain(self.title)}"]
        if self.headline:
            parts.append(f"**{_plain(self.headline)}**")
        parts += [_plain(self.summary), *map(_markdown_block, self.opening)]
        for section in self.filled:
            parts.append(f"## {_plain(section.title)}")
            parts += [_markdown_block(block) for block in section.blocks]
        return "\n\n".join(parts) + "\n"


@cache
def _environment() -> Environment:
    """Return the templates: what they insert is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("timl.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["text"] = lambda block: isinstance(block, Text)
    environment.tests["table"] = lambda block: isinstance(block, Table)
    return environment


def _plain(text: str) -> str:
    """Escape what Markdown, or HTML within it, would take for its own."""
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _markdown_block(block: Block) -> str:
    if isinstance(block, Text):
        if block.kind == "command":
            return f"```sh\n{block.text}\n```"
        return _plain(block.text) + (f" <{block.link}>" if block.link else "")
    if isinstance(block, Picture):
        file = f"{block.name}{block.suffix}"
        return f"![{_plain(block.alternative)}]({file})\n\n{_plain(block.caption)}".rstrip()
    alignment = ["---"] + ["---" if block.wide else "---:"] * (len(block.header) - 1)
    lines = [
        f"| {' | '.join(map(_plain, block.header))} |",
        f"|{'|'.join(alignment)}|",
    ]
    shapes = {"*": "**{}**\\*", "°": "{}°", "": "{}"}
    for number, row in enumerate(block.rows):
        texts = [
            shapes[block.mark(number, column)].format(_plain(text))
            for column, text in enumerate(row)
        ]
        if block.meanings:
            texts[0] += f": {_plain(block.meanings[number])}"
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join([f"{_plain(block.caption)}", "", *lines])
