# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn texts into MDS shards of tokens, for language models.

    \b
    python tools/convert_text.py book.txt notes/*.txt --out data/corpus --length 512
    python tools/convert_text.py web.jsonl --out data/web --tokenizer my_tokenizer/
    python tools/convert_text.py mail.jsonl --out data/mail --pad --text-key body
    python tools/convert_text.py chats.jsonl --out data/chats \\
        --prompt-key question --response-key answer
    python tools/convert_text.py reviews/ --split train --out data/reviews --label-key stars

INPUTS are plain text (each file is one document), JSON lines (.jsonl: each line is one), or tables,
whose rows are documents: folders that Hugging Face's save_to_disk wrote (with several splits, name
one with --split), .parquet and .arrow files. By default documents follow one another, each with a
token that ends it, and are cut into sequences of --length tokens; what is left after each --part-mb
of inputs is dropped. --pad makes a sequence of each document instead. With --response-key a
sequence is a prompt and a response, and training is on the response only. With --label-key a
sequence has a class, a whole number from 0, and begins with the tokenizer's token for this ([CLS]).
A document that has no token to learn (it is empty, or its prompt fills --length) is dropped, and
counted.

With --remote the shards go to an object store, and --out keeps just what it needs to know. Stopped,
the tool goes on where it was when the same command is given again: what was done is kept, part by
part. In a recipe, the data are {name: token_sequences, local: data/corpus, length: 512}; with
--label-key, {name: sequence_classification, ...}.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
from conversion.documents import has_keys, parts_of, refuse_no_text, size_of
from conversion.job import Job, run, to_remote
from conversion.parts import state_of
from conversion.sequences import Counts
from conversion.shards import Conversion, convert_part, counts_of, vocabulary_of, why_none
from conversion.tables import split_of
from conversion.vocabulary import Vocabulary
from streaming.base.compression import get_compressions, is_compression

# Of what is kept beside the shards. Another one cannot be taken up.
FORMAT = 2


@click.command(help=__doc__, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@to_remote
@click.option(
    "--tokenizer",
    default="bytes",
    help="`bytes`, a tokenizer.json, or a folder with a saved tokenizer. Nothing is downloaded.",
)
@click.option("--end-token", help="Ends a document. Default: the tokenizer's.")
@click.option("--length", default=512, type=click.IntRange(2), help="Tokens of a sequence.")
@click.option("--pad", is_flag=True, help="A sequence from each document.")
@click.option("--text-key", default="text", help="Of a JSON line's text, or its column.")
@click.option("--prompt-key", help="Of a JSON line's prompt, or its column.")
@click.option("--response-key", help="Of a JSON line's response, or its column.")
@click.option("--label-key", help="Of a JSON line's class, or its column.")
@click.option("--split", help="Of Hugging Face data sets that have several.")
@click.option("--shard-mb", default=64.0, type=click.FloatRange(0.001), help="Size of a shard.")
@click.option("--part-mb", default=64.0, type=click.FloatRange(0.001), help="Of inputs, at a time.")
@click.option("--compression", help="Of shards, for example zstd:7. Default: none.")
@click.option("--jobs", default=2, type=click.IntRange(1), help="Parts at a time, a core each.")
def main(
    inputs: tuple[Path, ...],
    out: Path,
    part_mb: float,
    shard_mb: float,
    jobs: int,
    split: str | None,
    remote: str | None,
    keep_local: bool,
    **asked: Any,
) -> None:
    """Convert, and tell what became of the documents."""
    for path in inputs:
        refuse_no_text(path)
    inputs = tuple(split_of(path, split) for path in inputs)
    conversion = Conversion(shard_bytes=int(shard_mb * 2**20), **asked)
    if conversion.prompt_key is not None and conversion.response_key is None:
        raise click.UsageError("--prompt-key needs --response-key: what is to be learned")
    if conversion.label_key is not None and conversion.response_key is not None:
        raise click.UsageError("--label-key is about whole texts: leave --response-key out")
    named = conversion.label_key is not None or conversion.response_key is not None
    if named and (plain := [path for path in inputs if not has_keys(path)]):
        raise click.UsageError(
            f"{plain[0]} is plain text: prompts, responses and classes are read from .jsonl files "
            "and tables only"
        )
    if len({path.resolve() for path in inputs}) < len(inputs):
        raise click.UsageError("an input is given twice")
    if conversion.compression is not None and not is_compression(conversion.compression):
        raise click.UsageError(
            f"--compression {conversion.compression!r} is not one of {sorted(get_compressions())}"
        )
    vocabulary = vocabulary_of(conversion)
    parts = parts_of(inputs, int(part_mb * 2**20), not conversion.one_each, conversion.keys)
    if not parts:
        raise click.UsageError("the inputs are empty")
    job = Job(
        out=out,
        settings=_settings(conversion, vocabulary, inputs, part_mb),
        parts=parts,
        convert=partial(convert_part, conversion),
        size_of=size_of,
        jobs=jobs,
        remote=None if remote is None else remote.rstrip("/"),
        keep_local=keep_local,
    )
    run(job, lambda: _about(conversion, vocabulary, counts_of(out, len(parts))))
    total = counts_of(out, len(parts))
    for name, count in total.as_dict().items():
        click.echo(f"{name.replace('_', ' '):19} {count:15,}")
    left = total.tokens - total.tokens_written
    if not conversion.one_each and left > 0.01 * total.tokens:
        click.echo(
            f"{left:,} tokens at the ends of {len(parts)} parts of the inputs fill no sequence: a "
            "larger --part-mb or a smaller --length would keep more",
            err=True,
        )
    click.echo(json.dumps({"out": str(out), "vocabulary": vocabulary.size, **total.as_dict()}))


def _about(conversion: Conversion, vocabulary: Vocabulary, total: Counts) -> dict[str, Any]:
    """What the index tells of the tokens."""
    if not total.samples:
        raise click.ClickException(why_none(total))
    name = conversion.tokenizer
    about: dict[str, Any] = {
        "vocabulary": vocabulary.size,
        "length": conversion.length,
        # Wherever the data are read from.
        "tokenizer": name if name == "bytes" else str(Path(name).resolve()),
    }
    return {"tokens": about | ({"classes": total.classes} if total.of_class else {})}


def _settings(
    conversion: Conversion, vocabulary: Vocabulary, inputs: tuple[Path, ...], part_mb: float
) -> dict[str, Any]:
    """All that the shards depend on."""
    return {
        "format": FORMAT,
        **vars(conversion),
        "tokenizer_digest": vocabulary.digest,
        "end": vocabulary.end,
        "part_mb": part_mb,
        "inputs": [[str(path), *state_of(path)] for path in inputs],
    }


if __name__ == "__main__":
    main()
