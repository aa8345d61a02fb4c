"""Application that the commands belong to: errors, version, and options they share."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from timl.text import printable
from timl.version import __version__

USER_ERROR, INTERRUPTED = 2, 130
"""Exit codes of foreseen errors and of an interrupt."""

Data = Annotated[Path, typer.Option("--data", help="Folder in the layout of CropHarvest's record.")]
Regions = Annotated[
    Path | None, typer.Option(help="JSON file of regions; by default the data folder's own.")
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**64 - 1, help="The same seed gives the same result.")
]
MOST_THREADS = 1024
"""More threads or processes are refused: the system may end timl when it starts them."""
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=MOST_THREADS, help="Number of threads, which changes no result."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_THREADS,
        help="Processes of one thread; by default as many as there are CPUs.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="Device that models compute on: cpu, cuda or cuda:1; by default cpu."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


_UsageError: Any = typer.BadParameter.__mro__[1]
"""Class of errors in the options, click's or that of the copy that newer versions of Typer have."""

_FORESEEN = (
    ValueError,
    OSError,
    ImportError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    _UsageError,
)


class Commands(TyperGroup):
    """Group of commands that shows foreseen errors as one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command and turn its errors into exit codes."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # LANG=C has no signs beyond ASCII
                stream.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read the output has enough of it: Typer ends quietly
        except _FORESEEN as error:
            if ctx.params.get("debug") or isinstance(error, typer.Exit | typer.Abort):
                raise
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            say(f"timl: {one_line(error, command)}", err=True)
            raise typer.Exit(USER_ERROR) from None
        except KeyboardInterrupt:
            say("timl: stopped; give the same command again to go on", err=True)
            raise typer.Exit(INTERRUPTED) from None


def say(text: str, err: bool = False) -> None:
    """Print a text of which names from files may be part, to the output or the error stream."""
    typer.echo(printable(text), err=err)


def one_line(error: Exception, command: Any) -> str:
    """Return what an error says as one line, with the names of a command's options.

    Parameters
    ----------
    error
        The error.
    command
        Command that raised it, with its `params`, or None.
    """
    text = str(error)
    if isinstance(error, _UsageError):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = f"out of memory: {text or 'give less at once'}"
    elif isinstance(error, RecursionError):
        text = f"a file is nested too deeply ({text})"
    text = " ".join(text.split()) or type(error).__name__
    options = {} if command is None else {p.name: p.opts[0] for p in command.params}
    options = {name: option for name, option in options.items() if option.startswith("-")}
    if "restart" in options:
        text = re.sub(r"\bresume=False\b", "--restart", text)
    for name, option in options.items():
        text = re.sub(rf"(^|, |: ){name} (is|holds) ", rf"\1{option} \2 ", text)
        text = re.sub(rf"(?<![\w=.(]){name}=(?=[\w'\"])", f"{option} ", text)
    return text


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    """Print the version and exit where that is wanted."""
    if wanted:
        say(f"timl {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Task-informed meta-learning for few-shot crop mapping."""


def use_threads(threads: int | None) -> None:
    """Set PyTorch's number of threads; None leaves PyTorch's choice."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
