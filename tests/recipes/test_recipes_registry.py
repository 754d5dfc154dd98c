# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names to objects: everything that is promised has a name, and nothing else has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import composer.algorithms
import composer.optim
import pytest
import torch
from composer.core import Algorithm

from composer_dataagent import DataAgent
from composer_dataagent.recipes import RecipeError
from composer_dataagent.recipes.build import (
    ALGORITHMS,
    CALLBACKS,
    LOGGERS,
    OPTIMIZERS,
    SCHEDULERS,
)
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.registry import Registry


def test_every_algorithm_of_composer_has_its_snake_case_name() -> None:
    theirs = {
        cls
        for cls in vars(composer.algorithms).values()
        if inspect.isclass(cls) and issubclass(cls, Algorithm)
    }
    assert theirs | {DataAgent} == set(ALGORITHMS.factories.values())
    for name in ("data_agent", "label_smoothing", "ema", "blurpool", "gradient_clipping"):
        assert name in ALGORITHMS.names()
    assert all(name == name.lower() for name in ALGORITHMS.names())


def test_underscores_do_not_matter() -> None:
    for spelling in ("blurpool", "blur_pool", "BlurPool"):
        assert ALGORITHMS.canonical("algorithms", spelling) == "blurpool"


@pytest.mark.parametrize(
    ("registry", "name", "cls"),
    [
        (CALLBACKS, "speed_monitor", "SpeedMonitor"),
        (CALLBACKS, "lr_monitor", "LRMonitor"),
        (LOGGERS, "tensorboard", "TensorboardLogger"),
        (LOGGERS, "file", "FileLogger"),
        (LOGGERS, "wandb", "WandBLogger"),
        (OPTIMIZERS, "adamw", "AdamW"),
        (OPTIMIZERS, "decoupled_sgdw", "DecoupledSGDW"),
        (SCHEDULERS, "cosine_annealing", "CosineAnnealingScheduler"),
        (SCHEDULERS, "one_cycle_lr", "OneCycleLR"),
        (SCHEDULERS, "multi_step_with_warmup", "MultiStepWithWarmupScheduler"),
    ],
)
def test_names(registry: Registry, name: str, cls: str) -> None:
    factory = registry.factories[name]
    assert inspect.isclass(factory) and factory.__name__ == cls


def test_models() -> None:
    ours = {"small_cnn", "resnet8", "tiny_vit", "tiny_text_transformer"}
    assert ours | {"resnet18", "resnet50", "vit_b_16"} <= set(MODELS.names())
    model = MODELS.build("model", "resnet18", {"num_classes": 7})
    assert model((torch.zeros(2, 3, 32, 32), None)).shape == (2, 7)


def greet(count: int, *, loud: bool = False, extra: Any = None) -> tuple[int, bool]:
    if count < 0:
        raise ValueError(f"count={count} is negative")
    return count, loud


class Base:
    def __init__(self, depth: int = 1) -> None:
        self.depth = depth


class Inner(Base):
    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width


THINGS = Registry("thing", {"greet": greet, "inner": Inner}, implied=("extra",))


