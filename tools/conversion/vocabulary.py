# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""From text to token ids, with a tokenizer that is on the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

# What tokenizers call the token that ends a document, most usual first.
_ENDS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "[SEP]")
_START = "[CLS]"

# What a folder keeps a tokenizer in.
_FILES = ("*token*", "vocab*", "merges*", "*.model")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer.

    Attributes:
        size (int): Ids are below this; more than there are tokens, if some ids stand for none.
        end (int): Id of the token that ends a document.
        start (int): Id of the token that begins a text with a class, of which BERT's classifier
            makes its features; where there is none for this, the one that ends a document.
        encode (Callable[[Sequence[str]], list[list[int]]]): Texts to ids, without special tokens.
        digest (str): Of the files that it is from: another one gives other shards.
    """

    size: int
    end: int
    start: int
    encode: Callable[[Sequence[str]], list[list[int]]]
    digest: str

    @property
    def dtype(self) -> str:
        """The smallest type of NumPy's that holds all ids."""
        return "uint16" if self.size <= 1 << 16 else "uint32"


def load_vocabulary(name: str, end_token: str | None = None) -> Vocabulary:
    """A tokenizer by its name; nothing is downloaded.

    Args:
        name (str): ``bytes`` (each byte of UTF-8 is a token, 256 ends a document), a
            ``tokenizer.json`` of the library ``tokenizers``, or a folder in which Hugging Face's
            ``AutoTokenizer`` finds one.
        end_token (str | None): The token that ends a document. Default: the tokenizer's own, or
            one of the usual ones.

    Raises:
        click.ClickException: It is not there, or has no such token.
    """
    if name == "bytes":
        if end_token is not None:
            raise click.ClickException("--end-token is about other tokenizers than `bytes`")
        return Vocabulary(257, 256, 256, lambda texts: [list(t.encode()) for t in texts], "bytes")
    path = Path(name)
    try:
        return _of_folder(path, end_token) if path.is_dir() else _of_file(path, end_token)
    except click.ClickException:
        raise
    except Exception as error:  # the libraries raise all sorts
        raise click.ClickException(
            f"--tokenizer {name!r} cannot be read: give `bytes`, a tokenizer.json, or a folder "
            f"with a saved tokenizer; nothing is downloaded ({str(error)[:200]})"
        ) from error


def _of_file(path: Path, end_token: str | None) -> Vocabulary:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(path.read_text())
    # Both are often saved with a tokenizer, and would cut texts and fill them up.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    known = [end_token] if end_token is not None else [*_ENDS]
    ends = [i for i in map(tokenizer.token_to_id, known) if i is not None]
    if not ends:
        raise _no_end(path, end_token)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    start = tokenizer.token_to_id(_START)
    return Vocabulary(
        _size(tokenizer),
        ends[0],
        ends[0] if start is None else start,
        encode,
        _digest([path]),
    )


def _of_folder(path: Path, end_token: str | None) -> Vocabulary:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    if end_token is None:
        end = (
            tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        )
    else:
        end = tokenizer.get_vocab().get(end_token)
    if end is None:
        raise _no_end(path, end_token)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        arguments = {"add_special_tokens": False, "truncation": False, "padding": False}
        return tokenizer(list(texts), **arguments, verbose=False)["input_ids"]

    # Not the model's weights, which often are beside it.
    files = sorted({file for pattern in _FILES for file in path.glob(pattern)})
    start = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else end
    return Vocabulary(_size(tokenizer), int(end), int(start), encode, _digest(files))


def _size(tokenizer: Any) -> int:
    """Not the number of tokens: a model's embedding has a row for each id, given away or not."""
    return 1 + max(tokenizer.get_vocab().values())


def _no_end(path: Path, end_token: str | None) -> click.ClickException:
    which = f"the token {end_token!r}" if end_token else "a token that ends a document"
    return click.ClickException(f"{path} has not {which}: name one of its own with --end-token")


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
