# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A causal language model of which only low-rank additions are trained (LoRA, by PEFT)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import xxhash
from composer.models import HuggingFaceModel
from torch import Tensor, nn

from composer_dataagent.recipes.errors import at_least
from composer_dataagent.recipes.language_models import causal_lm
from composer_dataagent.recipes.pretrained import load_pretrained
from composer_dataagent.recipes.registry import Factory, Registry, split_name

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

# The buffer that holds it. Composer saves what has both `lora_` and `default`, its adapter, in its
# name.
_DIGEST = "lora_default_base_digest"


class LoraModel(HuggingFaceModel):
    """A model whose checkpoints hold what is trained, and of the rest a digest.

    Composer leaves out the frozen weights when it saves (but not inside DistributedDataParallel),
    and misses them when it loads strictly. Here they are left out and not missed, and a checkpoint
    is refused that was trained on top of others.

    Args:
        base (PreTrainedModel): What is frozen.
        additions (LoraConfig): What is trained.
        **arguments (Any): Of Composer's ``HuggingFaceModel``.
    """

    def __init__(self, base: PreTrainedModel, additions: LoraConfig, **arguments: Any) -> None:
        digest = _digest(base)
        super().__init__(base, peft_config=additions, should_save_peft_only=True, **arguments)
        self.register_buffer(_DIGEST, digest)
        self.register_state_dict_post_hook(_leave_out_the_base)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load what ``state_dict`` gave, with or without the base.

        Raises:
            ValueError: It is of another base.
            RuntimeError: ``strict``, and something is missing or unknown.
        """
        then, now = state_dict.get(_DIGEST), self.get_buffer(_DIGEST)
        if then is not None and not torch.equal(then.cpu(), now.cpu()):
            raise ValueError(
                "it was trained on top of another model: model.base holds other weights now than "
                "when the run began. Put the former ones back, or begin another run"
            )
        missing = self.state_dict().keys() - state_dict.keys()
        tensors = (self.named_parameters, self.named_buffers)
        known = {name for named in tensors for name, _ in named(remove_duplicate=False)}
        if strict and (wrong := missing | (state_dict.keys() - known)):
            raise RuntimeError(f"missing or unknown weights: {', '.join(sorted(wrong)[:8])}")
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def lora_of(bases: Mapping[str, Factory]) -> Factory:
    """The factory ``lora`` of a recipe.

    Args:
        bases (Mapping[str, Factory]): Causal language models that a recipe can name as its base.
    """
    registry = Registry("model", bases)

    def lora(
        base: str | dict[str, Any],
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        target_modules: list[str] | None = None,
    ) -> HuggingFaceModel:
        """LoRA (Hu et al., 2021) on top of a causal language model, whose weights stay as they are.

        Args:
            base (str | dict[str, Any]): A folder that ``save_pretrained`` wrote, a checkpoint, the
                ``run_dir`` of a recipe, or ``{name: gpt2, ...}`` (random weights).
            rank (int): Of what is added to each matrix of weights. Default: ``8``.
            alpha (float): What is added is scaled by ``alpha / rank``. Default: ``16.0``.
            dropout (float): Of the input of what is added. Default: ``0.0``.
            target_modules (list[str] | None): Names of the layers that are added to. Default: the
                attention's, as PEFT knows them of each architecture.

        Returns:
            HuggingFaceModel: From ``{"input_ids", "attention_mask", "labels"}``, each int64
            ``[B, T]``, evaluated by cross entropy and perplexity.

        Raises:
            ValueError: PEFT is not installed, there is no such base, or PEFT refuses a value.
        """
        at_least(1, rank=rank)
        try:
            from peft import LoraConfig
        except ImportError:
            raise ValueError("LoRA needs PEFT: pip install 'composer-dataagent[text]'") from None
        from transformers.pytorch_utils import Conv1D

        if isinstance(base, str):
            model = load_pretrained(base, "CausalLM")
        else:
            model = registry.build("base", *split_name("base", base)).model
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=alpha,  # type: ignore[arg-type]  # any number, whatever PEFT's hint says
            lora_dropout=dropout,
            target_modules=target_modules,
            # GPT-2 keeps its matrices the other way around.
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        )
        return causal_lm(model, LoraModel, additions=config)

    return lora


def _leave_out_the_base(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    del local_metadata
    if module.should_save_peft_only:
        frozen = [name for name in state_dict if name.startswith(prefix) and "lora_" not in name]
        for name in frozen:
            del state_dict[name]


def _digest(model: nn.Module) -> Tensor:
    """64 bits of a model's weights, as uint8 ``[8]``."""
    digest = xxhash.xxh64()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name)
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
