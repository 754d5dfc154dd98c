# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A GPU that is not there: counts where its host would wait, on any machine.

Its tensors say that they are on a GPU and have their values on the CPU. What waits follows from how
torch copies:

* a read of a value (``item()``, ``bool()``, ``tolist()``) and a result whose shape depends on
  values (``nonzero``, ``x[mask]``, ``unique``, ``equal``) wait for all that was launched before;
* so does a copy from the device to the host;
* so does a copy from the host to the device, unless it is ``non_blocking``.

Of what it does not know, most ends with an error of CUDA's; a read that is not in the list is not
counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda:0")
HOST = torch.device("cpu")
# Their result's shape, or itself, is known on the device only.
READS = (
    "_local_scalar_dense",
    "nonzero",
    "equal.default",
    "masked_select",
    "unique",
    "bincount",
    "repeat_interleave.Tensor",
)


class OnDevice(torch.Tensor):
    """A tensor that says it is on :data:`DEVICE`; made by :class:`PretendedGPU` only."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        """Around a tensor on the host."""
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """As of any tensor on a device: by way of the host."""
        return self.cpu().tolist()

    def __invert__(self) -> Any:
        """As of any tensor; torch's own asks the device's driver, as for what follows."""
        return torch.bitwise_not(self)

    def __getitem__(self, index: Any) -> Any:
        """See :meth:`__invert__`."""
        for part in tree_leaves(index):
            if isinstance(part, OnDevice) and part.dtype == torch.bool:
                torch.masked_select(part, part)  # waits as often
            elif isinstance(part, Tensor):
                part.to(DEVICE)
        return OnDevice(self.held[tree_map_only(OnDevice, _held, index)])

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{func} on a tensor of a PretendedGPU outside of it")


class PretendedGPU(TorchDispatchMode):
    """Inside of it, tensors can be made on, and moved to, a GPU that is not there.

    Attributes:
        waits (Counter[str]): How often the host would have waited, by the operation's name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __enter__(self) -> Any:
        # Asked for by torch before an operation gets here; its own raises where there is no GPU.
        self._lazy_init, torch.cuda._lazy_init = torch.cuda._lazy_init, lambda: None
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.cuda._lazy_init = self._lazy_init
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        there = any(isinstance(leaf, OnDevice) for leaf in tree_leaves((args, kwargs)))
        if kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == DEVICE.type
        self._count(func, args, kwargs, there)
        if "device" in kwargs:
            kwargs["device"] = HOST
        args_held, kwargs_held = tree_map_only(OnDevice, _held, (args, kwargs))
        result = func(*args_held, **kwargs_held)
        if func._schema.is_mutable:
            return args[0] if isinstance(args[0], Tensor) else result
        return tree_map_only(Tensor, OnDevice, result) if there else result

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], there: bool) -> None:
        """Count an operation; ``there`` is whether its result is on the device."""
        name = name_of(func)
        sources = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        from_device = any(isinstance(source, OnDevice) for source in sources)
        if name.startswith("_to_copy"):
            if from_device and not there:
                self.waits["copy to the host"] += 1
            elif sources and there and not from_device and not kwargs.get("non_blocking"):
                self.waits["copy to the device"] += 1
        elif from_device:
            if is_read(name, args):
                self.waits[name] += 1
            if any(source.dim() and not isinstance(source, OnDevice) for source in sources):
                raise RuntimeError(f"{name} of tensors on the device and on the host")


class Reads(TorchDispatchMode):
    """Counts the reads of values, as if all tensors were on a device.

    Args:
        waits (Counter[str]): To which they are added.
    """

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if is_read(name_of(func), args):
            self.waits[name_of(func)] += 1
        return func(*args, **(kwargs or {}))


def name_of(func: Any) -> str:
    """What an operation is called, such as ``nonzero.default``."""
    return str(func).removeprefix("aten.")


def is_read(name: str, args: tuple[Any, ...]) -> bool:
    """Whether the host has to know values; also of ``x[mask]``: how many entries are true."""
    indices = args[1] if name.startswith("index") and isinstance(args[1], list | tuple) else ()
    mask = any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)
    return mask or any(read in name for read in READS)


def _held(tensor: OnDevice) -> Tensor:
    return tensor.held
