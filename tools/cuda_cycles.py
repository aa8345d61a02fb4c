"""Count the cycles of a meta-step on paper, from the machine code of the CUDA engine.

nvcc -std=c++20 -arch=sm_90 -Icpp/include -cubin -o engine.cubin cpp/src/cuda/engine.cu
cuobjdump -sass engine.cubin > engine.sass
python tools/cuda_cycles.py engine.sass

A model, not a measurement, of the paper's sizes (32 tasks, one inner step, second order): it
multiplies the instructions of the loops that the compiler made by how often they run on one of the
multiprocessors, all of which do the same, and adds barriers, launches and the traffic of weights at
assumed prices. It knows no latency of memory but that of the barriers.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from math import ceil
from pathlib import Path

THREADS, SCHEDULERS, ROWS, COLUMNS = 256, 4, 10, 4  # of a block, a multiprocessor, a tile
MEGAHERTZ, MULTIPLY_ADDS = 1850, 128  # of a multiprocessor in a cycle
STEPS, BANDS, UNITS, BLOCKS = 12, 18, 128, 4
BARRIER = 800  # cycles of a cluster's barrier with its fence, assumed
LAUNCH, LAUNCHES = 2.0, 3  # microseconds of a kernel in a graph, assumed
L2_RATE = 4e6  # bytes in a microsecond, assumed
# Passes over a task's weights outside of products: descend (2 read, 2 written), direction (1, 2),
# step sizes (2), v minus the product (2, 1), means over tasks (1).
WEIGHT_BYTES = 32 * 91_777 * 4 * 13


@dataclass
class Loop:
    """A loop of a kernel: its first and last instruction, and how often it has each."""

    first: int
    last: int
    ops: Counter[str]

    @property
    def size(self) -> int:
        """The number of its instructions."""
        return self.last - self.first + 1


def loops_of(listing: str) -> dict[str, list[Loop]]:
    """Return the loops of each float32 kernel of a disassembly, in their order."""
    found = {}
    for part in listing.split("\t\tFunction : ")[1:]:
        name = re.match(r"\S*?\d([a-z_]+)_kernelIf", part)
        if name is None:
            continue
        code = re.findall(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ +)?(.*?) ?;", part, re.M)
        place = {int(address, 16): i for i, (address, _) in enumerate(code)}
        loops = []
        for i, (address, text) in enumerate(code):
            target = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
            if target and int(target[1], 16) <= int(address, 16):
                first = place[int(target[1], 16)]
                ops = Counter(
                    re.sub(r"\.(E|SYS|U)\b", "", t.split()[0]) for _, t in code[first : i + 1]
                )
                loops.append(Loop(first, i, ops))
        found[name[1]] = sorted(loops, key=lambda loop: loop.first)
    return found


@dataclass
class Product:
    """One product of a block: sizes, depths of its terms, and how it loads them."""

    rows: int
    columns: int
    depths: list[int]
    kind: str = "rows"  # or "transposed", or "one by one": rows of B that are not aligned

    def loop(self, loops: list[Loop]) -> tuple[Loop, int]:
        """Return its loop among a kernel's, and how often it runs for four of the depth."""
        if self.kind == "one by one":
            return next(loop for loop in loops if loop.ops["FFMA"] == ROWS * COLUMNS), 4
        whole = [loop for loop in loops if loop.ops["FFMA"] == 4 * ROWS * COLUMNS]
        if self.kind == "transposed":
            return next(loop for loop in whole if loop.ops["LD.64"] + loop.ops["LDG.64"]), 1
        whole = [loop for loop in whole if not loop.ops["LD.64"] + loop.ops["LDG.64"]]
        return next((loop for loop in whole if loop.ops["LDS.128"]), whole[0]), 1

    def cycles(self, loops: list[Loop]) -> tuple[float, float]:
        """Return the cycles of its loop and of its sums' way through shared memory."""
        loop, times = self.loop(loops)
        row_tiles = ceil(self.rows / ROWS)
        tiles = row_tiles * ceil(self.columns / COLUMNS)
        at_once = min(tiles, THREADS)
        parts, rounds = THREADS // at_once, ceil(tiles / at_once)
        fours = sum(ceil(ceil(depth / 4) / parts) for depth in self.depths)
        warps = ceil(at_once * parts / 32)
        issue = fours * rounds * times * loop.size * warps / SCHEDULERS
        # Wavefronts of a warp for four of the depth: B by 16 bytes a lane, half of them where
        # neighbours share columns; A the same for all lanes, which takes two of four.
        of_b = 4 * (2 if row_tiles % 2 == 0 else 4)
        of_a = {"rows": 2 * ROWS, "transposed": 2 * ROWS, "one by one": 4 * ROWS}[self.kind]
        wavefronts = fours * rounds * warps * (of_b + of_a)
        sums = 2 * rounds * at_once * parts * ROWS * COLUMNS / 32
        return max(issue, wavefronts), sums


