"""What the site adds to its pages: commands' options, formulas, the source files they link to."""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

REPOSITORY = Path(__file__).parents[1]
MARKER = "<!-- commands -->"
LINK_UPWARDS = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")
SOURCE_PAGE = """---
search:
  exclude: true
---
# {path}

``````{language}
{text}
``````
"""


def on_config(config: Any) -> None:
    """Let blocks of the language "math" be formulas."""
    fence = {"name": "math", "class": "math", "format": _formula}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]


def _formula(source: str, *_: Any, **__: Any) -> str:
    """Return a formula in LaTeX as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    # the converter's name of what MathJax, on code hosts, calls "aligned"
    mathml = convert(source.replace("{aligned}", "{align*}"), display="block")
    return f'<div class="formula" tabindex="0">{mathml}</div>'


def on_files(files: Files, config: Any) -> None:
    """Add a page for each source file that a page links to."""
    pages = [(page.src_uri, page.content_string) for page in files.documentation_pages()]
    linked = {_source(link, uri) for uri, text in pages for link in LINK_UPWARDS.findall(text)}
    for path in sorted(linked - {None}):
        if path.endswith(".ipynb"):
            continue
        language = {".cpp": "cpp", ".h": "cpp"}.get(Path(path).suffix, Path(path).suffix[1:])
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        page = SOURCE_PAGE.format(path=path, language=language, text=text)
        inclusion = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, _page_of(path), content=page, inclusion=inclusion))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the marker by a section for each command, links to source files by their pages."""

    def to_page(link: re.Match[str]) -> str:
        path = _source(link[0], page.file.src_uri)
        if path is None:
            return link[0]
        return posixpath.relpath(_page_of(path), posixpath.dirname(page.file.src_uri))

    if MARKER in markdown:
        markdown = markdown.replace(MARKER, describe_commands())
    return LINK_UPWARDS.sub(to_page, markdown)


def _source(link: str, uri: str) -> str | None:
    """Return the path in the repository of a link that leaves docs/, None of any other link."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), link))
    return None if path.startswith("docs/") or not (REPOSITORY / path).is_file() else path


def _page_of(path: str) -> str:
    if path.endswith(".ipynb"):  # see notebook_pages.py
        return f"{path.removesuffix('.ipynb')}.md"
    return f"source/{path}.md"


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
