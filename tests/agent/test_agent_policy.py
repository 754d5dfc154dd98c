# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The actor-critic: what it draws, from whom, and how it starts."""

from __future__ import annotations

import pytest
import torch

from composer_dataagent.agent import BetaPolicy, sample_keys


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return sample_keys(seed, torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_samples_follow_the_beta_distribution() -> None:
    policy = BetaPolicy(3, hidden=(8,), seed=1)
    with torch.no_grad():
        policy.actor[-1].bias.copy_(torch.tensor([3.0, 0.5]))  # type: ignore[union-attr]
    state = torch.zeros(20_000, 3)
    action = policy.act(state, keys(20_000)).action
    beta = policy.distribution(state[:1])
    assert action.mean().item() == pytest.approx(beta.mean.item(), abs=0.005)
    assert action.std().item() == pytest.approx(beta.stddev.item(), abs=0.005)
    assert policy.mean_action(state[:1]).item() == pytest.approx(beta.mean.item())


def test_what_is_remembered_of_an_action_fits_the_distribution() -> None:
    policy = BetaPolicy(4, seed=2)
    state = torch.randn(50, 4)
    action, log_prob, value, mean = policy.act(state, keys(len(state)))
    assert action.shape == log_prob.shape == value.shape == mean.shape == (50,)
    assert not log_prob.requires_grad and not value.requires_grad
    torch.testing.assert_close(log_prob, policy.distribution(state).log_prob(action).detach())
    torch.testing.assert_close(value, policy.value(state).detach())
    torch.testing.assert_close(mean, policy.mean_action(state).detach())


@pytest.mark.usefixtures("global_rng_untouched")
def test_all_randomness_comes_from_the_keys() -> None:
    state = torch.ones(32, 4)
    policy = BetaPolicy(4, seed=5)
    actions = [policy.act(state, keys(32, seed)).action for seed in (0, 0, 1)]
    assert torch.equal(actions[0], actions[1])
    assert not torch.equal(actions[0], actions[2])
    # Whoever has a sample, and whatever comes with it, draws the same for it.
    torch.testing.assert_close(policy.act(state[5:7], keys(32)[5:7]).action, actions[0][5:7])


@pytest.mark.usefixtures("global_rng_untouched")
def test_weights_are_a_function_of_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in BetaPolicy(4, seed=seed).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_hidden_layers_start_orthogonal() -> None:
    policy = BetaPolicy(16, hidden=(16, 16))
    for network in (policy.actor, policy.critic):
        weight = network[0].weight.detach()  # type: ignore[union-attr]
        torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(16), atol=1e-4, rtol=0)
    shared = {id(p) for p in policy.actor.parameters()} & {
        id(p) for p in policy.critic.parameters()
    }
    assert not shared


def test_concentrations_stay_above_one_and_actions_inside() -> None:
    policy = BetaPolicy(2)
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter *= 100
    state = 100 * torch.randn(2000, 2)
    beta = policy.distribution(state)
    assert (beta.concentration0 >= 1).all() and (beta.concentration1 >= 1).all()
    action, log_prob, *_ = policy.act(state, keys(len(state)))
    assert ((action >= 1e-4) & (action <= 1 - 1e-4)).all()
    assert torch.isfinite(log_prob).all()


@pytest.mark.parametrize("batch", [0, 1])
def test_tiny_batches(batch: int) -> None:
    policy = BetaPolicy(3)
    action = policy.act(torch.zeros(batch, 3), keys(batch)).action
    assert action.shape == policy.mean_action(torch.zeros(batch, 3)).shape == (batch,)


def test_a_policy_without_hidden_layers_is_linear() -> None:
    policy = BetaPolicy(3, hidden=())
    assert sum(p.numel() for p in policy.parameters()) == (3 + 1) * 2 + (3 + 1)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 1)])
def test_a_state_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"states of shape \[B, 3\], got"):
        BetaPolicy(3).mean_action(torch.zeros(shape))


def test_widths_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="state_dim=0"):
        BetaPolicy(0)
    with pytest.raises(ValueError, match=r"hidden=\(8, 0\)"):
        BetaPolicy(3, hidden=(8, 0))
