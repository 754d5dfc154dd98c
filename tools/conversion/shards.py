# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the inputs as shards of tokens, each in a folder of its own, and one index over all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
from streaming import MDSWriter

from composer_dataagent.report.atomic import write_atomically
from conversion.documents import Part, Span, is_lines, lines_of, values_of
from conversion.sequences import Counts, Sample, one_each, packed
from conversion.vocabulary import Vocabulary, load_vocabulary

COUNTS = "counts.json"
# Lines that go to the tokenizer at once.
AT_ONCE = 256


@dataclass(frozen=True)
class Conversion:
    """What is asked for; the same for all parts.

    Attributes:
        tokenizer (str): See :func:`~conversion.vocabulary.load_vocabulary`.
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


def convert_part(conversion: Conversion, part: Part, folder: Path) -> None:
    """Write a part's shards; the folder is there once they all are.

    Args:
        conversion (Conversion): What is asked for.
        part (Part): Of the inputs.
        folder (Path): Not there yet.

    Raises:
        click.ClickException: A line cannot be read.
    """
    vocabulary, counts = vocabulary_of(conversion), Counts()
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
    write_json(beside / COUNTS, counts.as_dict())
    beside.rename(folder)


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


def merge(out: Path, parts: int) -> None:
    """One index over all parts, in the order of the inputs.

    As ``streaming.base.util.merge_index`` does, which leaves files open.

    Args:
        out (Path): The folder that has the parts.
        parts (int): How many.

    Raises:
        click.ClickException: None has a sequence; they are removed, being of no use to other
            settings, either.
    """
    merged: list[dict[str, Any]] = []
    for i in range(parts):
        folder = folder_of(out, i)
        for shard in json.loads((folder / "index.json").read_text())["shards"]:
            for kind in ("raw_data", "zip_data"):
                if shard[kind]:
                    shard[kind]["basename"] = f"{folder.name}/{shard[kind]['basename']}"
            merged.append(shard)
    if not merged:
        for i in range(parts):
            shutil.rmtree(folder_of(out, i))
        raise click.ClickException(
            "there is not one whole sequence in the inputs: give a smaller --length, or --pad"
        )
    write_json(out / "index.json", {"version": 2, "shards": merged})


def folder_of(out: Path, part: int) -> Path:
    """Where a part goes."""
    return out / f"part_{part:05}"


@cache
def vocabulary_of(conversion: Conversion) -> Vocabulary:
    """The tokenizer, read once a process."""
    return load_vocabulary(conversion.tokenizer, conversion.end_token)


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Whole, or not at all."""
    write_atomically(path, json.dumps(facts, indent=1).encode())
