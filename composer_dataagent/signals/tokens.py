# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Per-sequence loss and entropy of a model that predicts tokens, without a copy of its logits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from composer_dataagent.checks import is_whole
from composer_dataagent.signals.classification import LOG_ZERO, Signals

# A chunk is two float32 buffers of this many bytes each: on a CPU what its caches hold. On a GPU
# (where it was never measured) more, for fewer launches; each at most a share of the logits, or one
# token's.
CPU_CHUNK = 2 << 20
GPU_CHUNK = 64 << 20
GPU_SHARE = 0.005

RowSignals = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TokenOptions:
    """How the tokens of a sequence are read.

    Attributes:
        compile (bool): Have ``torch.compile`` write one pass over the logits: a third of the time,
            after a minute for the first step. On a CPU it needs a C++ compiler. Default:
            ``False``.
        max_tokens (int | None): Of a sequence with more tokens that count, read this many only,
            evenly spaced. Default: all.

    Raises:
        ValueError: A value is not one of these.
    """

    compile: bool = False
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.compile, bool):
            raise ValueError(f"DataAgent: signals: compile={self.compile!r} must be True or False")
        most = self.max_tokens
        if most is not None and not (is_whole(most) and most >= 1):
            raise ValueError(
                f"DataAgent: signals: max_tokens={most!r} must be a whole number of at least 1, "
                "or null"
            )

    def given(self) -> dict[str, Any] | None:
        """As a dictionary; None where all are defaults."""
        return None if self == TokenOptions() else asdict(self)


@torch.no_grad()
def token_signals(
    logits: Tensor, labels: Tensor, *, shift: bool = False, options: TokenOptions | None = None
) -> Signals:
    """Mean cross entropy and mean normalised entropy over a sequence's tokens.

    Goes over the logits in chunks of a few megabytes, in float32 whatever their precision; nothing
    is read back to the host. Tokens whose label is outside the vocabulary (-100) do not count,
    whatever their logits are; a sequence without any that counts is a settled one (loss and
    entropy 0). One with NaN or +inf among the logits that count, or -inf at a label, is marked as
    ``nonfinite``.

    Args:
        logits (Tensor): ``[B, T, V]`` floating point, V >= 2.
        labels (Tensor): ``[B, T]`` integer.
        shift (bool): Whether token ``t`` is predicted by the logits at ``t - 1``, as in the labels
            of causal models (Hugging Face, llm-foundry). Default: ``False``.
        options (TokenOptions | None): How tokens are read. Default: all, not compiled.

    Returns:
        Signals: ``loss`` in nats, ``entropy`` in [0, 1], and as ``max_prob`` what the model expects
        ``exp(-loss)`` to be: ``exp`` of minus the entropy in nats. ``label`` is None: of tokens
        that have many right continuations, disagreement does not show a wrong one.

    Raises:
        ValueError: The shapes or dtypes are not as above.
    """
    options = options or TokenOptions()
    _check_shapes(logits, labels)
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    if not labels.numel():
        nothing = logits.new_zeros(len(labels), dtype=torch.float32)
        return Signals(loss=nothing, entropy=nothing, max_prob=nothing + 1)
    vocabulary = logits.shape[2]
    counts = counted(labels, vocabulary)
    if options.max_tokens is not None and options.max_tokens < labels.shape[1]:
        positions, kept = _evenly_spaced(counts, options.max_tokens)
        labels, counts = labels.gather(1, positions), kept
        chunks = _chosen_chunks(logits, positions)
    else:
        chunks = _chunks(logits, whole=options.compile)
    targets = labels.masked_fill(~counts, 0).flatten()
    read = _compiled() if options.compile else _with_buffers(logits)
    columns = torch.empty(2, len(targets), device=logits.device)
    start = 0
    for rows in chunks:
        part = slice(start, start + len(rows))
        columns[0, part], columns[1, part] = read(rows, targets[part])
        start += len(rows)
    loss, entropy = (
        # Not a product with the mask: a token that does not count may hold NaN.
        torch.where(counts, column.view_as(counts), 0.0).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        for column in columns
    )
    normalised = (entropy / math.log(vocabulary)).clamp(0.0, 1.0)
    return Signals(loss=loss, entropy=normalised, max_prob=(-entropy).exp())


