"""Commands on a data set: download, pack, tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from timl.cli.application import Data, Quiet, Regions, app, say

Folder = Annotated[Path, typer.Option("--data", help="Folder of the record's files.")]


@app.command()
def download(
    data: Folder,
    record: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number on Zenodo: 5828893 (the paper's, the default), 7257688 or 10251170.",
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of a mirror; by default TIML_ZENODO_URL, or Zenodo.")
    ] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts at each file.")] = 5,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a byte.")] = 60.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that differ from the record's.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Download CropHarvest's record, or what is missing of it, and pack it."""
    from timl.data.download.record import PAPER_RECORD
    from timl.data.download.record import download as download_record

    record = PAPER_RECORD if record is None else record
    files = download_record(
        data,
        record,
        base_url=base_url,
        attempts=attempts,
        timeout=timeout,
        overwrite=overwrite,
        progress=not quiet,
    )
    size = sum(file.stat().st_size for file in files)
    say(f"record {record}: {len(files)} files, {size / 1e6:,.0f} MB, verified, in {data}")
    _pack(data)


@app.command()
def pack(
    data: Folder,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the store; by default .timl in it.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Pack even if there is a store.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the store and compare its checksums.")
    ] = False,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Pack what can be read of a damaged archive.")
    ] = False,
) -> None:
    """Pack a record, archives or unpacked, into the arrays that are mapped into memory."""
    _pack(data, cache, again=again, verify=verify, salvage=salvage)


@app.command()
def tasks(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="Write the whole table to this CSV file too.")
    ] = None,
    regions: Regions = None,
    k: Annotated[int, typer.Option(min=1, help="Positives of a support set.")] = 10,
    query: Annotated[int, typer.Option(min=2, help="Samples of a query set.")] = 8,
) -> None:
    """List the tasks to meta-train on, and what they share with the withheld evaluation tasks."""
    import timl
    from timl.data import overlap_report
    from timl.files import atomic_write
    from timl.text import csv_cell

    task_set = timl.meta_tasks(timl.CropHarvest(data), regions, k=k, query=query)
    table = task_set.table()
    if out is not None:
        named = table.map(lambda cell: csv_cell(cell) if isinstance(cell, str) else cell)
        with atomic_write(out, "w") as file:
            named.to_csv(file, index=False, lineterminator="\n")
    say(table.to_string(index=False))
    say(f"\n{task_set!r}")
    overlap = overlap_report(task_set)
    if len(overlap):
        say(f"\nshared with evaluation tasks:\n{overlap.to_string(index=False)}")


def _pack(
    root: Path,
    cache: Path | None = None,
    *,
    again: bool = False,
    verify: bool = False,
    salvage: bool = False,
) -> None:
    """Make the store or open it, and print what it holds and what was left out."""
    import warnings

    from timl.data.record.store import open_store, verify_store

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # all that was left out is listed below
        store = open_store(root, cache, again=again, salvage=salvage)
    if verify:
        verify_store(store, root)
    for file, reason in store.skipped:
        say(f"left out: {file}: {reason}", err=True)
    say(
        f"{len(store.series)} series, {len(store.tests)} test files, NDVI {store.ndvi}, "
        f"{len(store.skipped)} left out{', verified' if verify else ''}; the store is "
        f"{store.folder}"
    )
