# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The head is found in every family of models, and what enters it is what the hook hands over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from composer.algorithms.factorize import FactorizedLinear, apply_factorization
from composer.algorithms.squeeze_excite import apply_squeeze_excite
from composer.algorithms.weight_standardization import apply_weight_standardization
from composer.models import ComposerClassifier, HuggingFaceModel
from model_families import CLASSES, FAMILIES, Family, images, sentences, tiny_bert
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import efficientnet_b0, mobilenet_v3_small, resnet18

from composer_dataagent.signals import BatchReader, FeatureHook, Signals, find_head


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def head_of(features: Tensor, head: nn.Module) -> Tensor:
    """The logits that a linear head, or a convolution at one position, makes of features."""
    assert isinstance(head, nn.Linear | nn.Conv2d) and head.bias is not None
    return F.linear(features, head.weight.flatten(1), head.bias).detach()


def catch(hook: FeatureHook, model: nn.Module, inputs: Any) -> tuple[Tensor, Any]:
    """Features and outputs of one forward pass that the hook listens to."""
    hook.enable()
    outputs = model(inputs)
    hook.disable()
    return hook.take(), outputs


# ---------------------------------------------------------------------- families


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_features_times_head_are_the_logits(family: Family) -> None:
    torch.manual_seed(0)
    model = family.build().train()  # the training forward pass, dropout and all
    path, head = find_head(model)
    assert path == family.head and head is model.get_submodule(path)
    assert find_head(model, path) == (path, head)
    made: list[Tensor] = []
    head.register_forward_hook(lambda *call: made.append(call[2].detach().clone()))
    hook = FeatureHook(head)

    for count in (3, 2):  # microbatches, the last one ragged
        features, outputs = catch(hook, model, family.inputs(count))
        assert features.shape == (count, hook.feature_dim)
        assert features.dtype == torch.float32 and not features.requires_grad
        if isinstance(head, nn.Conv2d):  # linear still: what it makes of the mean over positions
            expected = made[-1].mean((2, 3))
        else:
            expected = family.logits(outputs).detach()
        torch.testing.assert_close(head_of(features, head), expected, atol=1e-5, rtol=1e-4)

    # Nothing is heard while the hook is closed, and what was caught is handed over once.
    model(family.inputs(3))
    with pytest.raises(RuntimeError, match=r"caught nothing.*DataAgent\(head=\.\.\.\)"):
        hook.take()


def test_a_container_as_head_gives_its_input_even_if_it_drops_out_in_place() -> None:
    model = efficientnet_b0(weights=None, num_classes=CLASSES).train()
    pooled: list[Tensor] = []
    model.avgpool.register_forward_hook(lambda *call: pooled.append(call[2].flatten(1).clone()))
    _, head = find_head(model, "classifier")
    dropout = head[0]  # type: ignore[index]
    assert isinstance(dropout, nn.Dropout) and dropout.inplace
    features, _ = catch(FeatureHook(head), model, images(3))
    assert torch.equal(features, pooled[0].detach())


