"""Application that the commands belong to: errors, version, and options they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from timl.version import __version__

USER_ERROR, INTERRUPTED = 2, 130
"""Exit codes of foreseen errors and of an interrupt."""

Data = Annotated[Path, typer.Option("--data", help="Folder in the layout of CropHarvest's record.")]
Regions = Annotated[
    Path | None, typer.Option(help="JSON file of regions; by default the data folder's own.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Number of threads, which changes no result.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


class Commands(TyperGroup):
    """Group of commands that shows foreseen errors as one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command and turn its errors into exit codes."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"timl: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(USER_ERROR) from None
        except KeyboardInterrupt:
            typer.echo("timl: stopped; give the same command again to go on", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    """Print the version and exit where that is wanted."""
    if wanted:
        typer.echo(f"timl {__version__}")
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
