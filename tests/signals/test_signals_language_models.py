# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every kind of language model is understood, and its numbers are those that it is trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from composer.models import HuggingFaceModel
from language_models import LANGUAGE_MODELS, LanguageModel, gpt2, token_batch, wrapped
from model_families import tiny_bert
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from composer_dataagent.signals import (
    BatchReader,
    FeatureHook,
    TokenOptions,
    detect_signals,
    find_head,
    has_decoder_of_its_own,
    token_signals,
)


@pytest.fixture(params=LANGUAGE_MODELS.values(), ids=list(LANGUAGE_MODELS))
def kind(request: pytest.FixtureRequest) -> LanguageModel:
    return request.param


@pytest.fixture(autouse=True)
def no_talk() -> Iterator[None]:
    """What transformers has to say about tiny configurations."""
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


def loss_of_one(model: HuggingFaceModel, batch: dict[str, Tensor], row: int) -> Tensor:
    """What the model itself says of one sequence alone."""
    return model({name: column[row : row + 1] for name, column in batch.items()}).loss.detach()


def test_the_loss_of_each_sequence_is_what_the_model_says_of_it_alone(kind: LanguageModel) -> None:
    model, batch = wrapped(kind), token_batch(kind)
    signals = detect_signals(model)(model(batch), batch)
    alone = torch.stack([loss_of_one(model, batch, row) for row in range(4)])
    torch.testing.assert_close(signals.loss, alone, rtol=1e-5, atol=1e-5)


def test_entropy_and_loss_against_a_plain_reference(kind: LanguageModel) -> None:
    model, batch = wrapped(kind), token_batch(kind)
    outputs = model(batch)
    signals = detect_signals(model)(outputs, batch)
    logits, labels = outputs.logits.detach().double(), batch["labels"]
    if kind.shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    assert signals.max_prob is not None and signals.label is None
    for row in range(4):
        kept = labels[row] >= 0
        log_prob = logits[row][kept].log_softmax(dim=1)
        entropy = -(log_prob.exp() * log_prob).sum(dim=1).mean()
        assert float(signals.max_prob[row]) == pytest.approx(math.exp(-entropy), abs=1e-5)
        entropy /= math.log(kind.classes)
        loss = F.nll_loss(log_prob, labels[row][kept])
        assert float(signals.loss[row]) == pytest.approx(float(loss), abs=1e-5)
        assert float(signals.entropy[row]) == pytest.approx(float(entropy), abs=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "masked bert", "t5"])
def test_without_a_loss_among_the_outputs_the_class_tells(name: str) -> None:
    kind = LANGUAGE_MODELS[name]
    model, batch = wrapped(kind), token_batch(kind)
    outputs = model(batch)
    expected = detect_signals(model)(outputs, batch)
    bare = SimpleNamespace(logits=outputs.logits, loss=None)  # as llm-foundry's models give them
    signals = detect_signals(model)(bare, batch)
    assert torch.equal(signals.loss, expected.loss)


def test_a_loss_in_half_precision_tells_less() -> None:
    kind = LANGUAGE_MODELS["gpt2"]
    model, batch = wrapped(kind), token_batch(kind)
    outputs = model(batch)
    expected = detect_signals(model)(outputs, batch)
    for distance in (0.001, 0.009):  # both readings are near
        half = SimpleNamespace(logits=outputs.logits, loss=outputs.loss * (1 + distance))
        half.loss = half.loss.bfloat16()
        assert torch.equal(detect_signals(model)(half, batch).loss, expected.loss)
    bart = LANGUAGE_MODELS["causal bart"]
    model, batch = wrapped(bart), token_batch(bart)
    outputs = model(batch)
    sharp = 20 * outputs.logits.detach()  # of a model that knows something
    own = F.cross_entropy(sharp.flatten(0, 1), batch["labels"].flatten()).bfloat16()
    signals = detect_signals(model)(SimpleNamespace(logits=sharp, loss=own), batch)
    assert torch.equal(signals.loss, token_signals(sharp, batch["labels"]).loss)


@pytest.mark.parametrize("extra", [0.01, 0.04, 1.0])
def test_a_loss_with_other_terms_leaves_it_to_the_name(extra: float) -> None:
    kind = LANGUAGE_MODELS["gpt2"]
    model, batch = wrapped(kind), token_batch(kind)
    outputs = model(batch)
    expected = detect_signals(model)(outputs, batch)
    more = SimpleNamespace(logits=outputs.logits, loss=outputs.loss + extra)
    assert torch.equal(detect_signals(model)(more, batch).loss, expected.loss)


def test_options_for_tokens_are_refused_beside_a_classifier() -> None:
    signals = detect_signals(OwnModel(), TokenOptions(max_tokens=9))
    with pytest.raises(ValueError, match=r"signals=.*max_tokens.* is about sequences of tokens"):
        signals(torch.zeros(2, 3), (None, torch.zeros(2).long()))


