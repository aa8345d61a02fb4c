"""Philox4x32-10, the counter-based random number generator, in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt32Array = npt.NDArray[np.uint32]

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


def _multiply(multiplier: np.uint64, word: UInt32Array) -> tuple[UInt32Array, UInt32Array]:
    """Return the high and low 32 bits of the 64-bit product."""
    product = multiplier * word.astype(np.uint64)
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def philox(key: tuple[int, int], counter: npt.ArrayLike) -> UInt32Array:
    """Draw four random words for each counter.

    Parameters
    ----------
    key
        Two words in [0, 2**32).
    counter : uint32 array of shape [..., 4]

    Returns
    -------
    uint32 array of shape [..., 4]
        The same for the same counter and key, always.

    Raises
    ------
    TypeError
        If the counter is not made of uint32.
    ValueError
        If the last dimension of the counter is not 4, or a word of the key is out of range.

    References
    ----------
    Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    words = np.asarray(counter)
    if words.dtype != np.uint32:
        raise TypeError(f"counter is {words.dtype} {list(words.shape)}: give uint32")
    if words.ndim == 0 or words.shape[-1] != 4:
        raise ValueError(f"counter is {list(words.shape)}: give [..., 4]")
    if len(key) != 2 or not all(0 <= word <= _WORD for word in key):
        raise ValueError(f"key is {key}: give two words in [0, 2**32)")

    c0, c1, c2, c3 = (words[..., i] for i in range(4))
    k0, k1 = (int(word) for word in key)
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + _KEY_INCREMENTS[0]) & _WORD, (k1 + _KEY_INCREMENTS[1]) & _WORD
    return np.stack([c0, c1, c2, c3], axis=-1)
