"""Types of the compiled module."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BATCH_NORM_EPSILON: Final[float]
CHUNK_ROWS: Final[int]
HAS_CUDA: Final[bool]
LARGEST_SIZE: Final[int]

def philox_words(
    key0: int, key1: int, keys: NDArray[np.uint32], groups: int
) -> NDArray[np.uint32]: ...
def draw_distinct(limits: NDArray[np.int64], words: NDArray[np.uint32]) -> NDArray[np.int64]: ...
def normalised_series(
    series: NDArray[np.float32],
    positions: NDArray[np.integer],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
) -> NDArray[np.float32]: ...
def instruction_set() -> str | None: ...
def usable_instruction_sets() -> list[str]: ...
def buffer_row_float32(
    steps: int, bands: int, hidden: int, layers: int, outputs: int, cuda: bool
) -> tuple[int, int]: ...
def buffer_row_float64(
    steps: int, bands: int, hidden: int, layers: int, outputs: int, cuda: bool
) -> tuple[int, int]: ...
def film_lstm_buffer_row_float32(
    steps: int, bands: int, hidden: int, cuda: bool
) -> tuple[int, int]: ...
def film_lstm_buffer_row_float64(
    steps: int, bands: int, hidden: int, cuda: bool
) -> tuple[int, int]: ...
def mean_loss_float32(
    logits: NDArray[np.float32],
    labels: NDArray[np.float32],
    class_weights: NDArray[np.float32] | None = None,
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]: ...
def mean_loss_float64(
    logits: NDArray[np.float64],
    labels: NDArray[np.float64],
    class_weights: NDArray[np.float64] | None = None,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]: ...