@pytest.mark.parametrize("first", ["no labels", "nan"])
@pytest.mark.parametrize("name", ["gpt2", "causal bart"])
def test_a_first_batch_that_tells_nothing(name: str, first: str) -> None:
    kind = LANGUAGE_MODELS[name]
    model, batch = wrapped(kind), token_batch(kind)
    outputs = model(batch)
    expected = detect_signals(model)(outputs, batch)
    signals = detect_signals(model)
    if first == "nan":
        broken = outputs.logits.detach().clone()
        broken[1] = torch.nan
        begun = signals(SimpleNamespace(logits=broken, loss=torch.tensor(torch.nan)), batch)
        assert begun.nonfinite.tolist() == [False, True, False, False]
    else:
        nothing = {**batch, "labels": torch.full_like(batch["labels"], -100)}
        assert not signals(model(nothing), nothing).loss.any()
    assert torch.equal(signals(outputs, batch).loss, expected.loss)


@pytest.mark.usefixtures("one_rank")
def test_inside_of_wrappers() -> None:
    model = wrapped(LANGUAGE_MODELS["gpt2"])
    batch = token_batch(LANGUAGE_MODELS["gpt2"])
    outputs = SimpleNamespace(logits=model(batch).logits, loss=None)
    expected = detect_signals(model)(outputs, batch)
    inside = DistributedDataParallel(model)
    assert torch.equal(detect_signals(inside)(outputs, batch).loss, expected.loss)


def test_some_of_the_tokens() -> None:
    kind = LANGUAGE_MODELS["gpt2"]
    model, batch = wrapped(kind), token_batch(kind)
    outputs = model(batch)
    whole = detect_signals(model)(outputs, batch)
    some = detect_signals(model, TokenOptions(max_tokens=3))(outputs, batch)
    assert not torch.equal(some.loss, whole.loss)
    torch.testing.assert_close(some.loss, whole.loss, rtol=0.2, atol=0.0)


def bert(adapted: bool) -> HuggingFaceModel:
    """A classifier of whole texts, with or without LoRA around a trained classifier."""
    torch.manual_seed(0)
    model: Any = tiny_bert(num_labels=3)
    if adapted:
        model = peft.get_peft_model(
            model, peft.LoraConfig(task_type="SEQ_CLS", r=4, init_lora_weights=False)
        )
    return HuggingFaceModel(model).eval()


def texts_of_classes() -> dict[str, Tensor]:
    ids = torch.randint(1, 50, (4, 8), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 2, 1, 2])}


@pytest.mark.parametrize("adapted", [False, True], ids=["bert", "lora"])
def test_a_classifier_of_texts_against_a_plain_reference(adapted: bool) -> None:
    model, batch = bert(adapted), texts_of_classes()
    path, head = find_head(model)
    assert path == ("model.base_model.model.classifier" if adapted else "model.classifier")
    caught: list[Tensor] = []
    head.register_forward_pre_hook(lambda _, args: caught.append(args[0].detach()))
    reader = BatchReader(detect_signals(model), FeatureHook(head))
    reader.before_forward()
    outputs = model(batch)
    reader.after_forward(outputs, batch)
    read = reader.end_pass(4)
    assert read is not None and read[1] is not None
    signals = read[0]
    assert torch.equal(read[1], caught[0]) and read[1].shape == (4, 16)
    log_prob = outputs.logits.detach().double().log_softmax(dim=1)
    for row in range(4):
        loss = F.nll_loss(log_prob[row : row + 1], batch["labels"][row : row + 1])
        entropy = -(log_prob[row].exp() * log_prob[row]).sum() / math.log(3)
        assert float(signals.loss[row]) == pytest.approx(float(loss), abs=1e-5)
        assert float(signals.entropy[row]) == pytest.approx(float(entropy), abs=1e-5)
    alone = torch.stack([loss_of_one(model, batch, row) for row in range(4)])
    torch.testing.assert_close(signals.loss, alone, rtol=1e-5, atol=1e-5)


def test_lora_around_the_classifier_itself() -> None:
    config = peft.LoraConfig(r=3, target_modules=["query", "classifier"])
    model = HuggingFaceModel(peft.get_peft_model(tiny_bert(num_labels=3), config))  # type: ignore[arg-type]
    path, head = find_head(model)
    assert path == "model.base_model.model.classifier"
    assert FeatureHook(head).feature_dim == 16  # not the 3 of what is added


# ---------------------------------------------------------------------- what is not understood