@dataclass
class Part:
    """A part of the meta-step: its products at each of its steps, and what each step finishes."""

    kernel: str
    steps: int
    products: list[Product]
    finished: int = 0  # elements of a step, by the kernel's loops that write to memory
    barriers: int = 0  # of the cluster, at a step


def parts_of(rows: int, tangent: bool) -> list[Part]:
    """Return the parts for a batch of so many rows: a pass and its gradient, or their tangents."""
    units, gates, all_rows = UNITS // BLOCKS, 4 * UNITS // BLOCKS, STEPS * rows
    terms, elements, name = 2 if tangent else 1, rows * units, "_tangent" if tangent else ""
    forward = [UNITS + BANDS, UNITS] if tangent else [UNITS + BANDS]
    hidden = Product(rows, units, [UNITS] * terms)
    dense = Product(units, UNITS, [rows] * terms, "transposed")
    weights = [
        Product(gates, UNITS, [all_rows - rows] * terms, "transposed"),
        Product(gates, BANDS + 1, [all_rows], "transposed"),
        Product(all_rows // BLOCKS, BANDS, [4 * UNITS] * terms, "one by one"),
    ]
    return [
        Part(f"lstm{name}_forward", STEPS, [Product(rows, gates, forward)], elements, 1),
        Part(f"head{name}_forward", 1, [hidden], barriers=5),
        Part(f"head{name}_backward", 1, [dense, hidden], barriers=5),
        Part(f"lstm{name}_backward", STEPS, [Product(rows, UNITS, [gates] * terms)], elements, 1),
        Part(f"lstm_weight_{'tangents' if tangent else 'gradients'}", 1, weights, barriers=2),
    ]


def finishing(kernel: str, loops: list[Loop]) -> int:
    """Return the instructions that finish an element of a step, rare ways through them included."""
    product = next(loop for loop in loops if loop.ops["FFMA"] == 160 and loop.ops["LDS.128"])
    stores = [
        loop.size
        for loop in loops
        if loop.first > product.last and any(op.startswith("ST") for op in loop.ops)
    ]
    return sum(stores[: 2 if "backward" in kernel else 1])  # backward sends sums, then finishes


def main(listing: str) -> None:
    """Print the table."""
    kernels, total = loops_of(listing), 0.0
    print("| part | rows | FMA | loops | sums | finish | barriers | µs |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for rows, tangent in ((20, False), (8, False), (20, True)):
        for part in parts_of(rows, tangent):
            loops = kernels[part.kernel]
            cycles = [0.0] * 5
            for product in part.products:
                cycles[0] += product.rows * product.columns * sum(product.depths) / MULTIPLY_ADDS
                loop, sums = product.cycles(loops)
                cycles[1], cycles[2] = cycles[1] + loop, cycles[2] + sums
            if part.finished:
                cycles[3] = finishing(part.kernel, loops) * ceil(part.finished / 32) / SCHEDULERS
            cycles[4] = part.barriers * BARRIER
            cycles = [part.steps * c for c in cycles]
            microseconds = sum(cycles[1:]) / MEGAHERTZ
            total += microseconds
            shown = " | ".join(f"{c:,.0f}" for c in cycles)
            print(f"| {part.kernel.replace('_', ' ')} | {rows} | {shown} | {microseconds:.0f} |")
    weights, launches = WEIGHT_BYTES / L2_RATE, LAUNCHES * LAUNCH
    print(f"| passes over the weights | | | | | | | {weights:.0f} |")
    print(f"| {LAUNCHES} launches | | | | | | | {launches:.0f} |")
    print(f"| all | | | | | | | {total + weights + launches:.0f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text(encoding="utf-8"))
