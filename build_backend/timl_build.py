"""Build backend: scikit-build-core, plus PyTorch's headers from wherever they already are.

A build needs PyTorch's stable headers and import libraries, of any release since 2.11. Build
isolation hides an installed PyTorch, and requiring one in pyproject.toml would download it again,
with several GB of CUDA packages on Linux. So the build uses the PyTorch of the interpreter that
runs it when there is one (TIML_TORCH_DIR tells CMake where). Only when there is none it asks for
one in the build environment, in the words of the package's own requirement: pip then finds the
same release for the build and for the installation, and takes the second from its cache.
"""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path
from typing import Any

from scikit_build_core import build as _backend
from scikit_build_core.build import build_sdist, get_requires_for_build_sdist

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

PYPROJECT = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")


def _requirement() -> str:
    """Return what the package requires of PyTorch: "torch>=MAJOR.MINOR"."""
    found = re.search(r'^ *"(torch>=\d+\.\d+)",$', PYPROJECT, re.MULTILINE)
    if found is None:
        raise RuntimeError('pyproject.toml has no line with "torch>=MAJOR.MINOR": give it one')
    return found[1]


def _installed_torch() -> Path | None:
    """Return the folder of the target interpreter's PyTorch, None if absent or too old."""
    for scheme in ("platlib", "purelib"):
        folder = Path(sysconfig.get_path(scheme)) / "torch"
        version = folder / "version.py"
        if version.is_file() and (folder / "include/torch/csrc/stable/library.h").is_file():
            found = re.search(r"__version__ = '(\d+)\.(\d+)", version.read_text())
            oldest = tuple(map(int, _requirement().removeprefix("torch>=").split(".")))
            if found and (int(found[1]), int(found[2])) >= oldest:
                return folder
    return None


def _point_cmake_at_torch() -> None:
    folder = _installed_torch()
    if folder is not None:
        os.environ.setdefault("TIML_TORCH_DIR", str(folder))


def _with_torch(requires: list[str]) -> list[str]:
    known = "TIML_TORCH_DIR" in os.environ or _installed_torch() is not None
    return requires if known else [*requires, _requirement()]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Return what a wheel's build needs (PEP 517)."""
    return _with_torch(_backend.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """Return what an editable install's build needs (PEP 660)."""
    return _with_torch(_backend.get_requires_for_build_editable(config_settings))


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel (PEP 517)."""
    _point_cmake_at_torch()
    return _backend.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build an editable wheel (PEP 660)."""
    _point_cmake_at_torch()
    return _backend.build_editable(wheel_directory, config_settings, metadata_directory)
