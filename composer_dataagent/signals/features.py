# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The feature embedding: what enters the model's head, caught in the training forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from composer.algorithms.factorize import FactorizedConv2d, FactorizedLinear
from composer.algorithms.squeeze_excite import SqueezeExcite2d
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from composer_dataagent.signals.huggingface import base_layer, vocabulary_layer

# Path components that wrappers insert: DistributedDataParallel and ComposerClassifier, FSDP1,
# torch.compile, activation checkpointing. A user names the head without them.
_OUTER_WRAPPERS = ("module",)
_INNER_WRAPPERS = ("_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module")
# Module surgery by Composer's Factorize (two layers for one) and SqueezeExcite (layers that look at
# another one's output): what is inside of these is no head.
_LINEAR = (nn.Linear, FactorizedLinear)
_CONV = (nn.Conv2d, FactorizedConv2d)
_WHOLE = (FactorizedLinear, FactorizedConv2d, SqueezeExcite2d)


def find_head(model: nn.Module, path: str | None = None) -> tuple[str, nn.Module]:
    """Find the model's head, whose input is the feature embedding of a sample.

    Without a path this is the layer of a language model that gives its logits (of llm-foundry's
    MPT, its input embedding); else the last ``nn.Linear`` in the order of registration that maps to
    the number of classes, where the model states one (``num_classes``, ``num_labels`` or
    ``config.num_labels``), else simply the last one.
    A convolution as head, such as SqueezeNet's, is found if the model states its number of classes.
    What Composer's Factorize or PEFT makes of a layer counts as that layer. No forward pass is
    needed.

    Args:
        model (nn.Module): Any model, also inside DistributedDataParallel or ComposerClassifier.
        path (str | None): Dotted path of the head, such as ``fc`` or ``classifier.6``; components
            that wrappers insert (``module.``) may be left out. A container is fine: its input is
            taken. Default: ``None`` (found by itself).

    Returns:
        tuple[str, nn.Module]: The path (as ``model.get_submodule`` takes it) and the module.

    Raises:
        ValueError: No module fits; the message lists candidates.
    """
    modules = dict(model.named_modules())
    if path is not None:
        matches = [name for name in modules if name == path]
        matches = matches or [name for name in modules if _bare(name) == _bare(path)]
        if not matches or not matches[0]:
            raise ValueError(
                f"head={path!r} names no module of {_type_name(model)}; {_candidates(modules)}"
            )
        return matches[0], modules[matches[0]]

    vocabulary = vocabulary_layer(model)
    if vocabulary is not None:
        name = next(name for name, module in modules.items() if module is vocabulary)
        if not isinstance(base_layer(vocabulary), (*_LINEAR, nn.Embedding)):
            raise ValueError(
                f"The logits of {_type_name(model)} come from {_bare(name)}, a "
                f"{type(vocabulary).__name__}, whose input may not be the last hidden state: name "
                f"the layer with DataAgent(head=...); {_candidates(modules)}"
            )
        return name, vocabulary
    classes = _num_classes(model)
    parts = {f"{n}.{part}" for n, m in modules.items() if _is_whole(m) for part in _below(m)}
    layers = {name: base_layer(module) for name, module in modules.items() if name not in parts}
    linears = [name for name, module in layers.items() if isinstance(module, _LINEAR)]
    fitting = [n for n in linears if classes is None or layers[n].out_features == classes]
    if not fitting and classes is not None:
        fitting = [
            name
            for name, module in layers.items()
            if isinstance(module, _CONV) and module.out_channels == classes
        ]
    if not fitting:
        wanted = "" if classes is None else f" that maps to its {classes} classes"
        raise ValueError(
            f"{_type_name(model)} has no nn.Linear{wanted}, so its head must be named: "
            f"DataAgent(head='path.of.the.head'); {_candidates(modules)}"
        )
    return fitting[-1], modules[fitting[-1]]


