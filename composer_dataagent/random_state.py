# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The global random generators of a run that was stopped and goes on.

Composer saves them as well, but restores them inside an epoch only if it spins the dataloader there
itself: not with data that keep their own place, as all do that serve a selection.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader


def take_random_state() -> dict[str, Any]:
    """The state of the generators of Python, numpy and torch (and of this rank's CUDA device).

    Returns:
        dict[str, Any]: Tensors and builtins.
    """
    version, words, gauss = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "words": torch.from_numpy(state["state"]["key"].astype(np.int64)),
            "at": int(state["state"]["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if cuda else None,
    }


def put_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`take_random_state` gave."""
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    words = numpy["words"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, numpy["at"], numpy["has_gauss"], numpy["gauss"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class ResumedRandomness:
    """Lets the first batch after a resume find the generators where the uninterrupted run had them.

    torch draws a seed for the workers when it begins to iterate: each time, or once for workers
    that live on. If the run that was stopped had made that draw before its checkpoint, it must not
    be made again: it comes from a generator that is lent to the loader then.

    Args:
        loader (DataLoader): The training loader.
        state (dict[str, Any] | None): What to put back, see :func:`take_random_state`, at the last
            moment: a trainer's evaluators draw before it. ``None``: the trainer does it.
        drawn (bool): Whether that draw was made before the checkpoint. Default: ``True``.
    """

    def __init__(
        self, loader: DataLoader, state: dict[str, Any] | None, drawn: bool = True
    ) -> None:
        self._loader = loader
        self._state = state
        self._drawn = drawn
        self._begun = False
        self._lent = False

    def before_batch(self) -> None:
        """A batch is about to be asked for. Does something at the first two."""
        if self._begun:
            self.end()
            return
        self._begun = True
        if self._state is not None:
            put_random_state(self._state)
            self._state = None
        if self._drawn and self._loader.generator is None:
            self._loader.generator = torch.Generator()
            self._loader.generator.set_state(torch.get_rng_state())
            self._lent = True

    def end(self) -> None:
        """Take back what was lent."""
        if self._lent:
            self._loader.generator = None
            self._lent = False
