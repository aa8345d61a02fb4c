"""Kill commands at random moments, give them again, and compare with a run that was left alone.

    python tests/kill_and_rerun.py --kills 200 --seed 0

Each command works on a small simulated world, in a folder of its own. It is killed with SIGKILL
once or a few times, then given again until it ends. After that the folder must hold the files of a
run that was never killed, with the same bits, and no process of any run may be left. Files that
tell the time differ between any two runs: their texts are compared without the numbers.

One line for each command says how often it was killed while it ran, how many reruns ended with the
same bits, and what was left. The exit code is 1 where something differs or is left. POSIX only.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

COMMANDS = {
    "simulate": "simulate --out out --countries 4 --samples 800 --seed 1 --quiet",
    "simulate again": "simulate --out out --countries 4 --samples 800 --seed 1 --quiet",
    "pack": "pack --data out",
    "train": "train --data {data} --out out --epochs 3 --kernel-steps 5 --quiet",
    "finetune": "finetune --data {data} --benchmark {task} --model {model} --out out",
    "table1": "table1 --data {data} --out out --rows logistic-regression,timl --epochs 2 --runs 2 "
    "--steps 5 --workers 1 --quiet",
    "benchmark": "benchmark --data {data} --out out --rows logistic-regression,random-forest "
    "--folds 2 --workers 2 --quiet",
    "map": "map --model {model} --exports {export} --points {points} --out out --members 2 "
    "--any-month --workers 2 --quiet",
}
"""Words of each command; out is in the folder that it runs in."""

STARTS = {"simulate again": "other world", "pack": "unpacked world"}
"""What lies in out before some commands."""

MOST_SECONDS = 600.0
"""Longest that a command may take."""
PATIENCE = 30.0
"""Seconds after which every process of a killed run must have ended."""


@dataclass
class Tally:
    """What became of a command's runs."""

    kills: int = 0
    missed: int = 0
    reruns: int = 0
    same: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Reference:
    """What undisturbed runs leave, and when they do what."""

    bits: dict[str, str]
    """SHA-256 of each file that two runs write alike, by path."""
    texts: dict[str, str]
    """SHA-256 of the lines without numbers, sorted, of each other file; empty where they differ."""
    first: float
    """Seconds until something in the folder changes."""
    seconds: float
    """Seconds until the end."""


class Runs:
    """Folder in which commands run, as forks of this process, which has imported all packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words: dict[str, list[str]] = {}
        self.sessions: list[int] = []
        self.number = 0

    def prepare(self, commands: list[str]) -> None:
        """Make the worlds, scene and model that the commands take."""
        world, scene, model = (self.folder / name for name in ("world", "scene", "model"))
        words = [word for command in commands for word in COMMANDS[command].split()]
        made = f"simulate --out {world} --countries 4 --samples 800 --quiet"
        if "{export}" in words:
            made += f" --scene {scene} --size 128 --points 40"
        self.done(made)
        shutil.copytree(world, self.folder / STARTS["simulate again"])
        unpacked = shutil.ignore_patterns(".timl")
        shutil.copytree(world, self.folder / STARTS["pack"], ignore=unpacked)
        names: dict[str, object] = {"data": world, "model": model, "points": scene / "points.csv"}
        if "{model}" in words:
            self.done(f"train --data {world} --out {model} --epochs 2 --kernel-steps 5 --quiet")
        if "{task}" in words:
            import timl

            names["task"] = timl.CropHarvest(world).benchmarks[0].name
        if "{export}" in words:
            exports = (path for path in scene.rglob("*.tif") if path.name != "truth.tif")
            names["export"] = next(exports)
        self.words = {
            command: [word.format(**names) for word in COMMANDS[command].split()]
            for command in commands
        }

    def done(self, text: str) -> None:
        """Run a command to its end."""
        place = self.place()
        if self.wait(self.start(text.split(), place)) != 0:
            raise RuntimeError(f"timl {text}: {(place / 'log').read_text()}")

    def place(self, command: str = "") -> Path:
        """Return a new folder for a command to run in."""
        self.number += 1
        place = self.folder / "runs" / str(self.number)
        (place / "temporary").mkdir(parents=True)
        if command in STARTS:
            shutil.copytree(self.folder / STARTS[command], place / "out")
        return place

    def start(self, words: list[str], place: Path) -> int:
        """Start a command in a folder, as a session of its own; return its process."""
        child = os.fork()
        if child:
            self.sessions.append(child)
            return child
        code = 1
        try:
            os.setsid()
            os.chdir(place)
            log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ["TMPDIR"] = str(place / "temporary")
            tempfile.tempdir = None
            from timl.cli import app

            app(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)

    def wait(self, process: int, seconds: float = MOST_SECONDS) -> int | None:
        """Return a process's exit code, None where it has not ended in time."""
        end = time.monotonic() + seconds
        while True:
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= end:
                return None
            time.sleep(0.002)

    def living(self) -> list[int]:
        """Return the processes of all runs that are alive."""
        if Path("/proc").is_dir():
            numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        else:
            listed = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, check=True)
            numbers = [int(word) for word in listed.stdout.split()]
        return [number for number in numbers if self._lives(number)]

    def _lives(self, number: int) -> bool:
        try:
            if os.getsid(number) not in self.sessions:
                return False
            status = Path(f"/proc/{number}/stat")
            # the state comes after the name, which is in brackets
            return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
        except (OSError, IndexError):
            return False


