"""Commands on a simulated world: simulate, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timl.cli.application import Quiet, Seed, Threads, app, use_threads

Countries = Annotated[int, typer.Option(min=1, help="Number of countries.")]
Samples = Annotated[int, typer.Option(min=1, help="Number of series, test samples included.")]


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the world.")],
    countries: Countries = 20,
    samples: Samples = 8000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Simulate a world of labelled series in the layout of CropHarvest's record."""
    from rich.console import Console
    from rich.progress import Progress

    import timl
    from timl.data.simulator import simulate as simulate_world

    with Progress(console=Console(stderr=True), disable=quiet) as bars:
        bar = bars.add_task("series", total=samples)
        simulate_world(
            out,
            countries,
            samples,
            seed,
            progress=lambda made, total: bars.update(bar, completed=made, total=total),
        )
    tasks = timl.meta_tasks(timl.CropHarvest(out))
    typer.echo(f"{samples} series in {out}; {tasks!r} to meta-train on")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for world, table and figure.")] = Path(
        "results/demo"
    ),
    countries: Countries = 20,
    samples: Samples = 8000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of meta-training.")] = 200,
    runs: Annotated[int, typer.Option(min=1, help="Runs of every cell.")] = 10,
    seed: Seed = 0,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a world, meta-train on it, score every method, and draw a figure."""
    from rich.console import Console

    from timl.demo import demo as demonstrate

    use_threads(threads)
    if not quiet:
        typer.echo("simulating a world, then training on it: about two minutes", err=True)
    shown = demonstrate(
        out,
        countries=countries,
        samples=samples,
        epochs=epochs,
        runs=runs,
        seed=seed,
        progress=not quiet,
    )
    Console().print(shown.result)
    benchmark = shown.result.benchmarks[0]
    typer.echo(
        f"""
figure          {shown.figure}
table           {shown.table}: table1.md, table1.csv, table1.json
trained models  {shown.table / "timl"}, {shown.table / "maml"}
world           {shown.world}

next:
  timl finetune --data {shown.world} --model {shown.table / "timl"} \\
      --benchmark {benchmark} --out {out / "classifier"}
  timl evaluate --data {shown.world} --model {out / "classifier"} --benchmark {benchmark}
  timl table1 --data FOLDER --out FOLDER   (on real data in the record's layout)"""
    )
