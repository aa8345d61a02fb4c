"""The command line as a module: ``python -m timl``."""

from timl.cli import app

app(prog_name="timl")
