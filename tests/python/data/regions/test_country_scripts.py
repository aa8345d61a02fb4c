"""The scripts of tools/ make the files on countries that the package ships."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from timl.data.regions.coastline import coastline

TOOLS = Path(__file__).parents[4] / "tools"


@pytest.mark.parametrize(
    ("script", "table"),
    [
        ("country_boxes.py", "countries.json"),
        ("country_grid.py", "country_grid.json"),
        ("coastline.py", "coastline.json"),
    ],
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


def test_the_coast_passes_the_capes_and_stays_away_from_inland_places() -> None:
    points = np.concatenate(coastline())
    lon, lat = points.T
    assert np.abs(lon).max() <= 180 and np.abs(lat).max() <= 90

    def away(north: float, east: float) -> float:
        return float(np.hypot(lat - north, (lon - east) * np.cos(np.deg2rad(north))).min())

    # Agulhas, York, Barrow, Gallinas, Tarifa, the Caspian Sea at Baku
    capes = [(-34.83, 20), (-10.69, 142.53), (71.39, -156.48), (12.46, -71.67), (36, -5.61)]
    assert max(away(*cape) for cape in [*capes, (40.35, 50)]) < 0.3
    # Kansas, Chad, Brasilia, Alice Springs, Mongolia
    inland = [(38, -98), (15, 19), (-15.8, -47.9), (-23.7, 133.9), (46, 104)]
    assert min(away(*place) for place in inland) > 5
