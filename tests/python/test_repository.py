"""What stands in two files of the checkout agrees: versions, commands, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timl

CHECKOUT = Path(__file__).parents[2]
PAGES = [
    str(path.relative_to(CHECKOUT))
    for pages in ("*.md", "benchmarks/*.md", "notebooks/*.*", "docs/**/*.md")
    for path in sorted(CHECKOUT.glob(pages))
]
TESTED_TORCH = "build_backend/tested-torch.txt"


def read(name: str) -> str:
    """Return the text of a file of the checkout."""
    return (CHECKOUT / name).read_text(encoding="utf-8")


def test_the_citation_is_of_this_version():
    assert re.findall(r"^version: (.+)$", read("CITATION.cff"), re.MULTILINE) == [timl.__version__]


def test_the_changelog_begins_with_this_version():
    latest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert latest and latest[1] == timl.__version__


def test_one_file_names_the_pytorch_that_is_tested():
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+\n", read(TESTED_TORCH))
    for name in ("Makefile", "build_backend/timl_build.py"):
        assert Path(TESTED_TORCH).name in read(name)
    others = ("Makefile", "pyproject.toml", "build_backend/timl_build.py", "README.md")
    workflows = [str(path) for path in (CHECKOUT / ".github/workflows").iterdir()]
    assert [name for name in (*others, *workflows) if "torch==" in read(name)] == []


def test_the_workflow_and_the_hooks_are_read_and_run_what_contributors_run():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install 'timl[dev]'")
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": "make test"}
    (hooks,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert {hook["language"] for hook in hooks["hooks"]} == {"system"}
    for path in (CHECKOUT / ".github/ISSUE_TEMPLATE").iterdir():
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form), path.name


@pytest.mark.parametrize("name", PAGES)
def test_the_links_of_a_page_lead_somewhere(name: str):
    folder = (CHECKOUT / name).parent
    text = re.sub(r"^```.*?^```", "", read(name), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        path = folder / target if target else CHECKOUT / name
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
