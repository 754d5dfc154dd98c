# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Language models of recipes: from which places they come, what is saved, what is refused."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from convert_text import main as convert_text
from language_models import LANGUAGE_MODELS as KINDS
from language_models import gpt2, token_batch
from model_families import tiny_bert
from parsed_page import ParsedPage
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedTokenizerFast
from write_topics import texts

from composer_dataagent.recipes import RecipeError, build_trainer, load_recipe, train
from composer_dataagent.recipes.config import LoaderConfig
from composer_dataagent.recipes.data import build_loader
from composer_dataagent.recipes.demo import RECIPE
from composer_dataagent.recipes.models import MODELS
from composer_dataagent.recipes.tokens import TokenSequences
from composer_dataagent.report import read_run, write_page

BASE = {
    "name": "gpt2",
    "vocab_size": 61,
    "n_positions": 64,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
}


def lora(base: Any, **arguments: Any) -> Any:
    return MODELS.build("model", "lora", {"base": base, **arguments}).eval()


def trained_a_little(model: Any) -> Any:
    """With additions that add something."""
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight)
    return model


# ---------------------------------------------------------------------- LoRA


def test_only_additions_are_trained_and_saved(tmp_path: Path) -> None:
    gpt2().save_pretrained(str(tmp_path / "base"))
    model = lora(str(tmp_path / "base"), rank=4)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    saved = model.state_dict()
    assert saved.keys() == trained | {"lora_default_base_digest"}
    outputs = trained_a_little(model)(token_batch(KINDS["gpt2"])).logits
    again = lora(str(tmp_path / "base"), rank=4)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(token_batch(KINDS["gpt2"])).logits, outputs)


@pytest.mark.usefixtures("one_rank")
def test_the_base_is_left_out_on_several_ranks_too() -> None:
    model = lora(BASE)
    saved = DistributedDataParallel(model).state_dict()
    assert {name.removeprefix("module.") for name in saved} == model.state_dict().keys()


def test_additions_to_another_base_are_refused(tmp_path: Path) -> None:
    saved = lora(BASE).state_dict()
    with pytest.raises(ValueError, match=r"model\.base holds other weights now than when the run"):
        lora(BASE).load_state_dict(saved)  # drawn again


def test_missing_and_unknown_weights_are_told() -> None:
    model = lora(BASE)
    saved = model.state_dict()
    name = next(iter(saved))
    with pytest.raises(RuntimeError, match=f"missing or unknown weights: {name}"):
        model.load_state_dict({other: saved[other] for other in saved if other != name})
    with pytest.raises(RuntimeError, match="missing or unknown weights: other"):
        model.load_state_dict({**saved, "other": torch.zeros(1)})
    model.should_save_peft_only = False
    model.load_state_dict(model.state_dict())  # with the base, it is complete, too


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank=0 is too small"),
        ({"target_modules": ["nothing"]}, "nothing.* not found in the base model"),
        ({"base": {"name": "resnet8"}}, "base: model 'resnet8' is not known.*Accepted: gpt2"),
        (
            {"base": "no/where"},
            "'no/where' cannot be loaded as a model for CausalLM: give a",
        ),
    ],
)
def test_what_lora_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s)model: .*{message}"):
        lora(**{"base": BASE, **arguments})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # as Python has what it cannot import
    with pytest.raises(RecipeError, match=r"pip install 'composer-dataagent\[text\]'"):
        lora(BASE)


# ---------------------------------------------------------------------- where models come from


def test_models_from_a_folder(tmp_path: Path) -> None:
    saved = gpt2()
    saved.save_pretrained(str(tmp_path))
    model = MODELS.build("model", "pretrained_causal_lm", {"pretrained": str(tmp_path)})
    assert torch.equal(model.model.lm_head.weight, saved.lm_head.weight)
    arguments = {"pretrained": str(tmp_path), "num_classes": 5}
    classifier = MODELS.build("model", "pretrained_classifier", arguments)
    assert torch.equal(classifier.model.transformer.wte.weight, saved.transformer.wte.weight)
    assert classifier.model.score.out_features == 5  # which the folder has none of


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., str]:
    """Shards of real text, in the test's folder."""

    def make(*options: object) -> str:
        path, out = tmp_path / "topics.jsonl", tmp_path / "data"
        rows = [{"text": text, "label": i} for i, text in enumerate(texts()["eval"][:3])]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        given = [str(path), "--out", str(out), *map(str, options)]
        result = CliRunner().invoke(convert_text, given)
        assert result.exit_code == 0, result.output
        return str(out)

    return make


