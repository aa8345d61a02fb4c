"""Draws depend on (seed, purpose, task, epoch, step) alone, and have the right distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timl.random import Purpose, distinct, normal, permutation, uniform

DRAWS = {
    "uniform": lambda **key: uniform((3, 5), **key),
    "normal": lambda **key: normal((3, 5), **key),
    "permutation": lambda **key: permutation(15, **key),
    "distinct": lambda **key: distinct([40, 50], 15, **key),
}
KEY = {"seed": 2**40 + 3, "task": 5, "epoch": 2, "step": 1, "purpose": Purpose.TASK_NOISE}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_every_part_of_the_key_matters(draw):
    first = draw(**KEY)
    np.testing.assert_array_equal(first, draw(**KEY))
    others = {
        "seed": 3,
        "task": 6,
        "epoch": 3,
        "step": 2,
        "purpose": Purpose.SAMPLING,
    }
    for name, value in others.items():
        assert not np.array_equal(first, draw(**{**KEY, name: value})), name


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_a_batch_is_its_single_draws(draw):
    tasks, steps = np.array([[4], [9]]), np.array([0, 1, 2])
    batch = draw(**{**KEY, "task": tasks, "step": steps})
    for i, task in enumerate((4, 9)):
        for j in range(3):
            np.testing.assert_array_equal(batch[i, j], draw(**{**KEY, "task": task, "step": j}))


def test_the_counter_is_group_task_epoch_purpose_and_step():
    from timl.reference import philox

    counters = np.array([[g, 5, 2, 3 + 256 * 1] for g in range(4)], dtype=np.uint32)
    words = philox((3, 2**8), counters).ravel()[:15]
    expected = (words >> np.uint32(8)) * 2.0**-24
    np.testing.assert_array_equal(uniform((15,), **KEY), expected.astype(np.float32))


def test_distributions():
    u = uniform((100_000,), seed=1, purpose=Purpose.SAMPLING)
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 4 * np.sqrt(1 / 12 / u.size)
    z = normal((100_001,), seed=1, purpose=Purpose.SAMPLING)
    assert z.dtype == np.float32 and z.shape == (100_001,)
    assert abs(z.mean()) < 4 / np.sqrt(z.size) and abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
    assert abs((z[:-1:2] * z[1::2]).mean()) < 4 / np.sqrt(z.size / 2)
    np.testing.assert_array_equal(
        np.sort(permutation(1000, seed=1, purpose=Purpose.TASK_ORDER)), np.arange(1000)
    )


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"task": -1}, {"epoch": 2**32}, {"step": 2**24}, {"purpose": 99}]
)
def test_out_of_range(wrong):
    with pytest.raises(ValueError, match=r"give (an integer|integers) in \[0, |99"):
        uniform((3,), **{**KEY, **wrong})


@given(
    sizes=st.lists(st.integers(5, 3000), min_size=1, max_size=4),
    count=st.integers(1, 5),
    seed=st.integers(0, 2**64 - 1),
)
def test_distinct_draws_are_distinct_and_in_range(sizes, count, seed):
    drawn = distinct(sizes, count, seed=seed, purpose=Purpose.SAMPLING)
    assert drawn.shape == (len(sizes), count)
    for size, row in zip(sizes, drawn, strict=True):
        assert len(set(row.tolist())) == count
        assert 0 <= row.min() <= row.max() < size


def test_distinct_draws_are_uniform_in_every_place():
    tasks = np.arange(6000)
    sizes = np.full((6000, 1), 6)
    drawn = distinct(sizes, 3, seed=2, task=tasks, purpose=Purpose.SAMPLING)[:, 0]
    orders, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(orders) == 6 * 5 * 4
    # 120 outcomes of 50 expected: chi-squared with 119 degrees of freedom, 99.99% below 182.
    assert ((counts - 50) ** 2 / 50).sum() < 182
    with pytest.raises(ValueError, match=r"sizes is from 3 to 3: .* draw 4 different"):
        distinct([3], 4, seed=0, purpose=Purpose.SAMPLING)
