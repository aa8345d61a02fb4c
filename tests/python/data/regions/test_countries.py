"""The boxes of countries: facts of the cropharvest package."""

from __future__ import annotations

import pytest
from timl.data import BBox, country_boxes
from timl.data.regions.countries import country_of


def test_kenya_is_one_box_named_as_its_second_polygon() -> None:
    # CropHarvest's id of the task is "Kenya_1_maize"; its island, polygon 0, is inside.
    (kenya,) = country_boxes("Kenya")
    assert kenya.name == "Kenya_1"
    assert kenya.contains(0.6, 34.3)
    assert kenya == BBox(-4.6923828125, 5.4922851562499915, 33.900000000000006, 41.88398437500001,
                         "Kenya_1")  # fmt: skip


def test_the_other_evaluation_tasks_regions_have_the_packages_names() -> None:
    assert [box.name for box in country_boxes("Togo")] == ["Togo"]
    assert country_boxes("Brazil")[0].name == "Brazil_0"
    china = country_boxes("People's Republic of China")[0]
    assert china.name == "People's Republic of China_11"
    assert china.contains(39.9, 116.4)


def test_france_has_several_boxes_of_which_none_holds_another() -> None:
    boxes = country_boxes("France")
    assert [box.name for box in boxes] == [f"France_{i}" for i in (0, 1, 3, 4, 5, 6, 7, 8, 9)]
    corsica, mainland = boxes[:2]
    assert corsica.contains(42.0, 9.0)
    assert mainland.contains(48.9, 2.3)
    assert not any(a.contains_bbox(b) for a in boxes for b in boxes if a is not b)


def test_all_countries_are_sorted_and_named_apart() -> None:
    boxes = country_boxes()
    names = [str(box.name) for box in boxes]
    assert len(names) == len(set(names)) == 835
    countries = list(dict.fromkeys(country_of(name) for name in names))
    assert len(countries) == 241
    assert None not in countries
    assert countries == sorted(str(country) for country in countries)
    assert country_boxes("Curaçao")[0].contains(12.2, -69.0)


def test_an_unknown_country_is_answered_with_similar_names() -> None:
    with pytest.raises(ValueError, match="'Kenja', which no country is called: give 'Kenya'"):
        country_boxes("Kenja")
    with pytest.raises(ValueError, match="People's Republic of China"):
        country_boxes("China")


def test_the_country_of_a_region_is_told_by_its_name() -> None:
    assert country_of("Brazil_12") == country_of("Brazil") == "Brazil"
    assert country_of("Canada-Atlantic") is country_of("zone_1") is country_of(None) is None
