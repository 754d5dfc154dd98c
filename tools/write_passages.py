# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Write passages of documentation, and which of eight Python packages each is from, as JSON lines.

    python tools/write_passages.py --out data/packages

Real English text with real classes and without a download: for yamls/bert_classifier.yaml and
tests. Passages are 128 characters; those of a file are all to train on (train.jsonl) or all to
evaluate on (eval.jsonl). They depend on the versions that are installed.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from comparison.passages import PACKAGES, draw_passages
from comparison.sources import TEXT_EVAL, TEXT_TRAIN

from composer_dataagent.report.atomic import write_atomically


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--train", default=TEXT_TRAIN, type=click.IntRange(1), help="Of each package.")
@click.option("--evaluate", default=TEXT_EVAL, type=click.IntRange(1), help="Of each package.")
def main(out: Path, train: int, evaluate: int) -> None:
    """Write both files."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = zip(("train", "eval"), draw_passages(PACKAGES, train, evaluate), strict=True)
    for split, passages in drawn:
        path = out / f"{split}.jsonl"
        lines = [json.dumps({"text": text, "label": label}) for text, label in passages]
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
        click.echo(f"{path}: {len(passages):,} passages of {len(PACKAGES)} packages")


if __name__ == "__main__":
    main()
