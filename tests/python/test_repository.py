"""What stands in two files of the checkout agrees: versions, commands, links."""

from __future__ import annotations

import importlib
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
    assert Path(TESTED_TORCH).name in read("Makefile")
    others = ("Makefile", "pyproject.toml", "build_backend/timl_build.py", "README.md")
    workflows = [str(path) for path in (CHECKOUT / ".github/workflows").iterdir()]
    assert [name for name in (*others, *workflows) if "torch==" in read(name)] == []


def test_a_build_requires_the_pytorch_that_the_package_requires(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    backend = pytest.importorskip("scikit_build_core", reason="scikit-build-core is not installed")
    monkeypatch.syspath_prepend(str(CHECKOUT / "build_backend"))
    monkeypatch.delenv("TIML_TORCH_DIR", raising=False)
    module = importlib.import_module("timl_build")
    monkeypatch.setattr(module.sysconfig, "get_path", lambda scheme: str(tmp_path))
    wanted = re.findall(r'"(torch[^"]*)"', read("pyproject.toml"))
    required = module.get_requires_for_build_wheel()
    assert [text for text in required if text.startswith("torch")] == wanted, backend.__version__
    # one that is installed is taken; an older one is replaced by what the package requires
    header = tmp_path / "torch/include/torch/csrc/stable/library.h"
    header.parent.mkdir(parents=True)
    header.touch()
    for version, known in (("2.11.0", True), ("2.15.1+cpu", True), ("2.10.1", False)):
        (tmp_path / "torch/version.py").write_text(f"__version__ = '{version}'\n")
        required = module.get_requires_for_build_wheel()
        assert known != any(text.startswith("torch") for text in required), version


def test_the_workflow_and_the_hooks_are_read_and_run_what_contributors_run():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install 'timl[dev]'")
    workflow = yaml.safe_load(read(".github/workflows/test.yml"))
    (job,) = workflow["jobs"].values()
    assert {"run": "make test"} in job["steps"]
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', read("pyproject.toml"))
    assert job["strategy"]["matrix"]["python"] == supported
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