@pytest.mark.parametrize("name", ["convnext_tiny", "vgg11", "squeezenet1_1"])
def test_a_container_as_head_tells_the_width_of_its_input(name: str) -> None:
    family = FAMILIES[name]
    model = family.build().eval()
    hook = FeatureHook(find_head(model, "classifier")[1])
    features, _ = catch(hook, model, family.inputs(2))
    assert features.shape == (2, {"convnext_tiny": 768, "vgg11": 25088, "squeezenet1_1": 512}[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_features_are_float32_whatever_the_model_computes_in(dtype: torch.dtype) -> None:
    model = small_net().to(dtype)
    hook = FeatureHook(find_head(model)[1])
    inputs = torch.randn(3, 12, dtype=dtype)
    inputs[1, 0] = torch.nan
    features, outputs = catch(hook, model, inputs)
    assert features.dtype == torch.float32
    assert features.isfinite().all(1).tolist() == [True, False, True]
    torch.testing.assert_close(
        head_of(features[:1].to(dtype), find_head(model)[1]), outputs[:1].detach()
    )


def test_a_sample_whose_features_are_not_finite_is_marked_and_its_features_are_zero() -> None:
    model = small_net()
    hook = FeatureHook(find_head(model)[1])
    finite = torch.ones(3), torch.zeros(3)  # the model's own outputs would be NaN, too
    reader = BatchReader(lambda outputs, batch: Signals(*finite), hook)
    inputs = torch.randn(3, 12)
    inputs[1, 0] = torch.nan
    reader.before_forward()
    reader.after_forward(model(inputs), None)
    read = reader.end_pass(3)
    assert read is not None
    signals, features = read
    assert features is not None
    assert signals.nonfinite.tolist() == [False, True, False]
    assert signals.loss.tolist() == [1, 0, 1]
    assert (features[1] == 0).all() and (features[[0, 2]] != 0).any(1).all()


# ---------------------------------------------------------------------- the gate


def test_only_the_last_forward_pass_since_enable_is_kept() -> None:
    model = small_net()
    hook = FeatureHook(find_head(model)[1])
    first, second = torch.randn(2, 12), torch.randn(4, 12)
    hook.enable()
    model(first)
    hook.enable()  # forgets what was caught before
    with pytest.raises(RuntimeError, match="caught nothing"):
        hook.take()
    model(first)
    model(second)
    hook.disable()
    model(first)  # another algorithm's forward pass
    assert torch.equal(hook.take(), model[:3](second).detach())
    with pytest.raises(RuntimeError, match="caught nothing"):
        hook.take()


def test_a_removed_hook_hears_nothing() -> None:
    model = small_net()
    hook = FeatureHook(find_head(model)[1])
    hook.enable()
    hook.remove()
    model(torch.randn(2, 12))
    with pytest.raises(RuntimeError, match="caught nothing"):
        hook.take()


def test_features_named_by_keyword() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(input=x)

    model, x = Named(), torch.randn(3, 4)
    features, _ = catch(FeatureHook(model.fc), model, x)
    assert torch.equal(features, x)
    features += 1  # the caller's own: the model's tensor is left alone
    assert not torch.equal(features, x)


def test_nothing_waits_for_the_device(no_host_sync: Callable[[], Any]) -> None:
    model, inputs = small_net(), torch.randn(3, 12)
    hook = FeatureHook(find_head(model)[1])
    with no_host_sync():
        features, _ = catch(hook, model, inputs)
    assert features.shape == (3, 6)


def test_a_head_that_acts_on_every_position_is_refused() -> None:
    head = nn.Linear(6, CLASSES)
    hook = FeatureHook(head)
    hook.enable()
    head(torch.zeros(2, 4, 4, 6))
    with pytest.raises(ValueError, match=r"\[2, 4, 4, 6\], not one vector of 6 features per"):
        hook.take()


def test_a_head_without_a_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"head is a ReLU without any linear layer"):
        FeatureHook(nn.ReLU())


# ---------------------------------------------------------------------- finding


def test_the_head_maps_to_the_number_of_classes() -> None:
    class Contrastive(nn.Module):
        """A projection that is used by another loss is registered behind the head."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, CLASSES)
            self.projection = nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    assert find_head(ComposerClassifier(Contrastive(), num_classes=CLASSES))[0] == "module.fc"
    assert find_head(Contrastive())[0] == "projection"  # without a number, simply the last one
    with pytest.raises(
        ValueError,
        match=r"Contrastive has no nn\.Linear that maps to its 7 classes.*"
        r"DataAgent\(head='path\.of\.the\.head'\).*fc \(12 -> 10\), projection \(12 -> 5\)",
    ):
        find_head(ComposerClassifier(Contrastive(), num_classes=7))


def test_a_factorized_head_counts_as_one_layer() -> None:
    model = ComposerClassifier(small_net(), num_classes=CLASSES)
    apply_factorization(model, min_features=1, latent_features=2)
    path, head = find_head(model)
    assert path == "module.3" and isinstance(head, FactorizedLinear)
    assert FeatureHook(head).feature_dim == 6
    # Also where the model does not state its number of classes.
    assert find_head(model.module) == ("3", head)


@pytest.mark.parametrize("surgery", ["factorize", "squeeze_excite", "weight_standardization"])
def test_a_convolution_as_head_after_surgery(surgery: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES["squeezenet1_1"].build()
    model.num_classes = CLASSES  # type: ignore[assignment]
    if surgery == "factorize":
        apply_factorization(model, min_channels=CLASSES, latent_channels=2)
    elif surgery == "squeeze_excite":
        apply_squeeze_excite(model, latent_channels=4, min_channels=CLASSES)
    else:
        apply_weight_standardization(model)
    path, head = find_head(model)
    assert path.startswith("classifier.1") and ".se." not in path and ".module1" not in path
    hook = FeatureHook(head)
    features, _ = catch(hook, model, images(2, size=64))
    assert features.shape == (2, 512) and hook.feature_dim == 512
    assert FeatureHook(find_head(model, "classifier.1")[1]).feature_dim == 512


def test_a_model_without_linear_layers_lists_its_parts() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with pytest.raises(ValueError, match=r"Sequential has no nn\.Linear, .*its parts are 0, 1"):
        find_head(model)


@pytest.mark.parametrize("path", ["nope", "fc.weight", "", "module"])
def test_a_path_that_names_nothing_lists_candidates(path: str) -> None:
    with pytest.raises(
        ValueError, match=rf"head='{path}' names no module of ResNet.*fc \(512 -> 10\)"
    ):
        find_head(resnet18(weights=None, num_classes=CLASSES), path)


def test_many_candidates_are_cut_to_the_last_ones() -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(40)))
    with pytest.raises(
        ValueError, match=r"linear layers are \.\.\., 28 \(3 -> 3\), .*, 39 \(3 -> 3\)$"
    ):
        find_head(model, "fc")


# ---------------------------------------------------------------------- wrappers


def step(model: nn.Module, logits: Tensor) -> None:
    """A backward pass and a step of plain gradient descent."""
    F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long)).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
                parameter.grad = None


@pytest.mark.usefixtures("one_rank")
def test_under_distributed_data_parallel() -> None:
    net = mobilenet_v3_small(weights=None, num_classes=CLASSES)
    model = DistributedDataParallel(ComposerClassifier(net, num_classes=CLASSES))
    path, head = find_head(model)
    assert path == "module.module.classifier.3" and head is net.classifier[3]
    for given in ("classifier.3", "module.classifier.3", "module.module.classifier.3"):
        assert find_head(model, given) == (path, head)
    with pytest.raises(ValueError, match=r"no module of MobileNetV3.*classifier\.3 \(1024 -> 10\)"):
        find_head(model, "module.fc")
    hook = FeatureHook(head)
    for count in (3, 2):
        features, logits = catch(hook, model, (images(count), torch.zeros(count)))
        torch.testing.assert_close(head_of(features, head), logits.detach())
        step(model, logits)


@pytest.mark.usefixtures("one_rank")
def test_a_hugging_face_model_under_distributed_data_parallel() -> None:
    model = DistributedDataParallel(HuggingFaceModel(tiny_bert()))
    path, head = find_head(model)
    assert path == "module.model.classifier"
    assert find_head(model, "model.classifier") == (path, head)
    features, outputs = catch(FeatureHook(head), model, sentences(3))
    torch.testing.assert_close(head_of(features, head), outputs.logits.detach())


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_dynamo")
def test_under_torch_compile() -> None:
    net = resnet18(weights=None, num_classes=CLASSES)
    model: Any = torch.compile(net, backend="eager")
    path, head = find_head(model)
    assert path == "_orig_mod.fc" and head is net.fc
    assert find_head(model, "fc") == find_head(model, "_orig_mod.fc") == (path, head)
    hook = FeatureHook(head)  # before the first forward pass
    for count in (3, 3, 2):
        features, logits = catch(hook, model, images(count))
        torch.testing.assert_close(head_of(features, head), logits.detach(), atol=1e-5, rtol=1e-4)
        model(images(count))  # closed: the compiled code must ask again
        with pytest.raises(RuntimeError, match="caught nothing"):
            hook.take()
        step(net, logits)


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_hook_that_comes_too_late_for_a_compiled_model_says_so() -> None:
    net = small_net()
    model: Any = torch.compile(net, backend="eager")
    model(torch.randn(3, 12))
    hook = FeatureHook(find_head(model)[1])
    hook.enable()
    model(torch.randn(3, 12))
    with pytest.raises(RuntimeError, match=r"before the first \(compiled\) forward pass"):
        hook.take()
