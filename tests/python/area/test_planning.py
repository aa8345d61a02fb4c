"""Sizes and allocations of reference samples."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from timl.area import allocate, sample_size

# Olofsson et al. (2014), section 5.1: mapped pixels and expected user's accuracies
PIXELS = {"loss": 200_000, "gain": 150_000, "forest": 3_200_000, "other": 6_450_000}
EXPECTED = {"loss": 0.70, "gain": 0.60, "forest": 0.90, "other": 0.95}


def test_the_size_of_olofsson_et_al() -> None:
    assert sample_size(PIXELS, EXPECTED, 0.01) == 641
    # so many pixels hardly change it (Cochran's equation 5.25); few do
    assert sample_size(PIXELS, EXPECTED, 0.01, units=10_000_000) == 641
    assert sample_size(PIXELS, EXPECTED, 0.01, units=1_000) < 410


def test_proportional_and_equal_allocations_of_olofsson_et_al() -> None:
    # table 5, "Prop" and "Equal"
    assert list(allocate(641, PIXELS).values()) == [13, 10, 205, 413]
    assert sorted(allocate(641, PIXELS, allocation="equal").values()) == [160, 160, 160, 161]
    floored = allocate(641, PIXELS, least=75)
    assert floored["loss"] == floored["gain"] == 75 and sum(floored.values()) == 641


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), min_size=2, max_size=6),
    st.sampled_from(["proportional", "equal", "optimal"]),
    st.integers(2, 20),
    st.integers(0, 300),
)
def test_an_allocation_sums_to_the_size_and_keeps_the_floor(
    strata: list[tuple[float, float]], how: str, least: int, more: int
) -> None:
    sizes = {i: size for i, (size, _) in enumerate(strata)}
    proportions = {i: p for i, (_, p) in enumerate(strata)}
    size = least * len(strata) + more
    found = allocate(size, sizes, allocation=how, proportions=proportions, least=least)  # type: ignore[arg-type]
    assert sum(found.values()) == size and min(found.values()) >= least


@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.05, 0.95)), min_size=2, max_size=5))
@example([(0.841796875, 0.84), (0.25, 0.84)])  # exactly a whole number of units
def test_the_optimal_allocation_needs_the_fewest_units_and_the_size_keeps_its_promise(
    strata: list[tuple[float, float]],
) -> None:
    sizes = {i: size for i, (size, _) in enumerate(strata)}
    proportions = {i: p for i, (_, p) in enumerate(strata)}
    of = {
        how: sample_size(sizes, proportions, 0.02, allocation=how)
        for how in ("optimal", "proportional", "equal")
    }
    assert of["optimal"] == min(of.values())
    n, total = of["proportional"], sum(sizes.values())
    variance = sum(sizes[i] / total * proportions[i] * (1 - proportions[i]) / n for i in sizes)
    assert variance <= 0.02**2 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_size(PIXELS, EXPECTED, 0), "standard_error is 0"),
        (lambda: sample_size(PIXELS, {"loss": 0.5}, 0.01), "for each stratum"),
        (lambda: sample_size({"a": 1}, {"a": 1.0}, 0.01), "all certain"),
        (lambda: sample_size({"a": 0}, {"a": 0.5}, 0.01), "size above 0"),
        (lambda: allocate(5, PIXELS), "size is 5: give at least 8"),
        (lambda: allocate(50, PIXELS, least=1), "least is 1"),
        (lambda: allocate(50, PIXELS, allocation="optimal"), "proportions is None"),
        (lambda: allocate(50, PIXELS, allocation="neyman"), "allocation is 'neyman'"),
    ],
)
def test_wrong_plans_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