def contents(place: Path) -> dict[str, bytes]:
    """Return the files of a folder that a command ran in but its log, by path; folders end in /."""
    found: dict[str, bytes] = {}
    for path in place.rglob("*"):
        # a store is called by the times of the files that it was packed of
        name = re.sub(r"store-[0-9a-f]{16}", "store-of-times", path.relative_to(place).as_posix())
        if path.is_dir():
            found[f"{name}/"] = b""
        elif name != "log":
            found[name] = path.read_bytes()
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def text_of(data: bytes) -> str:
    """Return a checksum of a text's lines without their numbers, and without units of time."""
    plain = re.sub(rb"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", b"0", data)
    plain = re.sub(rb"0 h 0 min|0 min 0 s", b"0 s", plain)  # the same work on a busier machine
    return digest(b"\n".join(sorted(plain.split(b"\n"))))


def pixels_of(path: Path) -> str:
    """Return a checksum of a GeoTIFF's bands, whose tags tell the time."""
    import rasterio

    with rasterio.open(path) as file:
        return digest(file.read().tobytes() + repr((file.transform, file.crs)).encode())


def refer(runs: Runs, command: str) -> Reference:
    """Run a command twice undisturbed."""
    seen: list[dict[str, bytes]] = []
    first = seconds = 0.0
    places = []
    for _ in range(2):
        place = runs.place(command)
        before = set(contents(place))
        start, first = time.monotonic(), 0.0
        process = runs.start(runs.words[command], place)
        code = None
        while code is None:
            code = runs.wait(process, 0.0)
            if not first and {f"{p.relative_to(place)}" for p in place.rglob("*")} - {
                "log", *(name.rstrip("/") for name in before)
            }:  # fmt: skip
                first = time.monotonic() - start
            time.sleep(0.005)
        seconds = time.monotonic() - start
        if code:
            raise RuntimeError(f"timl {command}: exit code {code}: {(place / 'log').read_text()}")
        seen.append(contents(place))
        places.append(place)
    one, two = seen
    bits = {name: digest(data) for name, data in one.items() if two.get(name) == data}
    texts = {}
    for name in one.keys() & two.keys() - bits.keys():
        if name.endswith(".tif"):
            found = [pixels_of(place / name) for place in places]
        else:
            found = [text_of(content[name]) for content in seen]
        texts[name] = found[0] if found[0] == found[1] else ""
    return Reference(bits, texts, first, seconds)