class OwnModel(nn.Module):
    """Of no library."""


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(2, 5, 9), "neither a loss among the outputs nor the model's class tells"),
        (SimpleNamespace(logits=torch.zeros(2, 7, 9)), r"logits \[2, 7, 9\] .* labels \[2, 5\]"),
    ],
    ids=["whose labels", "another length"],
)
def test_other_models_are_told_what_to_do(outputs: Any, message: str) -> None:
    batch = {"labels": torch.zeros(2, 5).long()}
    with pytest.raises(ValueError, match=f"from OwnModel: .*{message}") as caught:
        detect_signals(OwnModel())(outputs, batch)
    assert "token_signals(logits, labels, shift=True)" in str(caught.value)


def test_models_that_keep_their_logits_to_themselves_are_told_what_to_do() -> None:
    outputs = SimpleNamespace(loss=torch.tensor(2.0), logits=None)  # a fused loss
    with pytest.raises(TypeError, match="cannot read per-sample signals from OwnModel"):
        detect_signals(OwnModel())(outputs, {"labels": torch.zeros(2, 5).long()})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), "its problem_type is 'multi_label_cl"),
        (torch.tensor([[1, 0, 1], [0, 1, 0]]), "must be floating point probabilities"),
    ],
    ids=["found out", "whole numbers"],
)
def test_several_labels_of_a_sample_are_refused(labels: Tensor, message: str) -> None:
    model = HuggingFaceModel(tiny_bert(num_labels=3)).eval()
    batch: dict[str, Tensor] = {"input_ids": torch.ones(2, 4).long()}
    outputs = model(batch | ({"labels": labels} if labels.is_floating_point() else {}))
    with pytest.raises(ValueError, match=f"from HuggingFaceModel: .*{message}"):
        detect_signals(model)(outputs, batch | {"labels": labels})


# ---------------------------------------------------------------------- features


def test_long_sequences_do_not_overflow_half_precision() -> None:
    head = nn.Linear(2, 2).half()
    hook = FeatureHook(head)
    hook.enable()
    head(torch.full((1, 4096, 2), 40.0).half())
    mask = torch.ones(1, 4096)
    torch.testing.assert_close(
        hook.take({"attention_mask": mask}), torch.full((1, 2), 40.0), rtol=1e-2, atol=0.0
    )


def test_features_are_the_mean_over_real_tokens(kind: LanguageModel) -> None:
    model, batch = wrapped(kind), token_batch(kind)
    path, head = find_head(model)
    assert path == f"model.{kind.head}"
    caught: list[Tensor] = []
    head.register_forward_pre_hook(lambda _, args: caught.append(args[0].detach()))
    hook = FeatureHook(head, has_decoder_of_its_own(model))
    reader = BatchReader(detect_signals(model), hook)
    reader.before_forward()
    reader.after_forward(model(batch), batch)
    read = reader.end_pass(4)
    assert read is not None and read[1] is not None
    real = batch["labels"] >= 0 if has_decoder_of_its_own(model) else batch["attention_mask"] > 0
    for row in range(4):
        expected = caught[0][row][real[row]].mean(dim=0)
        torch.testing.assert_close(read[1][row], expected, rtol=1e-5, atol=1e-5)


def test_without_a_mask_all_tokens_are_real() -> None:
    model = wrapped(LANGUAGE_MODELS["gpt2"])
    batch = token_batch(LANGUAGE_MODELS["gpt2"])
    del batch["attention_mask"]
    _, head = find_head(model)
    caught: list[Tensor] = []
    head.register_forward_pre_hook(lambda _, args: caught.append(args[0].detach()))
    hook = FeatureHook(head)
    hook.enable()
    model(batch)
    torch.testing.assert_close(hook.take(batch), caught[0].mean(dim=1))


def test_a_head_that_is_the_embedding_itself_does_not_take_token_ids_for_features() -> None:
    model = gpt2()
    embedding = model.transformer.wte
    model.get_output_embeddings = lambda: embedding  # as llm-foundry's MPT, see tests/llmfoundry
    path, head = find_head(HuggingFaceModel(model))
    assert path == "model.transformer.wte"
    hook = FeatureHook(head)
    assert hook.feature_dim == 16
    hook.enable()
    embedding(torch.arange(3))
    with pytest.raises(RuntimeError, match="caught nothing"):
        hook.take()


def test_a_layer_that_gives_logits_in_another_way_must_be_named() -> None:
    model = gpt2()
    model.decoder = nn.Sequential(nn.LayerNorm(16), model.lm_head)
    model.get_output_embeddings = lambda: model.decoder
    with pytest.raises(ValueError, match=r"decoder, a Sequential, .*name the layer"):
        find_head(HuggingFaceModel(model))
    path, norm = find_head(HuggingFaceModel(model), "model.transformer.ln_f")
    assert path == "model.transformer.ln_f"
    assert FeatureHook(norm).feature_dim == 16
