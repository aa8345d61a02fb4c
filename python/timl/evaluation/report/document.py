"""A document of sections with text, tables and pictures, as one HTML file or as Markdown."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

_MARKDOWN = re.compile(r"([\\`*_\[\]|~#$])")
_MARKS = {1: "*", 2: "°"}


@dataclass(frozen=True)
class Text:
    """A paragraph; `link`, if any, is an address that is shown after it."""

    text: str
    link: str = ""


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


@dataclass(frozen=True)
class Picture:
    """A figure as SVG."""

    name: str
    """Name of its file, without suffix."""
    svg: bytes
    alternative: str
    """What a reader who cannot see it must know."""
    caption: str


Block: TypeAlias = Text | Table | Picture


@dataclass
class Section:
    """A part of the document with a heading."""

    name: str
    """Name in links."""
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """A title, a paragraph that says the most important, and the sections."""

    title: str
    summary: str
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        return [
            block
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Picture)
        ]

    def to_html(self) -> str:
        """Return one HTML page that needs no other file."""
        links = "".join(
            f'<li><a href="#{section.name}">{_escape(section.title)}</a></li>'
            for section in self.sections
        )
        body = "\n".join(_html_section(section) for section in self.sections)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_escape(self.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<header><h1>{_escape(self.title)}</h1>\n<p>{_escape(self.summary)}</p></header>\n"
            f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n{body}\n</main>\n'
            "</body>\n</html>\n"
        )

    def to_markdown(self) -> str:
        """Return Markdown; the figures are SVG files beside it, see `Picture.name`."""
        parts = [f"# {_plain(self.title)}", _plain(self.summary)]
        for section in self.sections:
            parts.append(f"## {_plain(section.title)}")
            parts += [_markdown_block(block) for block in section.blocks]
        return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    return html.escape(text)


def _plain(text: str) -> str:
    """Escape what Markdown, or HTML within it, would take for its own."""
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _html_section(section: Section) -> str:
    parts: list[str] = []
    figures: list[str] = []
    for block in section.blocks:
        if isinstance(block, Picture):
            figures.append(_html_picture(block))
            continue
        if figures:
            parts.append(f'<div class="figures">{"".join(figures)}</div>')
            figures = []
        parts.append(_html_table(block) if isinstance(block, Table) else _html_text(block))
    if figures:
        parts.append(f'<div class="figures">{"".join(figures)}</div>')
    heading = f'<h2 id="{section.name}-heading">{_escape(section.title)}</h2>'
    return (
        f'<section id="{section.name}" aria-labelledby="{section.name}-heading">\n{heading}\n'
        + "\n".join(parts)
        + "\n</section>"
    )


def _html_text(block: Text) -> str:
    link = ""
    if block.link:
        link = f' <a href="{_escape(block.link)}">{_escape(block.link)}</a>'
    return f"<p>{_escape(block.text)}{link}</p>"


def _html_picture(block: Picture) -> str:
    data = base64.b64encode(block.svg).decode("ascii")
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{_escape(block.alternative)}">'
        f"<figcaption>{_escape(block.caption)}</figcaption></figure>"
    )


def _html_table(block: Table) -> str:
    head = "".join(f'<th scope="col">{_breakable(text)}</th>' for text in block.header)
    lines = []
    for number, row in enumerate(block.rows):
        ranks = block.ranks[number] if block.ranks else [0] * len(row)
        cells = [f'<th scope="row">{_breakable(row[0])}</th>']
        for text, rank in zip(row[1:], ranks[1:], strict=True):
            shown = f"{_escape(text)}{_MARKS.get(rank, '')}"
            cells.append(f"<td>{f'<strong>{shown}</strong>' if rank == 1 else shown}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    kind = ' class="wide"' if block.wide else ""
    # the scrolled box can be reached by keyboard
    label = _escape(block.caption)
    return (
        f'<p class="caption">{label}</p>\n<div class="scroll" role="region" aria-label="{label}" '
        f'tabindex="0"><table{kind} aria-label="{label}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _breakable(text: str) -> str:
    """Let long names break after an underscore."""
    return _escape(text).replace("_", "_<wbr>")


def _markdown_block(block: Block) -> str:
    if isinstance(block, Text):
        return _plain(block.text) + (f" <{block.link}>" if block.link else "")
    if isinstance(block, Picture):
        return f"![{_plain(block.alternative)}]({block.name}.svg)\n\n{_plain(block.caption)}"
    alignment = ["---"] + ["---" if block.wide else "---:"] * (len(block.header) - 1)
    lines = [
        f"| {' | '.join(map(_plain, block.header))} |",
        f"|{'|'.join(alignment)}|",
    ]
    for number, row in enumerate(block.rows):
        ranks = block.ranks[number] if block.ranks else [0] * len(row)
        shapes = ["**{}**\\*" if rank == 1 else "{}°" if rank == 2 else "{}" for rank in ranks]
        texts = [shape.format(_plain(text)) for shape, text in zip(shapes, row, strict=True)]
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join([f"{_plain(block.caption)}", "", *lines])


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 68rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .5rem;
  border-top: 2px solid #0072b2; }
p { max-width: 46rem; margin: .6rem 0; overflow-wrap: anywhere; }
a { color: #005a8c; }
a:focus-visible, .scroll:focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
nav ul { list-style: none; padding: 0; margin: 1rem 0; display: flex; flex-wrap: wrap;
  gap: .2rem 1.1rem; }
nav a { display: inline-block; padding: .25rem 0; }
.scroll { overflow-x: auto; margin: 0 0 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.caption { color: #444; font-size: .9rem; margin: 1rem 0 .2rem; break-after: avoid; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: bottom; }
td { white-space: nowrap; }
thead th { border-bottom: 2px solid #666; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff;
  min-width: 7.5rem; font-weight: 600; }
tbody th { font-weight: 500; white-space: nowrap; }
.wide th, .wide td { text-align: left; white-space: normal; vertical-align: top;
  overflow-wrap: anywhere; min-width: 6rem; }
.figures { display: grid; gap: 1rem 1.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; max-width: 36rem; break-inside: avoid; }
img { width: 100%; height: auto; display: block; }
figcaption { color: #444; font-size: .88rem; margin-top: .2rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: .75rem; }
  th, td { padding: .3rem .45rem; }
  tbody th { white-space: normal; }
}
@media print {
  @page { margin: 1.5cm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2 { break-after: avoid; margin-top: 1.2rem; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .3rem; }
  td { white-space: normal; }
  tr { break-inside: avoid; }
  thead { display: table-header-group; }
  th:first-child { position: static; }
  tbody th { white-space: normal; }
  .figures { display: block; columns: 2; }
  .figures figure { margin-bottom: .8rem; }
  a { color: inherit; text-decoration: none; }
}
"""