class FeatureHook:
    """Catches the input of the head: a forward pre-hook, closed until :meth:`enable`.

    Other algorithms run forward passes of their own, so the hook listens only between
    :meth:`enable` and :meth:`disable`. Register it once the model is final (Composer's FIT_START):
    module surgery would take it away, and a compiled model ignores hooks added after its first
    forward pass.

    What enters the head of a model for tokens, ``[B, T, F]``, is averaged over each sample's real
    tokens.

    Args:
        head (nn.Module): The module whose input is caught, see :func:`find_head`. Its first
            linear (or convolution, or normalising) layer tells the embedding's width.
        of_labels (bool): Whether the tokens that enter the head are those of the labels, not those
            of the inputs (a decoder beside an encoder). Default: ``False``.

    Attributes:
        feature_dim (int): Width ``F`` of the embedding.

    Raises:
        ValueError: The head contains no layer that tells the width.
    """

    def __init__(self, head: nn.Module, of_labels: bool = False) -> None:
        self._of_labels = of_labels
        self.feature_dim, self._pooled = _entrance(head)
        self._open = False
        self._features: Tensor | None = None
        self._handle = head.register_forward_pre_hook(self._catch, with_kwargs=True)

    def enable(self) -> None:
        """Listen from now on, and forget what was caught before."""
        self._open = True
        self._features = None

    def disable(self) -> None:
        """Stop listening; what was caught stays until :meth:`take`."""
        self._open = False

    def take(self, batch: Any = None) -> Tensor:
        """Hand over the embedding that was caught last, and forget it.

        Args:
            batch (Any): What the model was given: its ``attention_mask`` (for a decoder, its
                ``labels``) tells real tokens from padding. Default: all are real.

        Returns:
            Tensor: ``[B, F]`` float32, detached; NaN and infinities as they are.

        Raises:
            RuntimeError: Nothing was caught since the last time.
            ValueError: What was caught is not one vector of ``feature_dim`` per sample.
        """
        features = self._features
        if features is None:
            raise RuntimeError(
                "The feature hook caught nothing: no forward pass went through the head since "
                "enable(). Is the head used in training mode, and was the hook registered before "
                "the first (compiled) forward pass? Name another one with DataAgent(head=...)."
            )
        self._features = None
        if features.dim() == 3 and features.shape[2] == self.feature_dim:
            features = _mean_of_real(features, _real_tokens(batch, features, self._of_labels))
        if features.dim() != 2 or features.shape[1] != self.feature_dim:
            raise ValueError(
                f"The head's input is {list(features.shape)}, not one vector of "
                f"{self.feature_dim} features per sample. Name a head that acts on one vector per "
                "sample with DataAgent(head=...)."
            )
        return features.float()

    def remove(self) -> None:
        """Take the hook off the model."""
        self._handle.remove()
        self._features = None

    def _catch(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        if not self._open:
            return
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        if not x.is_floating_point():
            return  # token ids: the head is the input embedding, too
        if isinstance(x, DTensor):
            raise TypeError(
                f"The head's input is a DTensor that is spread as {x.placements}, of which no rank "
                "sees a whole sample: use DataAgent(state='signals'), which needs no features"
            )
        x = x.detach()
        if self._pooled and x.dim() == 4:
            x = x.float().mean(dim=(2, 3))
        elif x.dim() != 3:
            # A copy: a head that is a container may change its input in place (dropout does).
            x = x.to(torch.float32, copy=True)
        # A head that is a container may flatten by itself: [B, F, 1, 1] and the like.
        self._features = x.flatten(1) if x.dim() > 2 and x[0].numel() == self.feature_dim else x


def _entrance(head: nn.Module) -> tuple[int, bool]:
    """Width of the head's input, and whether it has to be averaged over an image's positions."""
    embedding = base_layer(head)
    if isinstance(embedding, nn.Embedding):
        return embedding.embedding_dim, False
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels, True
        width = getattr(module, "in_features", None)
        if isinstance(width, int):
            return width, False
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.dim() == 1:
            return len(weight), False
    raise ValueError(
        f"The head is a {_type_name(head)} without any linear layer, so the width of its input is "
        "unknown: name the layer that maps features to classes with DataAgent(head=...)"
    )


def _real_tokens(batch: Any, features: Tensor, of_labels: bool) -> Tensor | None:
    """Which of the tokens ``[B, T]`` are no padding; None where the batch does not tell."""
    if not isinstance(batch, Mapping):
        return None
    known = {name: batch.get(name) for name in ("attention_mask", "labels")}
    real = {
        name: column != 0 if name == "attention_mask" else column >= 0
        for name, column in known.items()
        if isinstance(column, Tensor) and column.shape == features.shape[:2]
    }
    return real.get("labels") if of_labels else real.get("attention_mask")


def _mean_of_real(features: Tensor, real: Tensor | None) -> Tensor:
    """``[B, T, F]`` to float32 ``[B, F]``; 0 where no token is real."""
    if real is None:
        return features.mean(dim=1, dtype=torch.float32)
    weight = real / real.sum(dim=1, keepdim=True).clamp(min=1)
    # As a product of matrices: no copy of the features, and padding may hold anything finite. Of
    # shares, not of ones: a sum could overflow half precision.
    return torch.bmm(weight.to(features.dtype).unsqueeze(1), features).squeeze(1).float()


def _num_classes(model: nn.Module | None) -> int | None:
    """The number of classes that the model or the innermost model within it states."""
    while isinstance(model, nn.Module):
        for holder in (model, getattr(model, "config", None)):
            for name in ("num_classes", "num_labels"):
                if isinstance(stated := getattr(holder, name, None), int):
                    return stated
        model = getattr(model, "module", None) or getattr(model, "model", None)
    return None


def _is_whole(module: nn.Module) -> bool:
    """Whether what is inside is no head: surgery put several layers into the place of one."""
    return isinstance(module, _WHOLE) or base_layer(module) is not module


def _below(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_modules() if name]


def _bare(path: str) -> str:
    """The path without the components that wrappers insert."""
    parts = [part for part in path.split(".") if part not in _INNER_WRAPPERS]
    while parts and parts[0] in _OUTER_WRAPPERS:
        parts.pop(0)
    return ".".join(parts)


def _type_name(module: nn.Module) -> str:
    """Name of the class that the user wrote, not of what it is wrapped in."""
    while isinstance(inner := getattr(module, "module", None), nn.Module):
        module = inner
    return type(module).__name__


def _candidates(modules: dict[str, nn.Module], most: int = 12) -> str:
    linears = [
        f"{_bare(name)} ({module.in_features} -> {module.out_features})"
        for name, module in modules.items()
        if isinstance(module, nn.Linear)
    ]
    if not linears:
        children = sorted({_bare(name).split(".")[0] for name in modules if _bare(name)})
        return f"it has no nn.Linear at all; its parts are {', '.join(children[:most])}"
    dots = "..., " if len(linears) > most else ""
    return f"its linear layers are {dots}{', '.join(linears[-most:])}"
