# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Write the reference texts that come with every Python (``help("for")``) as JSON lines.

    python tools/write_topics.py --out data/causal_lm

Real English text without a download, half a megabyte: for yamls/causal_lm.yaml and tests. Every
tenth topic is to evaluate on (eval.jsonl), the others are to train on (train.jsonl). They depend
on the version of Python.
"""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data import topics

import click


def texts() -> dict[str, list[str]]:
    """The topics' texts in alphabetical order, without those that another one repeats."""
    found = list(dict.fromkeys(topics.topics[name] for name in sorted(topics.topics)))
    return {
        "eval": found[::10],
        "train": [text for i, text in enumerate(found) if i % 10],
    }


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(out: Path) -> None:
    """Write both files."""
    out.mkdir(parents=True, exist_ok=True)
    for split, of_split in texts().items():
        path = out / f"{split}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in of_split))
        click.echo(f"{path}: {len(of_split)} texts, {sum(map(len, of_split)):,} characters")


if __name__ == "__main__":
    main()
