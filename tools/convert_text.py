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

Stopped, it goes on where it was when the same command is given again: what was done is kept, part
by part. In a recipe, the data are {name: token_sequences, local: data/corpus, length: 512}; with
--label-key, {name: sequence_classification, ...}.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from conversion.documents import Part, has_keys, parts_of, refuse_no_text, size_of
from conversion.sequences import Counts
from conversion.shards import (
    Conversion,
    counts_of,
    folder_of,
    merge,
    vocabulary_of,
    write_json,
)
from conversion.tables import split_of
from conversion.vocabulary import Vocabulary
from conversion.workers import converted
from folder_lock import LOCK, held
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from streaming.base.compression import get_compressions, is_compression

# Of what is kept beside the shards. Another one cannot be taken up.
FORMAT = 2
SETTINGS, BESIDE = "conversion.json", "writing_"


@click.command(help=__doc__, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("inputs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
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
    out.mkdir(parents=True, exist_ok=True)
    refusal = f"another conversion writes to {out}: wait for it"
    with held(out, refusal), _ended_as_by_ctrl_c():
        _take_up(out, _settings(conversion, vocabulary, inputs, part_mb))
        for left in out.glob(f"{BESIDE}*"):  # by a kill
            shutil.rmtree(left, ignore_errors=True)
        parts_there = all(folder_of(out, i).exists() for i in range(len(parts)))
        whole = parts_there and (out / "index.json").exists()
        if not whole:
            (out / "index.json").unlink(missing_ok=True)
            _convert(conversion, parts, out, jobs)
        total = counts_of(out, len(parts))
        if not whole:
            merge(out, len(parts), total, _about(conversion, vocabulary, total))
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
    name = conversion.tokenizer
    about: dict[str, Any] = {
        "vocabulary": vocabulary.size,
        "length": conversion.length,
        # Wherever the data are read from.
        "tokenizer": name if name == "bytes" else str(Path(name).resolve()),
    }
    return about | ({"classes": total.classes} if total.of_class else {})


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
        "inputs": [[str(path), *_state_of(path)] for path in inputs],
    }


def _state_of(path: Path) -> tuple[int, int]:
    """Size and time of an input: another one gives other shards."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    return sum(s.st_size for s in states), max(s.st_mtime_ns for s in states)


def _take_up(out: Path, settings: dict[str, Any]) -> None:
    """Go on in a folder of the same conversion; refuse any other."""
    kept = out / SETTINGS
    try:
        then = json.loads(kept.read_text()) if kept.exists() else None
    except ValueError as error:
        raise click.ClickException(f"{kept} is damaged: remove {out}, and convert again") from error
    if then is None and [p for p in out.iterdir() if p.name not in (LOCK, f"{SETTINGS}.tmp")]:
        raise click.ClickException(f"{out} holds something else: give an empty or new --out")
    if then is not None and any(out.glob("part_?????")):
        for name in sorted(then.keys() | settings.keys()):
            before, now = then.get(name), settings.get(name)
            if name == "inputs" and isinstance(before, list) and len(before) == len(settings[name]):
                before, now = next(
                    ((a, b) for a, b in zip(before, settings[name], strict=True) if a != b),
                    (None, None),
                )
            if before != now:
                raise click.ClickException(
                    f"{out} was begun with {name}={before!r}, and now it is {now!r}: give another "
                    "--out, or remove the folder"
                )
    write_json(kept, settings)


def _convert(conversion: Conversion, parts: list[Part], out: Path, jobs: int) -> None:
    """Convert the parts that are not there yet.

    They are written beside, in a folder that no other process knows, and moved by this one, which
    holds the lock: what others that were killed might still write is not in the way.
    """
    todo = [i for i in range(len(parts)) if not folder_of(out, i).exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with (
        TemporaryDirectory(prefix=BESIDE, dir=out, ignore_cleanup_errors=True) as beside,
        Progress(*columns, TimeRemainingColumn(), console=console) as progress,
    ):
        task = progress.add_task("tokens", total=sum(map(size_of, parts)))
        for i in {*range(len(parts))} - {*todo}:
            progress.advance(task, size_of(parts[i]))
        written = {folder_of(Path(beside), i): parts[i] for i in todo}
        for folder in converted(conversion, written, jobs):
            folder.rename(out / folder.name)
            progress.advance(task, size_of(written[folder]))


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM would end this process alone, and at once, without a chance to end its workers."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