def test_build() -> None:
    assert THINGS.build("k", "greet", {"count": 3}) == (3, False)
    assert THINGS.build("k", "greet", {"count": "3"}, loud=True) == (3, True)  # text to number
    assert THINGS.build("k", "greet", {"loud": False, "count": 1}, loud=True) == (1, False)
    inner = THINGS.build("k", "Inner", {"width": 2, "depth": 5})  # accepted by the base class
    assert (inner.width, inner.depth) == (2, 5)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "gret",
            {},
            r"k: thing 'gret' is not known. Did you mean 'greet'\? Accepted: greet, inn",
        ),
        (3, {}, r"thing 3 is not known"),
        ("greet", {"cuont": 1}, r"k: argument 'cuont' is not known. Did you mean 'count'"),
        ("greet", {"extra": 1, "count": 1}, r"argument 'extra' is not known"),
        ("greet", {"count": "x"}, r"k\.count='x' is not accepted: .*integer"),
        ("greet", {"count": 1, "loud": "perhaps"}, r"k\.loud='perhaps' is not accepted.*boolean"),
        ("greet", {}, r"k lacks count"),
        ("greet", {"count": False}, r"k\.count=False is not accepted: .*number"),
        ("greet", {"count": -1}, r"k: count=-1 is negative"),
        ("inner", {"width": 1, "height": 1}, r"argument 'height'.*depth, width"),
    ],
)
def test_refusals(name: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        THINGS.build("k", name, arguments)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=resnet19", r"model: model 'resnet19'.*resnet18"),
        ("model.classes=3", r"model: argument 'classes'.*num_classes"),
        ("train_loader.dataset.locl=x", r"train_loader\.dataset: argument 'locl'.*'local'"),
        ("train_loader.dataset.name=images", r"dataset 'images'.*image_segmentation, sequence_c"),
        ("train_loader.dataset.local=nowhere", r"local='nowhere' holds no MDS.*prepare-digits"),
        ("optimizer.name=adamm", r"optimizer 'adamm'.*'adam'"),
        ("optimizer.lr=fast", r"optimizer\.lr='fast'.*number"),
        ("optimizer.lr=no", r"optimizer\.lr=False.*number"),
        ("optimizer.lr=-1", r"optimizer: .*-1"),
        ("scheduler.name=cosine", r"scheduler 'cosine'.*cosine_annealing"),
        ("algorithms.data_agnet.ratio=1", r"algorithm 'data_agnet'.*'data_agent'"),
        ("algorithms.data_agent.ratio=1.5", r"algorithms\.data_agent: ratio=1\.5.*\(0, 1\]"),
        ("algorithms.data_agent.selector=rnd", r"algorithms\.data_agent: .*'rnd'.*random"),
        ("algorithms.data_agent.rato=1", r"algorithms\.data_agent: argument 'rato'.*'ratio'"),
        ("algorithms.ema.half=1ep", r"algorithms\.ema: argument 'half'.*half_life"),
        ("callbacks.speedmon={}", r"callback 'speedmon'.*speed_monitor"),
        ("loggers.tensorbord={}", r"logger 'tensorbord'.*tensorboard"),
        ("trainer.max_durationn=1ep", r"trainer: argument 'max_durationn'.*'max_duration'"),
        ("trainer.progress_bar=perhaps", r"trainer\.progress_bar='perhaps'.*boolean"),
        ("trainer.model=x", r"trainer: argument 'model' is not known"),
        ("trainer.max_duration=3fortnights", r"trainer.*3fortnights"),
        ("trainer.max_duration=-3ep", r"trainer\.max_duration='-3ep'.*more than 0.*10ep"),
        ("trainer.max_duration=0ep", r"trainer\.max_duration='0ep'.*more than 0"),
        ("trainer.max_duration=0", r"trainer\.max_duration=0 .*more than 0"),
        ("trainer.device=foo", r"trainer\.device='foo'.*cpu, gpu"),
        pytest.param(
            "trainer.device=gpu",
            r"trainer\.device='gpu'.*cuda is not available",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (
            "train_loader.prefetch_factor=2",
            r"train_loader\.prefetch_factor=2 .*train_loader\.num_workers",
        ),
        ("eval_loader.persistent_workers=true", r"eval_loader\.persistent_workers=True .*num_w"),
        (
            "train_loader={batch_size: 2000, drop_last: true}",
            r"train_loader\.batch_size=2000 leaves no batch of 1437 samples.*drop_last=false",
        ),
    ],
)
def test_a_recipe_with_a_bad_part_names_it(
    recipe: Callable[..., Any], override: str, message: str
) -> None:
    from composer_dataagent.recipes import build_trainer

    with pytest.raises(RecipeError, match=f"(?s){message}"):
        build_trainer(recipe(override))


def test_a_recipe_without_duration(recipe: Callable[..., Any]) -> None:
    from composer_dataagent.recipes import build_trainer

    plain = recipe().model_dump()
    del plain["trainer"]["max_duration"]
    with pytest.raises(RecipeError, match=r"lacks trainer\.max_duration"):
        build_trainer(type(recipe()).model_validate(plain))
