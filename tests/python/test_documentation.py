"""The code in the documentation runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENTS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["pytorch.md"])
def test_the_blocks_of_a_page_run_one_after_the_other(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCUMENTS / name).read_text(), re.DOTALL)
    assert blocks
    variables: dict[str, object] = {}
    for block in blocks:
        exec(block, variables)
