# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A trained Hugging Face model from this machine: a saved folder, or what a run left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from composer.utils.checkpoint import safe_torch_load

from composer_dataagent.recipes.errors import at_least

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
        ValueError: There is no model, one that cannot be loaded, or with weights of another.
    """
    import transformers  # seconds

    auto = getattr(transformers, f"AutoModelFor{task}")
    place = Path(path)
    try:
        if (place / "config.json").is_file():
            model, told = auto.from_pretrained(
                str(place),
                local_files_only=True,
                trust_remote_code=False,  # left out, the terminal is asked
                output_loading_info=True,
                **config,
            )
        elif task == "ImageClassification":  # of which checkpoints do not tell the configuration
            raise ValueError("give a folder that save_pretrained wrote (it has a config.json)")
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
        _check_found(model, told)
    except Exception as error:  # those of damaged files have no other class in common
        why = str(error)
        if "trust_remote_code" in why:
            why = (
                "transformers does not know its model_type, and code that comes with a model "
                "(auto_map in its config.json) is not run"
            )
        raise ValueError(f"{path!r} cannot be loaded as a model for {task}: {why}") from error
    return model.float().train()


def load_classifier(path: str, task: str, num_classes: int, **config: Any) -> PreTrainedModel:
    """Load a model that gives one of several classes, whatever it was trained for.

    Args:
        path (str): See :func:`load_pretrained`.
        task (str): Likewise.
        num_classes (int): Number of classes ``C``, at least 2.
        **config (Any): See :func:`load_pretrained`.

    Raises:
        ValueError: There are fewer classes, or see :func:`load_pretrained`.
    """
    at_least(2, num_classes=num_classes)
    return load_pretrained(
        path, task, num_labels=num_classes, problem_type="single_label_classification", **config
    )


def _check_found(model: PreTrainedModel, told: Mapping[str, Sequence[Any]]) -> None:
    """Refuse weights that are of another model; transformers would draw new ones, and warn."""
    absent, other = told["missing_keys"], told["mismatched_keys"]
    count = len(model.state_dict())
    # A classifier, a pooling layer or the like is a few of them.
    if len(absent) + len(other) > count / 2:
        raise ValueError(
            f"of the {count} weights that its config.json tells of, {len(absent)} are not there "
            f"and {len(other)} have other sizes: they are not of this model"
        )


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