def kill_and_rerun(runs: Runs, command: str, reference: Reference, wanted: int, seed: str) -> Tally:
    """Kill a command so often while it runs, and give it again each time."""
    tally, chosen = Tally(), random.Random(seed)
    while tally.kills < wanted and not len(tally.faults) > 5:
        place = runs.place(command)
        for _ in range(chosen.choice([1, 1, 2, 3])):
            process = runs.start(runs.words[command], place)
            code = runs.wait(process, chosen.uniform(0.8 * reference.first, reference.seconds))
            if code is None:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                tally.kills += 1
            else:
                tally.missed += 1
                if code:
                    tally.faults.append(f"exit code {code} in {place}, see its log")
        code = runs.wait(runs.start(runs.words[command], place))
        tally.reruns += 1
        wrong = [] if code == 0 else [f"exit code {code}"]
        wrong += differences(place, reference)
        end = time.monotonic() + PATIENCE
        while (living := runs.living()) and time.monotonic() < end:
            time.sleep(0.1)
        for number in living:
            wrong.append(f"process {number} is left")
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        runs.sessions.clear()
        if wrong:
            tally.faults += [f"{place}: {fault}" for fault in wrong]
        else:
            tally.same += 1
            shutil.rmtree(place)
    return tally


def differences(place: Path, reference: Reference) -> list[str]:
    """Return how a folder differs from what undisturbed runs leave."""
    found = contents(place)
    expected = reference.bits.keys() | reference.texts.keys()
    wrong = [f"{name} is missing" for name in sorted(expected - found.keys())]
    wrong += [f"{name} is left" for name in sorted(found.keys() - expected)]
    for name, data in found.items():
        if name in reference.bits and digest(data) != reference.bits[name]:
            wrong.append(f"{name} has other bits")
        text = reference.texts.get(name)
        if text:
            same = pixels_of(place / name) if name.endswith(".tif") else text_of(data)
            if same != text:
                wrong.append(f"{name} has another text")
    return wrong


def import_all() -> None:
    """Import what the commands need, so that forks of this process start at once."""
    import matplotlib
    import rasterio  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    import timl.cli
    import torch

    matplotlib.use("Agg")
    torch.set_num_threads(1)
    for name in ("CropHarvest", "meta_train", "table1", "few_shot_benchmark", "map_points"):
        getattr(timl, name)


def main(arguments: list[str] | None = None) -> int:
    """Kill all commands; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kills while a command runs, in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument(
        "--commands", default=",".join(COMMANDS), help="names of commands with commas between them"
    )
    parser.add_argument("--folder", type=Path, help="folder to work in; by default a temporary one")
    given = parser.parse_args(arguments)
    commands = given.commands.split(",")
    unknown = [name for name in commands if name not in COMMANDS]
    if unknown:
        parser.error(f"no command {', '.join(unknown)}: give some of {', '.join(COMMANDS)}")
    import_all()
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=given.folder)).resolve()
    runs = Runs(folder)
    runs.prepare(commands)
    kills = faults = 0
    for number, command in enumerate(commands):
        wanted = given.kills * (number + 1) // len(commands) - given.kills * number // len(commands)
        reference = refer(runs, command)
        tally = kill_and_rerun(runs, command, reference, wanted, f"{given.seed} {command}")
        kills += tally.kills
        faults += len(tally.faults)
        alike = sum(bool(text) for text in reference.texts.values())
        print(
            f"{command:14}  {tally.kills} kills while it ran ({tally.missed} came too late), "
            f"{tally.reruns} reruns, {tally.same} as if never killed: "
            f"{sum(not name.endswith('/') for name in reference.bits)} files by bits, {alike} but "
            f"for their numbers or tags; {len(tally.faults)} differences and leftovers",
            flush=True,
        )
        for fault in tally.faults:
            print(f"    {fault}", flush=True)
    print(f"{kills} kills, {faults} differences and leftovers")
    if not faults:
        shutil.rmtree(folder)
    return int(faults > 0)


if __name__ == "__main__":
    raise SystemExit(main())
