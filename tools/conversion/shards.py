# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the inputs as shards of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from streaming import MDSWriter

from conversion.documents import (
    Part,
    Piece,
    is_lines,
    label_in,
    lines_of,
    records_of,
    text_in,
)
from conversion.parts import COUNTS, folder_of
from conversion.sequences import Counts, Sample, labelled, one_each, packed
from conversion.tables import Rows
from conversion.vocabulary import Vocabulary, load_vocabulary

# Lines or documents that go to the tokenizer at once.
AT_ONCE = 256


@dataclass(frozen=True)
class Conversion:
    """What is asked for; the same for all parts.

    Attributes:
        tokenizer (str): See :func:`~conversion.vocabulary.load_vocabulary`.
        end_token (str | None): Likewise.
        length (int): Tokens of a sequence, at most.
        pad (bool): Whether each document is a sequence of its own.
        text_key (str): Of a line of JSON, or the column of a table.
        prompt_key (str | None): Likewise; a response without a prompt is one with an empty one.
        response_key (str | None): Likewise.
        label_key (str | None): Likewise, of a text's class.
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
    label_key: str | None
    shard_bytes: int
    compression: str | None

    @property
    def one_each(self) -> bool:
        """Whether a document is a sequence."""
        return self.pad or self.response_key is not None or self.label_key is not None

    @property
    def keys(self) -> list[str]:
        """Of what is read of a document; its class comes last."""
        texts = [self.text_key]
        if self.response_key is not None:
            texts = [key for key in (self.prompt_key, self.response_key) if key]
        return texts if self.label_key is None else [*texts, self.label_key]


def convert_part(conversion: Conversion, part: Part, folder: Path) -> None:
    """Write a part's shards, and the counts of what became of its documents.

    Args:
        conversion (Conversion): What is asked for.
        part (Part): Of the inputs.
        folder (Path): Where to; not there yet.

    Raises:
        click.ClickException: A line cannot be read.
    """
    vocabulary, counts = vocabulary_of(conversion), Counts()
    length, dtype = conversion.length, vocabulary.dtype
    samples: Iterator[Sample]
    if conversion.label_key is not None:
        columns = {"tokens": f"ndarray:{dtype}", "label": "int"}
        classified = chain.from_iterable(
            _classified(conversion, piece, vocabulary, counts) for piece in part
        )
        ends = vocabulary.start, vocabulary.end
        samples = labelled(classified, length, dtype, ends, counts)
    else:
        documents = chain.from_iterable(
            _documents(conversion, piece, vocabulary, counts) for piece in part
        )
        if conversion.one_each:
            columns = {"tokens": f"ndarray:{dtype}", "prompt": "int"}
            samples = one_each(documents, length, dtype, counts)
        else:
            columns = {"tokens": f"ndarray:{dtype}:{length}"}
            samples = packed((tokens for _, tokens in documents), length, dtype, counts)
    with MDSWriter(
        out=str(folder),
        columns=columns,
        compression=conversion.compression,
        hashes=["xxh64"],
        size_limit=conversion.shard_bytes,
    ) as writer:
        for sample in samples:
            writer.write(sample)
    counts.save(folder / COUNTS)


def _some_records(
    conversion: Conversion, piece: Piece, counts: Counts
) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The documents of a piece that has named parts, many at a time."""
    records = records_of(piece, conversion.keys)
    while some := list(islice(records, AT_ONCE)):
        counts.documents += len(some)
        yield some


def _classified(
    conversion: Conversion, piece: Piece, vocabulary: Vocabulary, counts: Counts
) -> Iterator[tuple[list[int], int]]:
    """Tokens and class of each document."""
    text_key, label_key = conversion.keys
    for some in _some_records(conversion, piece, counts):
        texts = vocabulary.encode([text_in(record, text_key, place) for place, record in some])
        labels = [label_in(record, label_key, place) for place, record in some]
        yield from zip(texts, labels, strict=True)


def _documents(
    conversion: Conversion, piece: Piece, vocabulary: Vocabulary, counts: Counts
) -> Iterator[tuple[list[int], list[int]]]:
    """Prompt and rest of each document; of a plain text that is packed, many lines at a time."""
    end = [vocabulary.end]
    if isinstance(piece, Rows) or is_lines(piece.path):
        for some in _some_records(conversion, piece, counts):
            *prompts, rests = (
                vocabulary.encode([text_in(record, key, place) for place, record in some])
                for key in conversion.keys
            )
            for i, rest in enumerate(rests):
                yield (prompts[0][i] if prompts else []), rest + end
        return
    lines = lines_of(piece)
    if conversion.one_each:
        counts.documents += 1
        yield [], vocabulary.encode(["".join(line for _, line in lines)])[0] + end
        return
    while some := list(islice(lines, AT_ONCE)):
        # Together, because some tokenizers begin each text with a token of its own.
        yield [], vocabulary.encode(["".join(line for _, line in some)])[0]
    if piece.ends_file:
        counts.documents += 1
        yield [], end


def counts_of(out: Path, parts: int) -> Counts:
    """What became of the documents of all parts.

    Args:
        out (Path): The folder that has the parts.
        parts (int): How many.
    """
    return sum((Counts.load(folder_of(out, i) / COUNTS) for i in range(parts)), Counts())


def why_none(counts: Counts) -> str:
    """What keeps the documents from giving a sequence, and what to do."""
    if counts.dropped_long_prompt:
        return "no prompt leaves room for its response: give a larger --length"
    if counts.dropped_empty == counts.documents:
        return "there is no text in the inputs"
    return "there is not one whole sequence in the inputs: give a smaller --length, or --pad"


@cache
def vocabulary_of(conversion: Conversion) -> Vocabulary:
    """The tokenizer, read once a process."""
    return load_vocabulary(conversion.tokenizer, conversion.end_token)
