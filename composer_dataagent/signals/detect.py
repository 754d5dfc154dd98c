# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which signals a model's outputs and batch hold, found out from their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from composer_dataagent.signals.classification import Signals, classification_signals
from composer_dataagent.signals.dense import dense_signals
from composer_dataagent.signals.huggingface import huggingface_model
from composer_dataagent.signals.shift import is_shifted
from composer_dataagent.signals.tokens import TokenOptions, token_signals

#: ``(outputs, batch) -> Signals`` of a microbatch.
SignalsFn = Callable[[Any, Any], Signals]

LABEL_KEYS = ("labels", "label")

HOW_TO = """\
Pass a function that says what each sample's loss and uncertainty are:

    def my_signals(outputs, batch):
        logits, targets = outputs, batch[1]         # [B, C], [B]: take them from where they are
        return classification_signals(logits, targets)
        # or, of logits [B, T, V] and labels [B, T] that are shifted inputs:
        #     return token_signals(logits, labels, shift=True)
        # or, of logits [B, C, H, W] and a label for each pixel, [B, H, W]:
        #     return dense_signals(logits, targets)
        # or, for anything else, [B] each, the entropy divided by its largest value, so in [0, 1]:
        #     return Signals(loss=..., entropy=...)
        # and if samples are sequences of tokens, also max_prob=..., exp of minus the mean entropy

    DataAgent(signals=my_signals)

(from composer_dataagent.signals import Signals, classification_signals, token_signals, dense_signals)"""  # noqa: E501


def detect_signals(model: torch.nn.Module, options: TokenOptions | None = None) -> SignalsFn:
    """Signals for classifiers and language models, whatever form their outputs and batches have.

    Understood are outputs that are logits ``[B, C]``, or that hold them as ``.logits`` or
    ``["logits"]``; and batches ``(inputs, targets)`` or mappings with ``"labels"`` or ``"label"``,
    with targets ``[B]`` or ``[B, C]``. This covers ``composer.models.ComposerClassifier``,
    ``ComposerModel`` subclasses of the same habit and ``HuggingFaceModel`` sequence classifiers.
    Likewise logits ``[B, T, V]`` with labels ``[B, T]``: causal, masked and encoder-decoder
    language models and token classifiers of Hugging Face, and llm-foundry's models. Whether their
    labels are those of the next token is found out once, at the first microbatch. And logits
    ``[B, C, H, W]`` with targets ``[B, H, W]``, a label for each pixel: segmentation. A model's
    form shows at its first forward pass only, so that is when another one is refused.

    Args:
        model (torch.nn.Module): The model, possibly wrapped by DistributedDataParallel; names it in
            error messages.
        options (TokenOptions | None): How sequences of tokens are read. Default: in full.

    Returns:
        SignalsFn: ``(outputs, batch) -> Signals``. It raises ``TypeError`` for outputs or batches
        of another form and ``ValueError`` for other shapes, both with the way out.
    """
    inner = model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
    name = type(inner).__name__
    hugging_face = huggingface_model(model)
    found: bool | None = None

    def of_tokens(outputs: Any, logits: Tensor, labels: Tensor) -> Signals:
        nonlocal found
        shifted = found
        if shifted is None and labels.shape == logits.shape[:2]:
            shifted, for_good = is_shifted(model, outputs, logits, labels)
            if for_good:
                found = shifted
            if shifted is None and for_good:
                raise ValueError(
                    f"neither a loss among the outputs nor the model's class tells whether labels "
                    f"{list(labels.shape)} of logits {list(logits.shape)} are those of the next "
                    "token (shift=True) or not"
                )
        return token_signals(logits, labels, shift=bool(shifted), options=options)

    def signals(outputs: Any, batch: Any) -> Signals:
        logits, targets = logits_of(outputs), _targets(batch)
        if isinstance(logits, DTensor):
            raise TypeError(
                f"The outputs of {name} are a DTensor {list(logits.shape)} that is spread as "
                f"{logits.placements}, of which no rank sees a whole sample: have the model give "
                f"full tensors, or put them together in a function of your own. {HOW_TO}"
            )
        if logits is None or targets is None:
            raise TypeError(
                f"DataAgent cannot read per-sample signals from {name}: it expects outputs that "
                "are logits [B, C] (or hold them as `logits`) and a batch (inputs, targets) or one "
                f'with "labels", but outputs are {_describe(outputs)} and the batch is '
                f"{_describe(batch)}. {HOW_TO}"
            )
        try:
            if options is not None and options.given() and logits.dim() < 3:
                raise ValueError(
                    f"signals={options.given()} is about sequences of tokens or pixels, whose "
                    f"logits are [B, T, V] or [B, C, H, W], and these are {list(logits.shape)}: "
                    "leave it out"
                )
            if logits.dim() == 3:
                return of_tokens(outputs, logits, targets)
            if logits.dim() > 3:
                return dense_signals(logits, targets, options=options)
            # Hugging Face's models find it out at their first forward pass, if it is not given.
            problem = getattr(getattr(hugging_face, "config", None), "problem_type", None)
            if problem in ("multi_label_classification", "regression"):
                raise ValueError(f"its problem_type is {problem!r}, not one label per sample")
            return classification_signals(logits, targets)
        except ValueError as error:
            raise ValueError(
                f"DataAgent cannot read per-sample signals from {name}: {error}. {HOW_TO}"
            ) from error

    return signals


def checked(given: SignalsFn) -> SignalsFn:
    """A function of the user's, which is told what it should have returned.

    Args:
        given (SignalsFn): Reads a microbatch.

    Returns:
        SignalsFn: The same. It raises ``TypeError`` where the given one returns no
        :class:`~composer_dataagent.signals.Signals`.
    """

    def signals(outputs: Any, batch: Any) -> Signals:
        returned: Any = given(outputs, batch)
        if not isinstance(returned, Signals):
            raise TypeError(
                "DataAgent: the function given as `signals` returned "
                f"{_describe(returned)}, and must return Signals. {HOW_TO}"
            )
        return returned

    return signals


def logits_of(outputs: Any) -> Tensor | None:
    """The logits of a model's outputs: themselves, or their ``logits``; None if there are none."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits")
    elif not isinstance(outputs, Tensor):
        outputs = getattr(outputs, "logits", None)
    return outputs if isinstance(outputs, Tensor) else None


def _targets(batch: Any) -> Tensor | None:
    targets = None
    if isinstance(batch, Mapping):
        targets = next((batch[key] for key in LABEL_KEYS if key in batch), None)
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        targets = batch[1]
    return targets if isinstance(targets, Tensor) else None


def _describe(thing: Any) -> str:
    if isinstance(thing, Tensor):
        return f"a tensor {list(thing.shape)} {thing.dtype}"
    if isinstance(thing, Mapping):
        return f"{{{', '.join(f'{key!r}: {_describe(value)}' for key, value in thing.items())}}}"
    if isinstance(thing, tuple | list):
        return f"{type(thing).__name__} of ({', '.join(_describe(value) for value in thing)})"
    return type(thing).__name__
