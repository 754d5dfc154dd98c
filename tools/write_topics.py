# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Write the reference texts that come with every Python (``help("for")``) as JSON lines.

    python tools/write_topics.py --out data/causal_lm

Real English text without a download, half a megabyte: for yamls/causal_lm.yaml and tests. Every
tenth topic is to evaluate on (eval.jsonl), the others are to train on (train.jsonl). They depend
on the version of Python.
"""

from __future__ import annotations

from pathlib import Path
from pydoc_data import topics

import click
from train_eval_files import overwrite_option, refuse_to_replace, write_split


def texts() -> dict[str, list[str]]:
    """The topics' texts in alphabetical order, without those that another one repeats."""
    found = list(dict.fromkeys(topics.topics[name] for name in sorted(topics.topics)))
    return {
        "eval": found[::10],
        "train": [text for i, text in enumerate(found) if i % 10],
    }


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@overwrite_option
def main(out: Path, overwrite: bool) -> None:
    """Write both files."""
    refuse_to_replace(out, overwrite)
    for split, of_split in texts().items():
        path = write_split(out, split, ({"text": text} for text in of_split))
        click.echo(f"{path}: {len(of_split)} texts, {sum(map(len, of_split)):,} characters")


if __name__ == "__main__":
    main()
