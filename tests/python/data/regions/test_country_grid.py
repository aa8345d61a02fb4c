"""The country of a place."""

from __future__ import annotations

import numpy as np
import pytest
from timl.data import country_boxes
from timl.data.regions.countries import country_of
from timl.data.regions.country_grid import countries_at

PLACES = {
    "Kenya": (0.6, 34.3),
    "Uzbekistan": (40.5, 71.3),
    "Canada": (42.9, -81.5),  # north of Lake Erie, in the box of the United States too
    "United States of America": (34.5, -91.0),
    "France": (42.2, 9.1),  # Corsica
    "Belgium": (50.7, 4.4),
    "Togo": (8.6, 1.0),
    "People's Republic of China": (39.9, 116.4),
}


def test_places_are_in_their_countries_not_in_whose_box_they_lie() -> None:
    lat, lon = np.array(list(PLACES.values())).T
    assert countries_at(lat, lon).tolist() == list(PLACES)


def test_the_sea_is_no_countrys_and_a_coast_is_the_nearest_lands() -> None:
    found = countries_at(np.array([0.0, 41.36, -90.0]), np.array([-30.0, 9.21, 180.0]))
    assert found.tolist() == [None, "France", "Antarctica"]


def test_the_names_are_those_of_the_boxes() -> None:
    known = {country_of(box.name) for box in country_boxes()}
    lat, lon = (
        grid.ravel()
        for grid in np.meshgrid(np.arange(-89.9, 90, 0.25), np.arange(-179.9, 180, 0.25))
    )
    found = set(countries_at(lat, lon)) - {None}
    assert found <= known and len(found) > 200


@pytest.mark.parametrize("place", [(91.0, 0.0), (0.0, -181.0), (np.nan, 0.0)])
def test_impossible_places_are_refused(place: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="place 0 of 1"):
        countries_at(*(np.array([value]) for value in place))
