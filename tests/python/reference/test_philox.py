"""Philox4x32-10 against the known answers published with Random123 (kat_vectors)."""

import numpy as np
import pytest
from timl.reference import philox


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), "00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (
            (0xFFFFFFFF, 0xFFFFFFFF),
            "ffffffff ffffffff ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            (0xA4093822, 0x299F31D0),
            "243f6a88 85a308d3 13198a2e 03707344",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers(key, counter, words):
    as_words = lambda text: np.array([int(w, 16) for w in text.split()], dtype=np.uint32)  # noqa: E731
    np.testing.assert_array_equal(philox(key, as_words(counter)), as_words(words))
    several = np.stack([np.zeros(4, np.uint32), as_words(counter)])[None]  # [1, 2, 4]
    np.testing.assert_array_equal(philox(key, several)[0, 1], as_words(words))


@pytest.mark.parametrize("counter", [np.zeros((2, 3), np.uint32), np.uint32(1)])
def test_wrong_shape(counter):
    with pytest.raises(ValueError, match=r"\[\.\.\., 4\]"):
        philox((0, 0), counter)


def test_wrong_dtype_and_key():
    with pytest.raises(TypeError, match="int64"):
        philox((0, 0), np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="key"):
        philox((2**32, 0), np.zeros(4, np.uint32))
