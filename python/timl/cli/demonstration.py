"""Commands on a simulated world: simulate, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timl.cli.application import Quiet, Seed, Threads, Workers, app, say, use_threads

Countries = Annotated[int, typer.Option(min=1, help="Number of countries.")]
Samples = Annotated[int, typer.Option(min=1, help="Number of series, test samples included.")]
Size = Annotated[int, typer.Option(help="Edge of the scene, pixels of 10 m.")]
Points = Annotated[int, typer.Option(min=1, help="Number of the scene's labelled points.")]


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the world.")],
    countries: Countries = 20,
    samples: Samples = 8000,
    scene: Annotated[
        Path | None,
        typer.Option(help="Folder for a scene of the world too: export, truth, fields, points."),
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Country of the scene; by default the first.")
    ] = None,
    size: Size = 256,
    points: Points = 50,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Simulate a world of labelled series in the layout of CropHarvest's record, and a scene."""
    from rich.console import Console
    from rich.progress import Progress

    import timl

    with Progress(console=Console(stderr=True), disable=quiet) as bars:
        bar = bars.add_task("series", total=samples)
        timl.data.simulate(
            out,
            countries,
            samples,
            seed,
            progress=lambda made, total: bars.update(bar, completed=made, total=total),
        )
        made_scene = None
        if scene is not None:
            pixels = bars.add_task("pixels", total=size**2)
            made_scene = timl.data.simulate_scene(
                scene,
                out,
                country,
                size,
                points,
                seed,
                progress=lambda made, total: bars.update(pixels, completed=made, total=total),
            )
    tasks = timl.meta_tasks(timl.CropHarvest(out))
    say(f"{samples} series in {out}; {tasks!r} to meta-train on")
    if made_scene is not None:
        say(
            f"{size} x {size} pixels of {made_scene.country} from {made_scene.first_month} in "
            f"{made_scene.export}; {points} points in {made_scene.points}"
        )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("results/demo"),
    countries: Countries = 12,
    samples: Samples = 4000,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of meta-training.")] = 60,
    kernel_steps: Annotated[
        int, typer.Option(min=1, help="Steps of learning each network of the deep kernel.")
    ] = 200,
    size: Size = 256,
    points: Points = 50,
    seed: Seed = 0,
    workers: Workers = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a world and a scene, score methods by number of labels, and map the scene."""
    from rich.console import Console
    from rich.markdown import Markdown

    from timl.demo import demo as demonstrate

    use_threads(threads)
    if not quiet:
        say("a simulated world, training on it, and a map: a minute or two", err=True)
    shown = demonstrate(
        out,
        countries=countries,
        samples=samples,
        epochs=epochs,
        kernel_steps=kernel_steps,
        size=size,
        points=points,
        seed=seed,
        workers=workers,
        progress=not quiet,
    )
    lines = shown.text.read_text("utf-8").splitlines()
    Console().print(Markdown("\n".join(line for line in lines if not line.startswith("!["))))
    target, scene = shown.target, shown.scene
    say(
        f"""
open {shown.report} in a browser: imagery, truth, map, errors, scores, area

picture {shown.figure}
page    {shown.map.page}: zooms into the map of {target}, in a browser
map     {shown.map.map}: probability, class and distance from training; open it in QGIS
text    {shown.text}
scores  {out / "few-shot"}: few-shot.md, few-shot.csv
model   {shown.model}: trained on the countries that are not scored
scene   {scene.folder}: export, truth.tif, fields.geojson, points.csv
world   {shown.world}

next:
  timl map --points {scene.points} --target {target} --exports {scene.export} \\
      --model {shown.model} --out {out / "from-points"}   (with accuracy and uncertainty)
  timl benchmark --data {shown.world}   (more methods, every country)
  timl table1 --data {shown.world} --out table1   (the paper's experiment)
  docs/tutorial/first-classifier.md   (your own points)"""
    )
