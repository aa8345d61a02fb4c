"""The scripts of tools/ make the files on countries that the package ships."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[4] / "tools"


@pytest.mark.parametrize(
    ("script", "table"),
    [("country_boxes.py", "countries.json"), ("country_grid.py", "country_grid.json")],
)
def test_a_script_makes_the_shipped_table(
    script: str, table: str, shared_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("geopandas")
    pytest.importorskip("rasterio")
    shapes = shared_data / "natural_earth" / "ne_50m_admin_0_countries.shp"
    if not shapes.is_file():
        pytest.skip(f"no {shapes}")
    subprocess.run([sys.executable, TOOLS / script, shapes, tmp_path / table], check=True)
    made = (tmp_path / table).read_bytes()
    assert made == (resources.files("timl.data.regions") / table).read_bytes()
    assert len(made) < 200_000
