# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Write passages of documentation, and which of eight Python packages each is from, as JSON lines.

    python tools/write_passages.py --out data/packages

Real English text with real classes and without a download: for yamls/bert_classifier.yaml and
tests. Passages are 128 characters; those of a file are all to train on (train.jsonl) or all to
evaluate on (eval.jsonl). They depend on the versions that are installed.
"""

from __future__ import annotations

from pathlib import Path

import click
from comparison.passages import PACKAGES, draw_passages
from comparison.sources import TEXT_EVAL, TEXT_TRAIN
from train_eval_files import overwrite_option, refuse_to_replace, write_split


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--train", default=TEXT_TRAIN, type=click.IntRange(1), help="Of each package.")
@click.option("--evaluate", default=TEXT_EVAL, type=click.IntRange(1), help="Of each package.")
@overwrite_option
def main(out: Path, train: int, evaluate: int, overwrite: bool) -> None:
    """Write both files."""
    refuse_to_replace(out, overwrite)
    drawn = zip(("train", "eval"), draw_passages(PACKAGES, train, evaluate), strict=True)
    for split, passages in drawn:
        rows = ({"text": text, "label": label} for text, label in passages)
        path = write_split(out, split, rows)
        click.echo(f"{path}: {len(passages):,} passages of {len(PACKAGES)} packages")


if __name__ == "__main__":
    main()
