"""The notebooks on the site: a gallery of them, and each as a page with its stored outputs."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
INTRODUCTION = """# Notebooks

Each runs from top to bottom on a laptop, without a GPU and without a download; they are in the
folder [notebooks](../../notebooks/README.md). Their data are simulated: they show how things work
and say nothing about real crops.
"""
DESCRIBED = re.compile(r"^\| \[(\w+)\]\(\w+\.ipynb\) \| (.+) \|$", re.MULTILINE)


def on_files(files: Files, config: Any) -> None:
    """Add the gallery, in the order of the notebooks' own index, the pages and their pictures."""
    cards = []
    index = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    for name, sentence in DESCRIBED.findall(index):
        text, pictures = _page(name)
        files.append(File.generated(config, f"notebooks/{name}.md", content=text))
        for number, picture in enumerate(pictures):
            uri = f"notebooks/{name}-{number}.png"
            files.append(File.generated(config, uri, content=picture))
        title = text.partition("\n")[0].removeprefix("# ")
        # the last picture of a notebook shows what it leads to
        cards.append(
            f'<a href="{name}.html">'
            f'<img src="{name}-{len(pictures) - 1}.png" alt="" loading="lazy">'
            f"<strong>{html.escape(title)}</strong><span>{html.escape(sentence)}</span></a>"
        )
    gallery = f'{INTRODUCTION}\n<div class="gallery">{"".join(cards)}</div>\n'
    files.append(File.generated(config, "notebooks/index.md", content=gallery))


def _page(name: str) -> tuple[str, list[bytes]]:
    """Return a notebook as Markdown, and the pictures that it shows as `NAME-NUMBER.png`."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    parts: list[str] = []
    pictures: list[bytes] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_links(source))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![A figure that the code above draws]({name}-{len(pictures)}.png)")
                pictures.append(base64.b64decode("".join(data["image/png"])))
            elif "text/html" in data:
                parts.append(_table("".join(data["text/html"])))
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def _links(text: str) -> str:
    """Let links of a notebook be those of its page."""
    text = re.sub(r"\]\((\w+)\.ipynb", r"](\1.md", text)
    return text.replace("](../docs/", "](../").replace("](../../", "](../../../")


def _table(text: str) -> str:
    """Return a data frame's HTML without its own style, on one line: to Markdown it is a block."""
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<table[^>]*>", "<table>", text).replace('style="text-align: right;"', "")
    return " ".join(text.split())
