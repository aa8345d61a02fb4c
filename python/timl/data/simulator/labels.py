"""The table of labels: a GeoJSON feature with CropHarvest's columns for each sample."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from timl.crop_classes import NON_CROP
from timl.data.simulator.climate import FIRST_MONTH
from timl.data.simulator.covers import COVERS
from timl.data.simulator.draws import Integers
from timl.data.simulator.places import Places
from timl.data.simulator.samples import Samples

_UNNAMED = "simulated-landcover"


def sample_keys(places: Places, samples: Samples) -> tuple[list[str], Integers]:
    """Return each sample's data set and its index there.

    One data set holds all samples without names, as in the record, and one per country the others.
    """
    source = np.where(samples.named, samples.place + 1, 0)
    order = np.argsort(source, kind="stable")
    counts = np.bincount(source)
    index = np.empty(len(samples), np.int64)
    index[order] = np.arange(len(samples)) - np.repeat(np.cumsum(counts) - counts, counts)
    names = [_UNNAMED, *(f"simulated-{str(box.name).casefold()}" for box in places.boxes)]
    return [names[number] for number in source], index


def geojson(
    places: Places, samples: Samples, datasets: list[str], indices: Integers
) -> Iterator[str]:
    """Return the lines of labels.geojson."""
    yield '{"type": "FeatureCollection", "crs": {"type": "name", "properties": '
    yield '{"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}, "features": [\n'
    last = len(samples) - 1
    for row in range(len(samples)):
        cover = COVERS[samples.cover[row]]
        named = bool(samples.named[row])
        year = int(places.year[samples.place[row]])
        lat, lon = float(samples.latitude[row]), float(samples.longitude[row])
        properties = {
            "index": int(indices[row]),
            "dataset": datasets[row],
            "is_crop": int(cover.classification_label != NON_CROP),
            "lat": lat,
            "lon": lon,
            "label": cover.label if named else None,
            "classification_label": cover.classification_label if named else None,
            "collection_date": f"{year}-08-01",
            "export_end_date": f"{year + 1}-{FIRST_MONTH:02}-01",
            "harvest_date": None,
            "planting_date": None,
            "is_test": bool(samples.evaluation[row] >= 0),
            "externally_contributed_dataset": False,
        }
        geometry = {"type": "Point", "coordinates": [lon, lat]}
        feature = {"type": "Feature", "properties": properties, "geometry": geometry}
        yield json.dumps(feature) + (",\n" if row < last else "\n")
    yield "]}\n"
