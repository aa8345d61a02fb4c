"""The command line, `timl`."""

from timl.cli.commands import app

__all__ = ["app"]
