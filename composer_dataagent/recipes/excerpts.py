# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""From tokens back to text, for readers of a report."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

from numpy.typing import NDArray

# An excerpt is short: of tokens that are long words or single bytes, these are enough.
EXCERPT_TOKENS = 256

log = logging.getLogger(__name__)


@functools.cache
def decoder_of(tokenizer: str) -> Callable[[NDArray], str] | None:
    """What turns the beginning of a sequence into text.

    Args:
        tokenizer (str): As ``tools/convert_text.py`` wrote it into the index: ``bytes``, a
            ``tokenizer.json``, or a folder with a saved tokenizer. Nothing is downloaded.

    Returns:
        Callable[[NDArray], str] | None: Token ids ``[T]`` to text; None where the tokenizer is not
        there any more.
    """
    if tokenizer == "bytes":
        # Ids from 256 on are no bytes, but end a document.
        return lambda ids: bytes(i for i in _first(ids) if i < 256).decode(errors="replace")
    path = Path(tokenizer)
    try:
        if path.is_dir():
            from transformers import AutoTokenizer  # seconds

            decode = AutoTokenizer.from_pretrained(str(path), local_files_only=True).decode
        else:
            from tokenizers import Tokenizer

            decode = Tokenizer.from_str(path.read_text()).decode
    except Exception as error:  # the libraries raise all sorts, and an excerpt is not worth a run
        log.debug("Samples are shown as token ids, for %s cannot be read: %s", path, error)
        return None
    return lambda ids: str(decode(_first(ids), skip_special_tokens=True))


def _first(ids: NDArray) -> list[int]:
    return ids[:EXCERPT_TOKENS].tolist()
