# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ways in which a model is spread over ranks or compiled, for runs on CPU."""

from __future__ import annotations

import os
from typing import Any

import torch
from composer.models import ComposerClassifier
from torch import nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel


def parallelism(name: str | None, model: ComposerClassifier) -> tuple[Any, dict[str, Any]]:
    """A model prepared for it, and arguments of the trainer.

    Args:
        name: ``None`` (DDP where there are several ranks), ``fsdp1``, ``fsdp2``, each also with
            ``-full`` (checkpoints in one file) or ``-checkpointing`` (of activations),
            ``compile`` or ``compile-fsdp2``, ``compile-inductor``, ``fsdp1-tp`` (tensor
            parallelism).
        model: Its linear layers are sharded each by itself.
    """
    if name is None:
        return model, {}
    arguments: dict[str, Any] = {}
    if "compile" in name:
        # By default not by inductor: it compiles C++.
        backend = "inductor" if "inductor" in name else "eager"
        arguments["compile_config"] = {"backend": backend}
    if "fsdp" in name:
        os.environ["FSDP_VERSION"] = "1" if "fsdp1" in name else "2"
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module._fsdp_wrap = True  # type: ignore[assignment]
                module._activation_checkpointing = "checkpointing" in name  # type: ignore[assignment]
        fsdp: dict[str, Any] = {
            "state_dict_type": "full" if "full" in name else "sharded",
            "activation_checkpointing": "checkpointing" in name,
            "mixed_precision": "FULL",
        }
        if "fsdp1" in name:
            fsdp |= {"sharding_strategy": "FULL_SHARD", "activation_checkpointing_reentrant": False}
            # Composer asks for the GPU to use, whatever the device.
            torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment]
        arguments["parallelism_config"] = {"fsdp": fsdp}
    if name.endswith("-tp"):
        plan = {"module.1": ColwiseParallel(), "module.4": RowwiseParallel()}
        arguments["parallelism_config"]["tp"] = {"layer_plan": plan, "tensor_parallel_degree": 2}
    return model, arguments
