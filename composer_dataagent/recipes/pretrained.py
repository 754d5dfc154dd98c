# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A trained Hugging Face model from this machine: a saved folder, or what a run left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from composer.utils.checkpoint import safe_torch_load

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What a run of `composer-dataagent train` calls its newest checkpoint.
_NEWEST = Path("checkpoints", "latest-rank0.pt")


def load_pretrained(path: str, task: str, **config: Any) -> PreTrainedModel:
    """Load a model; nothing is downloaded and no code that comes with it is run.

    Args:
        path (str): A folder that ``save_pretrained`` wrote, a checkpoint of Composer's, or the
            ``run_dir`` of a recipe, of which the newest checkpoint is taken.
        task (str): How transformers calls what it is for: ``CausalLM``, ``SequenceClassification``
            or ``ImageClassification``. Of a classifier, layers that the saved model lacks are drawn
            at random.
        **config (Any): Entries of the model's configuration to replace.

    Returns:
        PreTrainedModel: In float32, in training mode.

    Raises:
        ValueError: There is no model, or one that cannot be loaded.
    """
    import transformers  # seconds

    auto = getattr(transformers, f"AutoModelFor{task}")
    place = Path(path)
    try:
        if (place / "config.json").is_file():
            model, told = auto.from_pretrained(
                str(place), local_files_only=True, output_loading_info=True, **config
            )
        else:
            saved, weights = _of_checkpoint(place / _NEWEST if place.is_dir() else place)
            kind = transformers.AutoConfig.for_model(**{**saved, **config})
            with torch.device("meta"):
                found = type(auto.from_config(kind))
            model, told = found.from_pretrained(
                None, config=kind, state_dict=weights, output_loading_info=True
            )
        if task == "CausalLM" and (missing := sorted(told["missing_keys"])):
            raise ValueError(
                f"it was made for something else, and has no {', '.join(missing[:3])} to predict "
                "tokens with"
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path!r} cannot be loaded as a model for {task}: {error}") from error
    return model.float().train()


def _of_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and weights of the Hugging Face model that a run of Composer trained."""
    if not path.is_file():
        raise ValueError(
            "give a folder that save_pretrained wrote (it has a config.json), a checkpoint, or the "
            f"run_dir of a recipe (it has a {_NEWEST})"
        )
    state = safe_torch_load(path)["state"]
    about = state.get("integrations", {}).get("huggingface", {}).get("model")
    if about is None:
        raise ValueError(f"{path} is a checkpoint of another than a Hugging Face model")
    if "peft_config" in about:
        raise ValueError(
            f"{path} is a checkpoint of a model's LoRA: give the model that was tuned, or merge "
            "both (PEFT's merge_and_unload) and save_pretrained"
        )
    weights = {name.removeprefix("model."): value for name, value in state["model"].items()}
    return about["config"]["content"], weights