def recipe_of(data: str, tmp_path: Path, *overrides: str) -> Any:
    """The causal language model's, in small."""
    small = [
        f"run_dir={tmp_path / 'run'}",
        f"train_loader.dataset.local={data}",
        "~eval_loader",
        "model.n_positions=32",
        "model.n_layer=1",
        "model.n_head=2",
        "model.n_embd=16",
        "trainer.max_duration=1ep",
        "trainer.progress_bar=false",
    ]
    return load_recipe(RECIPE.with_name("causal_lm.yaml"), [*small, *overrides])


def test_a_model_from_a_run_and_lora_that_goes_on(data: Callable[..., str], tmp_path: Path) -> None:
    shards = data("--length", 32)
    train(recipe_of(shards, tmp_path))
    model = MODELS.build("model", "pretrained_causal_lm", {"pretrained": str(tmp_path / "run")})
    checkpoint = tmp_path / "run" / "checkpoints" / "latest-rank0.pt"
    saved = torch.load(checkpoint, weights_only=False)["state"]["model"]
    assert saved.keys() == model.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())

    def tune(folder: str, *more: str) -> dict[str, torch.Tensor]:
        on_top = ["~model", f"model={{name: lora, base: {tmp_path / 'run'}}}", "~scheduler"]
        on_top += ["train_loader.dataset.length=32", f"run_dir={tmp_path / folder}"]
        train(recipe_of(shards, tmp_path, *on_top, *more))
        newest = tmp_path / folder / "checkpoints" / "latest-rank0.pt"
        return torch.load(newest, weights_only=False)["state"]["model"]

    tune("stopped")
    stopped = tune("stopped", "trainer.max_duration=3ep")
    straight = tune("straight", "trainer.max_duration=3ep")
    assert stopped.keys() == straight.keys() and all("lora_" in name for name in stopped)
    assert all(torch.equal(stopped[name], straight[name]) for name in stopped)

    with pytest.raises(RecipeError, match="is a checkpoint of a model's LoRA: give the model that"):
        lora(str(tmp_path / "straight"))
    train(recipe_of(shards, tmp_path, "seed=18", "overwrite=true"))  # another base in its place
    with pytest.raises(RecipeError, match=r"cannot be loaded: .*trained on top of another model"):
        tune("straight", "trainer.max_duration=4ep")


@pytest.mark.parametrize("as_checkpoint", [False, True])
def test_a_classifier_predicts_no_tokens(tmp_path: Path, as_checkpoint: bool) -> None:
    classifier = tiny_bert()
    path = tmp_path / "saved"
    if as_checkpoint:
        about = {"model": {"config": {"content": classifier.config.to_dict()}}}
        weights = {f"model.{name}": value for name, value in classifier.state_dict().items()}
        state = {"integrations": {"huggingface": about}, "model": weights}
        torch.save({"state": state}, path)
    else:
        classifier.save_pretrained(str(path))
    with pytest.raises(RecipeError, match="CausalLM: it was made for something else, and has no"):
        lora(str(path))


def test_a_checkpoint_of_something_else_is_told(tmp_path: Path) -> None:
    torch.save({"state": {"integrations": {}, "model": {}}}, tmp_path / "some.pt")
    with pytest.raises(RecipeError, match="checkpoint of another than a Hugging Face model"):
        lora(str(tmp_path / "some.pt"))


# ---------------------------------------------------------------------- what a report says of them


