"""A cube of xarray, in memory, in chunks or on a cluster, makes the map of the same export."""

from __future__ import annotations

from pathlib import Path

import exports
import joblib
import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray  # noqa: F401  (it adds .rio)
import xarray as xr
from timl.data.own.exports import DYNAMIC_BANDS, STATIC_BANDS
from timl.maps import predict_map

pytestmark = pytest.mark.usefixtures("empty_pictures")


@pytest.fixture
def cube(export: Path) -> xr.DataArray:
    """Cube of the export's values, with dates that start in February."""
    with rasterio.open(export) as file:
        raw, crs = file.read(), file.crs
    values = np.empty((12, 19, 30, 40))
    values[:, :17] = raw[:-2].reshape(12, 17, 30, 40)
    values[:, 17:] = raw[-2:]
    lats = [exports.centre(row, 0)[0] for row in range(30)]
    lons = [exports.centre(0, column)[1] for column in range(40)]
    return xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2019-02-06", periods=12, freq="30D"),
            "band": [*DYNAMIC_BANDS, *STATIC_BANDS],
            "y": lats,
            "x": lons,
        },
    ).rio.write_crs(crs)


def test_a_cube_makes_the_map_of_its_export(classifier, export, cube, tmp_path):
    made = predict_map(classifier, export, tmp_path / "a.tif", progress=False)
    with rasterio.open(made.map) as file:
        expected = file.read()
    store = tmp_path / "cube.zarr"
    cube.chunk(time=1, y=16, x=16).to_dataset(name="bands").to_zarr(store)
    sources = {
        "memory": cube,
        "another order": cube.transpose("y", "x", "band", "time").isel(
            band=slice(None, None, -1), y=slice(None, None, -1)
        ),
        "chunks": cube.chunk(y=16, x=16),
        "variables": cube.to_dataset("band"),
        "zarr": store,
        "file": export,
    }
    for name, source in sources.items():
        lazy = predict_map(classifier, source)
        assert all(variable.chunks is not None for variable in lazy.data_vars.values())
        np.testing.assert_array_equal(lazy["probability"].to_numpy(), expected[0], err_msg=name)
        np.testing.assert_array_equal(lazy["class"].to_numpy(), expected[1], err_msg=name)
        assert lazy.rio.crs == cube.rio.crs
        np.testing.assert_allclose(lazy["x"], cube["x"], atol=1e-9)
    made = predict_map(classifier, sources["chunks"], tmp_path / "b.tif", progress=False)
    with rasterio.open(made.map) as file:
        np.testing.assert_array_equal(file.read(), expected)
        np.testing.assert_allclose(file.bounds, (34.0, 0.997, 34.004, 1.0), atol=1e-9)


@pytest.mark.usefixtures("dask_client")
def test_a_cluster_of_two_processes_gives_the_same_bits(classifier, export, cube, tmp_path):
    lazy = predict_map(classifier, export)["probability"]
    expected = lazy.compute(scheduler="threads").to_numpy()
    for source in (export, cube.chunk(y=16, x=16).persist()):
        lazy = predict_map(classifier, source)
        np.testing.assert_array_equal(lazy["probability"].to_numpy(), expected)
    with joblib.parallel_config(backend="dask"):
        made = predict_map(classifier, export, tmp_path / "m.tif", progress=False)
    with rasterio.open(made.map) as file:
        np.testing.assert_array_equal(file.read(1), expected)


def test_cubes_that_cannot_be_understood_are_refused(classifier, cube):
    months = cube["time"].to_numpy().copy()
    months[3] += np.timedelta64(40, "D")
    uneven = cube["x"].to_numpy().copy()
    uneven[5] += 0.00004
    cases = [
        (cube.isel(time=0), "of dimensions"),
        (cube.drop_vars("band"), "no coordinate 'band'"),
        (cube.sel(band=[*DYNAMIC_BANDS]), "give each of elevation, slope once"),
        (cube.drop_vars("spatial_ref"), "no reference system"),
        (cube.isel(time=slice(0, 11)), "give at least 12"),
        (cube.assign_coords(time=months), "monthly"),
        (cube.assign_coords(time=range(12)), "times of type int64"),
        (cube.assign_coords(x=uneven), "uneven coordinates x"),
        (cube.drop_vars("y"), "no coordinate 'y'"),
    ]
    for source, message in cases:
        with pytest.raises(ValueError, match=message):
            predict_map(classifier, source)