def counted(labels: Tensor, vocabulary: int) -> Tensor:
    """Which tokens a loss is taken of: those whose label is in the vocabulary (not -100)."""
    return (labels >= 0) & (labels < vocabulary)


def _row_signals(
    logits: Tensor, targets: Tensor, buffers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross entropy and entropy in nats of each token, ``[N, V]`` and ``[N]`` to two ``[N]``.

    ``buffers`` ``[2, N or more, V]`` float32 is used again and again: of memory that is new to each
    chunk, the system clears every page, and the heap is left full of holes.
    """
    first, second = (None, None) if buffers is None else buffers[:, : len(logits)]
    if logits.dtype != torch.float32:
        logits = logits.float() if first is None else first.copy_(logits)
    shifted = torch.sub(logits, logits.amax(dim=1, keepdim=True), out=first)
    target = shifted.gather(1, targets.unsqueeze(1)).squeeze(1)
    # A token that is impossible has no part in a sum of p log p.
    shifted = shifted.clamp_(min=LOG_ZERO)
    weight = torch.exp(shifted, out=second)
    total = weight.sum(dim=1)
    log_total = total.log()
    return log_total - target, log_total - weight.mul_(shifted).sum(dim=1) / total


def _with_buffers(logits: Tensor) -> RowSignals:
    rows = min(_rows_per_chunk(logits), logits.shape[:2].numel())
    buffers = torch.empty(2, rows, logits.shape[2], device=logits.device)
    return functools.partial(_row_signals, buffers=buffers)


@functools.cache
def _compiled() -> RowSignals:
    return torch.compile(_row_signals, dynamic=True)


def _rows_per_chunk(logits: Tensor) -> int:
    vocabulary = logits.shape[2]
    if logits.device.type == "cpu":
        size = CPU_CHUNK
    else:
        size = min(GPU_CHUNK, int(GPU_SHARE * logits.numel() * logits.element_size()))
    return max(1, size // (4 * vocabulary))


def _chunks(logits: Tensor, whole: bool) -> Iterator[Tensor]:
    """All tokens in order, ``[N, V]``: views, but for chunks of several shifted sequences."""
    batch, length, _ = logits.shape
    if whole:  # as far as that is no copy: shifted logits are contiguous within a sequence only
        rows = batch * length if logits.is_contiguous() else length
    else:
        rows = _rows_per_chunk(logits)
    if rows >= length:
        for first in range(0, batch, rows // length):
            yield logits[first : first + rows // length].flatten(0, 1)
        return
    for sequence in logits:
        yield from sequence.split(rows)


def _chosen_chunks(logits: Tensor, positions: Tensor) -> Iterator[Tensor]:
    """The tokens at ``positions`` ``[B, K]`` in order, ``[N, V]``."""
    batch = torch.arange(len(logits), device=logits.device).unsqueeze(1).expand_as(positions)
    rows = _rows_per_chunk(logits)
    for i, j in zip(batch.flatten().split(rows), positions.flatten().split(rows), strict=True):
        yield logits[i, j]


def _evenly_spaced(counts: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Of each sequence, ``most`` tokens that count, or all of them where there are fewer.

    Returns:
        tuple[Tensor, Tensor]: Their positions, ``[B, most]`` int64, and which of these count.
    """
    total = counts.sum(dim=1, keepdim=True)
    place = torch.arange(most, device=counts.device).unsqueeze(0)
    spread = ((2 * place + 1) * total).div(2 * most, rounding_mode="floor")
    nth = torch.where(total > most, spread, place.clamp(max=counts.shape[1] - 1))
    in_order = (~counts).to(torch.uint8).argsort(dim=1, stable=True)  # those that count, first
    return in_order.gather(1, nth), place < total


def _check_shapes(logits: Tensor, labels: Tensor) -> None:
    got = (
        f"got logits {list(logits.shape)} {logits.dtype} and "
        f"labels {list(labels.shape)} {labels.dtype}"
    )
    if logits.dim() != 3 or not logits.is_floating_point() or logits.shape[2] < 2:
        raise ValueError(f"Tokens need floating point logits [B, T, V] with V >= 2, {got}")
    if labels.shape != logits.shape[:2] or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"Tokens need integer labels [B, T] to match the logits, {got}")