@pytest.mark.parametrize("tokenizer", ["bytes", "file", "folder", "gone"])
def test_a_report_has_texts_and_no_labels(
    data: Callable[..., str], tmp_path: Path, tokenizer: str
) -> None:
    where = tmp_path / "tokenizer"
    if tokenizer == "bytes":
        local = data("--length", 32)
    else:
        words = Tokenizer(WordLevel({"<eos>": 0, "[UNK]": 1, "the": 2}, unk_token="[UNK]"))
        words.pre_tokenizer = Whitespace()
        fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", unk_token="[UNK]")
        fast.save_pretrained(str(where))
        file = where if tokenizer == "folder" else where / "tokenizer.json"
        local = data("--length", 32, "--tokenizer", file)
        if tokenizer == "gone":
            shutil.rmtree(where)
    recipe = recipe_of(local, tmp_path, "trainer.max_duration=2ep")
    train(recipe.model_copy(update={"eval_loader": recipe.train_loader}))
    page = ParsedPage(write_page([read_run(tmp_path / "run")], tmp_path / "page.html"))
    assert "LanguageCrossEntropy" in page.texts["th"]
    assert page.texts["h3"][0] == "LanguageCrossEntropy against cost"
    assert "Further left is cheaper, lower is better." in page.texts["p"]
    assert not any("Flagged" in name or "Accuracy" in name for name in page.texts["dt"])
    shown = page.texts["blockquote"]
    assert len(shown) > 1
    if tokenizer == "bytes":
        packed = " ".join("".join(texts()["eval"][:3]).split())
        assert all(text.strip("\ufffd") in packed for text in shown)
    elif tokenizer == "gone":
        assert all(token.isdecimal() or token == "…" for text in shown for token in text.split())
    else:
        assert any(set(text.split()) == {"the"} for text in shown)  # of all others nothing is known


# ---------------------------------------------------------------------- tokens and models that fit


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.vocab_size=100"], "train_loader.dataset has a vocabulary of 257 tokens, and the"),
        (["train_loader.dataset.pad_id=257"], "pad_id=257 is outside of the model's vocabulary"),
        (["train_loader.dataset.length=40"], "length=40 is more than the model's 32 positions"),
        (["train_loader.dataset.length=24"], "length=24 would cut the shards' sequences of 32"),
    ],
)
def test_tokens_that_the_model_has_nothing_for_are_refused(
    data: Callable[..., str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        build_trainer(recipe_of(data("--length", 32), tmp_path, *overrides))


def test_classes_that_the_model_has_nothing_for_are_refused(
    data: Callable[..., str], tmp_path: Path
) -> None:
    local = data("--length", 32, "--label-key", "label")
    overrides = [
        f"run_dir={tmp_path / 'run'}",
        f"train_loader.dataset.local={local}",
        "~eval_loader",
        "model.num_classes=2",
    ]
    recipe = load_recipe(RECIPE.with_name("bert_classifier.yaml"), overrides)
    message = "train_loader.dataset has 3 classes, and the model 2: give a model of num_classes=3"
    with pytest.raises(RecipeError, match=message):
        build_trainer(recipe)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "LabelSmoothing"])
def test_what_mixes_images_is_refused(data: Callable[..., str], tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=rf"algorithms\.{name} takes .*: leave it out"):
        build_trainer(recipe_of(data("--length", 32), tmp_path, f"algorithms.{name}={{}}"))


@pytest.mark.parametrize("name", ["sequence_classification", "text_classification"])
def test_data_without_classes_are_refused(data: Callable[..., str], name: str) -> None:
    there = {"local": data("--length", 32), "length": 32}
    more = {"text": "tokens"} if name == "text_classification" else {}
    config = LoaderConfig(dataset={"name": name, **there, **more}, batch_size=1)
    with pytest.raises(RecipeError, match="label='label' is no column of the shards, which have"):
        build_loader("train_loader", config, train=True, seed=1)


def test_that_documents_are_cut_is_said(
    data: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    local = data("--length", 32, "--pad")
    with caplog.at_level(logging.WARNING):
        dataset = TokenSequences(local=local, length=16, batch_size=1)
    assert dataset.vocabulary == 257
    assert "Sequences of up to 32 tokens are cut to length=16" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes=1 is too small"),
        ({"num_classes": 2, "hidden_size": 10}, "hidden_size=10 must be a multiple of"),
        ({"num_classes": 2, "vocab_size": 0}, "vocab_size=0 is too small"),
    ],
)
def test_sizes_of_bert_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        MODELS.build("model", "bert_classifier", arguments)
