# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Say what shards are, and what runs were.

    \b
    python tools/inspect_shards.py data/cifar10
    python tools/inspect_shards.py s3://my-bucket/imagenet/train --samples 0
    python tools/inspect_shards.py runs/digits runs/third
    python tools/inspect_shards.py data/* --json | jq '.[].samples'

Of shards, in a folder or an object store, or in folders below it: samples, columns, sizes,
compression and hashes, as the index says; how large samples are; whether recipes can fetch samples
alone (fetch: samples), and if not, why; whether all files are there and as large as they should be;
and the first samples, for which a shard is downloaded if it is in an object store. To read all
samples is the work of: python tools/convert.py verify.

Of run folders: what was trained on what, how far, and what came of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click
from inspection.data import data_sets_in, describe_data
from inspection.runs import describe_run, is_run
from inspection.show import show
from rich.console import Console

from composer_dataagent.report.table import UNLIMITED


@click.command(help=__doc__, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("places", nargs=-1, required=True, metavar="PATH|URL...")
@click.option("--samples", default=3, type=click.IntRange(0), help="How many of the first to show.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON: a list of objects.")
def main(places: tuple[str, ...], samples: int, as_json: bool) -> None:
    """Look at each place, and print what it is."""
    console = Console()
    if not console.is_terminal:  # lines are for other programs
        console = Console(width=UNLIMITED)
    found: list[dict[str, Any]] = []
    try:
        for facts in chain.from_iterable(_facts(place, samples) for place in places):
            found.append(facts)
            if not as_json:
                show(facts, console)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(found))


def _facts(place: str, samples: int) -> Iterator[dict[str, Any]]:
    """Of a run, or of each data set that is there."""
    if is_run(Path(place)):
        yield describe_run(Path(place))
        return
    for source in data_sets_in(place.rstrip("/") or place):
        yield describe_data(source, samples)


if __name__ == "__main__":
    main()
