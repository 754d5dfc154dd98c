# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn texts into MDS shards of tokens, for language models.

    \b
    python tools/convert_text.py book.txt notes/*.txt --out data/corpus --length 512
    python tools/convert_text.py web.jsonl --out data/web --tokenizer my_tokenizer/
    python tools/convert_text.py mail.jsonl --out data/mail --pad --text-key body
    python tools/convert_text.py chats.jsonl --out data/chats \\
        --prompt-key question --response-key answer

INPUTS are plain text (each file is one document) or JSON lines (.jsonl: each line is one). By
default documents follow one another, each with a token that ends it, and are cut into sequences of
--length tokens; what is left after each --part-mb of inputs is dropped. --pad makes a sequence of
each document instead. With --response-key a sequence is a prompt and a response, and training is on
the response only.

Stopped, it goes on where it was when the same command is given again: what was done is kept, part
by part. In a recipe, the data are {name: token_sequences, local: data/corpus, length: 512}.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from conversion.documents import Part, Span, is_lines, lines_of, parts_of, size_of, values_of
from conversion.sequences import Counts, Sample, one_each, packed
from conversion.vocabulary import Vocabulary, load_vocabulary
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from streaming import MDSWriter
from streaming.base.compression import get_compressions, is_compression

SETTINGS, WRITING, COUNTS = "conversion.json", "conversion.writing", "counts.json"
# Lines that go to the tokenizer at once.
AT_ONCE = 256


@dataclass(frozen=True)
class Conversion:
    """What is asked for; the same for all parts.

    Attributes:
        tokenizer (str): See :func:`conversion.vocabulary.load_vocabulary`.
        end_token (str | None): Likewise.
        length (int): Tokens of a sequence, at most.
        pad (bool): Whether each document is a sequence of its own.
        text_key (str): Of a line of JSON.
        prompt_key (str | None): Likewise; a response without a prompt is one with an empty one.
        response_key (str | None): Likewise.
        shard_bytes (int): Size of a shard, at most.
        compression (str | None): Of shards, as streaming calls it.
    """

    tokenizer: str
    end_token: str | None
    length: int
    pad: bool
    text_key: str
    prompt_key: str | None
    response_key: str | None
    shard_bytes: int
    compression: str | None

    @property
    def one_each(self) -> bool:
        """Whether a document is a sequence."""
        return self.pad or self.response_key is not None


@click.command(help=__doc__, context_settings={"show_default": True, "max_content_width": 100})
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--tokenizer",
    default="bytes",
    help="`bytes`, a tokenizer.json, or a folder with a saved tokenizer. Nothing is downloaded.",
)
@click.option("--end-token", help="Ends a document. Default: the tokenizer's.")
@click.option("--length", default=512, type=click.IntRange(2), help="Tokens of a sequence.")
@click.option("--pad", is_flag=True, help="A sequence from each document.")
@click.option("--text-key", default="text", help="Of a JSON line's text.")
@click.option("--prompt-key", help="Of a JSON line's prompt.")
@click.option("--response-key", help="Of a JSON line's response.")
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
    **asked: Any,
) -> None:
    """Convert, and tell what became of the documents."""
    conversion = Conversion(shard_bytes=int(shard_mb * 2**20), **asked)
    if conversion.prompt_key is not None and conversion.response_key is None:
        raise click.UsageError("--prompt-key needs --response-key: what is to be learned")
    if conversion.response_key is not None and not all(map(is_lines, inputs)):
        raise click.UsageError("prompts and responses are read from .jsonl files only")
    if len({path.resolve() for path in inputs}) < len(inputs):
        raise click.UsageError("an input is given twice")
    for path in inputs:
        if path.suffix.lower() == ".json":
            raise click.UsageError(f"{path}: give JSON lines (.jsonl), one object in each line")
    if conversion.compression is not None and not is_compression(conversion.compression):
        raise click.UsageError(
            f"--compression {conversion.compression!r} is not one of {sorted(get_compressions())}"
        )
    vocabulary = load_vocabulary(conversion.tokenizer, conversion.end_token)
    parts = parts_of(inputs, int(part_mb * 2**20), not conversion.one_each)
    if not parts:
        raise click.UsageError("the inputs are empty")
    out.mkdir(parents=True, exist_ok=True)
    with _alone_in(out):
        _take_up(out, _settings(conversion, vocabulary, inputs, part_mb))
        whole = all(_folder(out, i).exists() for i in range(len(parts)))
        if not (whole and (out / "index.json").exists()):
            (out / "index.json").unlink(missing_ok=True)
            _convert(conversion, parts, out, jobs)
            _merge(out, len(parts))
    total = sum(
        (Counts(**json.loads((_folder(out, i) / COUNTS).read_text())) for i in range(len(parts))),
        Counts(),
    )
    for name, count in total.as_dict().items():
        click.echo(f"{name.replace('_', ' '):18} {count:15,}")
    left = total.tokens - total.tokens_written
    if not conversion.one_each and left > 0.01 * total.tokens:
        click.echo(
            f"{left:,} tokens at the ends of {len(parts)} parts of the inputs fill no sequence: a "
            "larger --part-mb or a smaller --length would keep more",
            err=True,
        )
    click.echo(json.dumps({"out": str(out), "vocabulary": vocabulary.size, **total.as_dict()}))


def _settings(
    conversion: Conversion, vocabulary: Vocabulary, inputs: tuple[Path, ...], part_mb: float
) -> dict[str, Any]:
    """All that the shards depend on."""
    return {
        **vars(conversion),
        "tokenizer_digest": vocabulary.digest,
        "end": vocabulary.end,
        "part_mb": part_mb,
        "inputs": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in inputs],
    }


@contextlib.contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise click.ClickException(f"another conversion writes to {out}: wait for it") from error
    try:
        yield
    finally:
        lock.release()


def _take_up(out: Path, settings: dict[str, Any]) -> None:
    """Go on in a folder of the same conversion; refuse any other."""
    kept = out / SETTINGS
    try:
        then = json.loads(kept.read_text()) if kept.exists() else None
    except ValueError as error:
        raise click.ClickException(f"{kept} is damaged: remove {out}, and convert again") from error
    if then is None and [p for p in out.iterdir() if p.name not in (".lock", WRITING)]:
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
    _write(kept, settings)


def _convert(conversion: Conversion, parts: list[Part], out: Path, jobs: int) -> None:
    todo = [i for i in range(len(parts)) if not _folder(out, i).exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("tokens", total=sum(map(size_of, parts)))
        for i in {*range(len(parts))} - {*todo}:
            progress.advance(task, size_of(parts[i]))
        for part in _converted(conversion, {_folder(out, i): parts[i] for i in todo}, jobs):
            progress.advance(task, size_of(part))


def _converted(conversion: Conversion, todo: dict[Path, Part], jobs: int) -> Iterator[Part]:
    """Each part once it is done."""
    if min(jobs, len(todo)) <= 1:  # another process would take longer to begin
        for folder, part in todo.items():
            convert_part(conversion, part, folder)
            yield part
        return
    # Not forked: tokenizers have threads.
    with ProcessPoolExecutor(min(jobs, len(todo)), get_context("spawn")) as pool:
        running = {
            pool.submit(convert_part, conversion, part, folder): part
            for folder, part in todo.items()
        }
        try:
            for done in as_completed(running):
                done.result()
                yield running[done]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def convert_part(conversion: Conversion, part: Part, folder: Path) -> None:
    """Write a part's shards; the folder is there once they all are.

    Args:
        conversion (Conversion): What is asked for.
        part (Part): Of the inputs.
        folder (Path): Not there yet.

    Raises:
        click.ClickException: A line cannot be read.
    """
    vocabulary, counts = _vocabulary(conversion.tokenizer, conversion.end_token), Counts()
    length, dtype = conversion.length, vocabulary.dtype
    documents = chain.from_iterable(
        _documents(conversion, span, vocabulary, counts) for span in part
    )
    samples: Iterator[Sample]
    if conversion.one_each:
        columns = {"tokens": f"ndarray:{dtype}", "prompt": "int"}
        samples = one_each(documents, length, dtype, counts)
    else:
        columns = {"tokens": f"ndarray:{dtype}:{length}"}
        samples = packed((tokens for _, tokens in documents), length, dtype, counts)
    beside = folder.with_suffix(".part")
    shutil.rmtree(beside, ignore_errors=True)  # left by a kill
    with MDSWriter(
        out=str(beside),
        columns=columns,
        compression=conversion.compression,
        hashes=["xxh64"],
        size_limit=conversion.shard_bytes,
    ) as writer:
        for sample in samples:
            writer.write(sample)
    _write(beside / COUNTS, counts.as_dict())
    beside.rename(folder)


@cache
def _vocabulary(name: str, end_token: str | None) -> Vocabulary:
    """Once a process."""
    return load_vocabulary(name, end_token)


def _documents(
    conversion: Conversion, span: Span, vocabulary: Vocabulary, counts: Counts
) -> Iterator[tuple[list[int], list[int]]]:
    """Prompt and rest of each document; of a plain text that is packed, many lines at a time."""
    end, lines = [vocabulary.end], lines_of(span)
    if is_lines(span.path):
        keys = [conversion.text_key]
        if conversion.response_key is not None:
            keys = [key for key in (conversion.prompt_key, conversion.response_key) if key]
        while some := list(islice(lines, AT_ONCE)):
            texts = [
                values_of(line, keys, f"{span.path}, the line at byte {at}")
                for at, line in some
                if line.strip()
            ]
            if not texts:
                continue
            counts.documents += len(texts)
            *prompts, rests = (vocabulary.encode(column) for column in zip(*texts, strict=True))
            for i, rest in enumerate(rests):
                yield (prompts[0][i] if prompts else []), rest + end
        return
    if conversion.one_each:
        counts.documents += 1
        yield [], vocabulary.encode(["".join(line for _, line in lines)])[0] + end
        return
    while some := list(islice(lines, AT_ONCE)):
        # Together, because some tokenizers begin each text with a token of its own.
        yield [], vocabulary.encode(["".join(line for _, line in some)])[0]
    if span.ends_file:
        counts.documents += 1
        yield [], end


def _merge(out: Path, parts: int) -> None:
    """One index over all parts, in the order of the inputs.

    As ``streaming.base.util.merge_index`` does, which leaves files open.
    """
    merged: list[dict[str, Any]] = []
    for i in range(parts):
        folder = _folder(out, i)
        for shard in json.loads((folder / "index.json").read_text())["shards"]:
            for kind in ("raw_data", "zip_data"):
                if shard[kind]:
                    shard[kind]["basename"] = f"{folder.name}/{shard[kind]['basename']}"
            merged.append(shard)
    if not merged:
        for i in range(parts):  # of no use to other settings, either
            shutil.rmtree(_folder(out, i))
        raise click.ClickException(
            "there is not one whole sequence in the inputs: give a smaller --length, or --pad"
        )
    _write(out / "index.json", {"version": 2, "shards": merged})


def _folder(out: Path, part: int) -> Path:
    return out / f"part_{part:05}"


def _write(path: Path, facts: dict[str, Any]) -> None:
    beside = path.with_suffix(".writing")
    beside.write_text(json.dumps(facts, indent=1))
    os.replace(beside, path)


if __name__ == "__main__":
    main()
