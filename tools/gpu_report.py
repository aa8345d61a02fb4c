"""Run every test and the benchmark on this machine's GPU, and write one report.

python tools/gpu_report.py --tests build/gpu/tests/cpp/timl_device_tests --out results/gpu

`make gpu` builds what it runs. A step that fails does not keep the others from running; the exit
status says whether one did.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SANITIZER = "compute-sanitizer"
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")


@dataclass(frozen=True)
class Step:
    """What came of one command."""

    name: str
    command: Sequence[str]
    seconds: float
    status: int
    output: str

    @property
    def last_line(self) -> str:
        """The last line that the command printed."""
        return (self.output.strip().splitlines() or ["nothing"])[-1].replace("|", "/")


def run(name: str, command: Sequence[str], out: Path) -> Step:
    """Run a command and keep what it prints in a file of the step's name."""
    print(f"{name} ...", flush=True)
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    seconds = time.perf_counter() - start
    (out / f"{name.replace(' ', '-')}.log").write_text(done.stdout, encoding="utf-8")
    step = Step(name, command, seconds, done.returncode, done.stdout)
    print(f"  {'passed' if step.status == 0 else 'FAILED'}: {step.last_line}", flush=True)
    return step


def commands(tests: Path) -> dict[str, list[str]]:
    """Return the steps' commands by their names."""
    python, on_device = sys.executable, [str(tests), "[cuda]"]
    found = {"C++ tests": on_device}
    if shutil.which(SANITIZER):
        for tool in SANITIZERS:
            options = ["--tool", tool, "--error-exitcode", "1"]
            found[f"{SANITIZER} {tool}"] = [SANITIZER, *options, *on_device]
    found["Python tests"] = [python, "-m", "pytest", "-q"]
    found["benchmark"] = [python, "benchmarks/gpu.py"]
    return found


def report(steps: Sequence[Step], facts: Mapping[str, str]) -> str:
    """Return the report as Markdown."""
    lines = ["# timl on this machine's GPU", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += ["", "| step | result | seconds | last line |", "|---|---|---:|---|"]
    for step in steps:
        result = "passed" if step.status == 0 else f"failed ({step.status})"
        lines.append(f"| {step.name} | {result} | {step.seconds:.0f} | {step.last_line} |")
    if not any(step.name.startswith(SANITIZER) for step in steps):
        lines += ["", f"{SANITIZER} is not installed: no sanitizer was run."]
    for step in steps:
        if step.name == "benchmark":
            lines += ["", "## Benchmark", "", step.output.strip()]
    return "\n".join(lines) + "\n"


def facts_of_machine() -> dict[str, str]:
    """Return what the report's figures depend on."""
    import timl._core
    import torch

    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=True)
    return {
        "GPU, driver, memory": found.stdout.strip(),
        "PyTorch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "Python": platform.python_version(),
        "timl has the CUDA engine": str(timl._core.HAS_CUDA),
    }


def main() -> int:
    """Run all steps and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tests", type=Path, required=True, help="the C++ tests for the GPU")
    parser.add_argument("--out", type=Path, required=True, help="folder for report and logs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = facts_of_machine()
    found = commands(arguments.tests.resolve())
    steps = [run(name, command, arguments.out) for name, command in found.items()]
    path = arguments.out / "report.md"
    path.write_text(report(steps, facts), encoding="utf-8")
    print(f"report: {path}")
    return int(any(step.status for step in steps))


if __name__ == "__main__":
    sys.exit(main())
