"""The description of a series: its columns, and what does not depend on when seasons begin."""

from __future__ import annotations

import numpy as np
import pytest
from timl.nn.strong.description import describe_series, description_columns, description_size

PLAIN = {"mean": np.zeros(18), "std": np.ones(18), "ndvi": "true"}
SERIES = np.random.default_rng(1).normal(size=(4, 12, 18)).astype(np.float32)


def test_seasons_do_not_depend_on_when_they_begin_but_for_changes() -> None:
    described, rolled = (describe_series(x, PLAIN) for x in (SERIES, np.roll(SERIES, 3, axis=1)))
    first = 12 * (18 + 8)
    for part in (slice(first, first + 6 * 8), slice(first + 7 * 8, first + 7 * 8 + 6 * 13)):
        np.testing.assert_allclose(described[:, part], rolled[:, part], atol=1e-6)


def test_every_number_is_of_the_band_and_month_that_its_column_says() -> None:
    columns = description_columns(12)
    before = describe_series(SERIES, PLAIN)
    assert before.shape == (4, description_size(12)) == (4, 459) == (4, len(columns.band))
    for band, month in ((2, 5), (0, 11), (16, 3)):
        x = SERIES.copy()
        x[:, month, band] += 3
        changed = (describe_series(x, PLAIN) != before).any(axis=0)
        series = (columns.band < 18) & (columns.month >= 0)
        np.testing.assert_array_equal(
            changed & series, (columns.band == band) & (columns.month == month)
        )
        assert set(columns.month[changed]) <= {month, -1}
        assert set(columns.band[changed & (columns.month < 0)]) <= {band, *range(18, 26)}


def test_other_bands_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 12, 17\]: give \[n, T, 18\]"):
        describe_series(SERIES[..., :17], PLAIN)
