# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""One PPO update: per-sample credit, diagnostics, determinism, ranks."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from composer_dataagent.agent import (
    BetaPolicy,
    PPOConfig,
    PPOStats,
    Rollout,
    budget_reward,
    make_optimizer,
    ppo_update,
)

STATE_DIM = 5
FULL_BATCH = PPOConfig(passes=1, minibatch=None, max_grad_norm=None)


def make_policy(seed: int = 0) -> BetaPolicy:
    policy = BetaPolicy(STATE_DIM, hidden=(16, 16), seed=seed)
    # As if it had learnt for a while: a fresh actor's output layer lets little gradient through.
    with torch.no_grad():
        policy.actor[-1].weight *= 50  # type: ignore[operator]
    return policy


def make_rollout(policy: BetaPolicy, count: int, seed: int = 0) -> Rollout:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, STATE_DIM, generator=generator)
    action, log_prob, value = policy.act(states, generator)
    target = torch.rand(count, generator=generator)
    return Rollout(states, action, log_prob, value, budget_reward(action, target))


def rows(rollout: Rollout, keep: slice) -> Rollout:
    return Rollout(*(getattr(rollout, f.name)[keep] for f in fields(Rollout)))


def weights(policy: BetaPolicy) -> Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters()])


def update(
    policy: BetaPolicy,
    rollout: Rollout,
    config: PPOConfig,
    seed: int = 0,
    all_reduce_mean: Callable[[Tensor], Tensor] | None = None,
) -> PPOStats:
    generator = torch.Generator().manual_seed(seed)
    optimizer = make_optimizer(policy, config)
    return ppo_update(policy, optimizer, rollout, config, generator, all_reduce_mean)


def actor_gradient(policy: BetaPolicy, rollout: Rollout) -> Tensor:
    """What one full-batch step of plain gradient descent does to the actor."""
    policy = copy.deepcopy(policy)
    before = torch.cat([p.detach().flatten() for p in policy.actor.parameters()])
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    ppo_update(policy, optimizer, rollout, FULL_BATCH, torch.Generator())
    after = torch.cat([p.detach().flatten() for p in policy.actor.parameters()])
    return before - after


def surrogate_gradient(policy: BetaPolicy, rollout: Rollout, broadcast: bool) -> Tensor:
    """Gradient of the textbook surrogate; with ``broadcast``, of the released code's."""
    advantage = rollout.rewards - rollout.values
    advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    log_prob = policy.distribution(rollout.states).log_prob(rollout.actions)
    ratio = (log_prob - rollout.log_probs).exp()
    if broadcast:
        ratio = ratio[:, None]  # [N, 1] * [N] -> [N, N]
    clipped = ratio.clamp(0.8, 1.2)
    loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    grads = torch.autograd.grad(loss, list(policy.actor.parameters()))
    return torch.cat([g.flatten() for g in grads])


def shuffle_credit(rollout: Rollout) -> Rollout:
    order = torch.randperm(len(rollout), generator=torch.Generator().manual_seed(7))
    return replace(rollout, rewards=rollout.rewards[order], values=rollout.values[order])


def relative_difference(x: Tensor, y: Tensor) -> float:
    return ((x - y).norm() / x.norm()).item()


def test_credit_belongs_to_its_sample() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 640)
    gradient = actor_gradient(policy, rollout)
    assert relative_difference(gradient, actor_gradient(policy, shuffle_credit(rollout))) > 0.1


def test_the_shuffle_would_show_a_broadcast_loss() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 640)
    # With advantages [N] against ratios [N, 1], whose credit it is makes no difference ...
    rollout = replace(rollout, log_probs=rollout.log_probs - 0.05)
    broken = surrogate_gradient(policy, rollout, broadcast=True)
    shuffled = surrogate_gradient(policy, shuffle_credit(rollout), broadcast=True)
    assert (broken - shuffled).norm() < 1e-5 * actor_gradient(policy, rollout).norm()
    # ... and the direction is not ours.
    gradient = actor_gradient(policy, rollout)
    assert relative_difference(gradient, broken) > 0.1


def test_the_gradient_is_that_of_the_textbook_surrogate() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 640)
    rollout = replace(rollout, log_probs=rollout.log_probs + 0.4 * torch.randn(640))
    expected = surrogate_gradient(policy, rollout, broadcast=False)
    assert relative_difference(expected, actor_gradient(policy, rollout)) < 1e-3


@pytest.mark.parametrize("name", ["actions", "log_probs", "values", "rewards"])
@pytest.mark.parametrize("shape", [(8, 1), (7,), ()])
def test_a_rollout_of_odd_shapes_is_refused(name: str, shape: tuple[int, ...]) -> None:
    rollout = make_rollout(make_policy(), 8)
    with pytest.raises(ValueError, match=r"states \[M, D\] and all else \[M\]"):
        replace(rollout, **{name: torch.zeros(shape)})


def test_empty_rollouts_are_refused() -> None:
    policy = make_policy()
    with pytest.raises(ValueError, match="at least one"):
        Rollout.cat([])
    with pytest.raises(ValueError, match="at least one"):
        update(policy, rows(make_rollout(policy, 4), slice(0, 0)), PPOConfig())


def test_cat_keeps_the_order() -> None:
    whole = make_rollout(make_policy(), 10)
    joined = Rollout.cat([rows(whole, slice(0, 3)), rows(whole, slice(3, 10))])
    assert len(joined) == 10
    for field in fields(Rollout):
        assert torch.equal(getattr(joined, field.name), getattr(whole, field.name))


@pytest.mark.parametrize(
    "bad",
    [
        {"clip": 0.0},
        {"passes": 0},
        {"minibatch": 0},
        {"learning_rate": 0.0},
        {"value_coef": -1.0},
        {"entropy_coef": -1.0},
        {"max_grad_norm": 0.0},
    ],
)
def test_a_bad_hyperparameter_is_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PPOConfig(**bad)


def test_a_policy_that_has_not_moved_has_no_divergence() -> None:
    policy = make_policy()
    stats = update(policy, make_rollout(policy, 100), FULL_BATCH)
    assert abs(stats.approx_kl.item()) < 1e-6
    assert stats.clip_fraction.item() == 0
    assert abs(stats.policy_loss.item()) < 1e-5  # advantages have mean 0
    moved = update(policy, make_rollout(make_policy(), 100), PPOConfig(learning_rate=0.05))
    assert moved.approx_kl > 0.01
    assert moved.clip_fraction > 0


def test_explained_variance_of_a_perfect_a_constant_and_a_wrong_critic() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 200)

    def explained(values: Tensor) -> float:
        stats = update(make_policy(), replace(rollout, values=values), FULL_BATCH)
        return stats.explained_variance.item()

    assert explained(rollout.rewards.clone()) == pytest.approx(1.0)
    assert explained(torch.full((200,), 0.3)) == pytest.approx(0.0, abs=1e-4)
    assert explained(-rollout.rewards) == pytest.approx(-3.0, abs=1e-3)
    constant = replace(rollout, rewards=torch.full((200,), -0.1))
    assert update(policy, constant, FULL_BATCH).explained_variance.item() == 0


def test_the_other_diagnostics_are_what_they_say() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 300)
    with torch.no_grad():
        entropy = policy.distribution(rollout.states).entropy().mean()
        value_loss = 0.5 * (policy.value(rollout.states) - rollout.rewards).square().mean()
    stats = update(policy, rollout, FULL_BATCH)
    assert all(getattr(stats, f.name).shape == () for f in fields(stats))
    floats = stats.as_floats()
    assert floats == {f.name: getattr(stats, f.name).item() for f in fields(stats)}
    assert floats["entropy"] == pytest.approx(entropy.item(), rel=1e-4)
    assert floats["value_loss"] == pytest.approx(value_loss.item(), rel=1e-4)
    assert floats["action_mean"] == pytest.approx(rollout.actions.mean().item(), rel=1e-5)
    expected = rollout.actions.std(correction=0).item()
    assert floats["action_std"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 257])
@pytest.mark.parametrize("minibatch", [1, 256, None])
def test_any_rollout_size_learns_finite_weights(count: int, minibatch: int | None) -> None:
    policy = make_policy()
    before = weights(policy)
    config = PPOConfig(minibatch=minibatch, passes=1, entropy_coef=0.01)
    stats = update(policy, make_rollout(policy, count), config)
    assert torch.isfinite(weights(policy)).all()
    assert not torch.equal(weights(policy), before)
    assert all(torch.isfinite(value) for value in vars(stats).values())
    assert all(p.grad is None for p in policy.parameters())


def test_without_differences_in_advantage_the_actor_stays() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 64)
    same = replace(rollout, values=rollout.rewards - 0.3)
    assert actor_gradient(policy, same).norm() < 1e-2 * actor_gradient(policy, rollout).norm()


def test_ratios_beyond_float32_do_not_poison_the_weights() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 64)
    rollout = replace(rollout, log_probs=rollout.log_probs - 200)  # exp(200) overflows
    stats = update(policy, rollout, PPOConfig(max_grad_norm=None))
    assert torch.isfinite(weights(policy)).all()
    assert all(torch.isfinite(value) for value in vars(stats).values())


def test_the_entropy_bonus_widens_the_policy() -> None:
    def entropy_after(coefficient: float) -> float:
        policy = make_policy()
        rollout = make_rollout(policy, 256)
        update(policy, rollout, PPOConfig(entropy_coef=coefficient, passes=20, learning_rate=0.01))
        with torch.no_grad():
            return policy.distribution(rollout.states).entropy().mean().item()

    assert entropy_after(10.0) > entropy_after(0.0) + 0.05


def test_gradients_are_cut_to_the_norm() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 64)
    before = weights(policy)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    config = replace(FULL_BATCH, max_grad_norm=0.01)
    ppo_update(policy, optimizer, rollout, config, torch.Generator())
    assert (weights(policy) - before).norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_update_is_a_function_of_its_arguments() -> None:
    config = PPOConfig(minibatch=32)
    results = []
    for seed in (3, 3, 4):
        policy = make_policy()
        update(policy, make_rollout(policy, 200), config, seed=seed)
        results.append(weights(policy))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])  # the generator orders the minibatches


def test_a_saved_agent_goes_on_as_if_never_stopped() -> None:
    config = PPOConfig(minibatch=32)

    def go_on(policy: BetaPolicy, optimizer: torch.optim.Optimizer) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        ppo_update(policy, optimizer, make_rollout(policy, 100, seed=9), config, generator)
        return weights(policy)

    policy = make_policy()
    optimizer = make_optimizer(policy, config)
    ppo_update(policy, optimizer, make_rollout(policy, 100), config, torch.Generator())
    file = io.BytesIO()
    torch.save({"policy": policy.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    resumed = make_policy(seed=1)
    resumed_optimizer = make_optimizer(resumed, config)
    resumed.load_state_dict(saved["policy"])
    resumed_optimizer.load_state_dict(saved["optimizer"])
    assert torch.equal(go_on(resumed, resumed_optimizer), go_on(policy, optimizer))


def test_nothing_waits_for_the_device(no_host_sync: Callable[[], Any]) -> None:
    policy = make_policy()
    config = PPOConfig(minibatch=32)
    optimizer = make_optimizer(policy, config)
    generator = torch.Generator()
    with no_host_sync():
        rollout = make_rollout(policy, 100)
        stats = ppo_update(policy, optimizer, rollout, config, generator)
    assert stats.as_floats()


@pytest.mark.parametrize("minibatch", [32, None])
def test_one_rank_is_the_same_with_or_without_a_collective(minibatch: int | None) -> None:
    config = PPOConfig(minibatch=minibatch)
    alone, identity = make_policy(), make_policy()
    rollout = make_rollout(alone, 200)
    stats_alone = update(alone, rollout, config)
    stats_identity = update(identity, rollout, config, all_reduce_mean=torch.clone)
    assert torch.equal(weights(alone), weights(identity))
    assert stats_alone.as_floats() == stats_identity.as_floats()


class TwoRanks:
    """Two threads that average their tensors, in place as torch.distributed does."""

    def __init__(self) -> None:
        self.meeting = threading.Barrier(2)
        self.brought: list[Tensor] = [torch.empty(0)] * 2

    def run(self, work: Callable[[int, Callable[[Tensor], Tensor]], Any]) -> list[Any]:
        def rank(index: int) -> Any:
            def all_reduce_mean(tensor: Tensor) -> Tensor:
                self.brought[index] = tensor.clone()
                self.meeting.wait()
                tensor.copy_((self.brought[0] + self.brought[1]) / 2)
                self.meeting.wait()
                return tensor

            try:
                return work(index, all_reduce_mean)
            except BaseException:
                self.meeting.abort()  # whoever failed must not leave the other waiting
                raise

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(rank, range(2)))


@pytest.mark.parametrize("minibatch", [32, None])
def test_two_ranks_end_with_the_same_weights(minibatch: int | None) -> None:
    config = PPOConfig(minibatch=minibatch)
    whole = make_rollout(make_policy(), 200)
    # Ranks whose rewards differ in level: normalising each alone would give other advantages.
    whole = replace(whole, rewards=whole.rewards.sort().values)

    def work(index: int, all_reduce_mean: Callable[[Tensor], Tensor]) -> tuple[Tensor, Any]:
        policy = make_policy()
        half = rows(whole, slice(100 * index, 100 * (index + 1)))
        stats = update(policy, half, config, seed=index, all_reduce_mean=all_reduce_mean)
        return weights(policy), stats.as_floats()

    (weights0, stats0), (weights1, stats1) = TwoRanks().run(work)
    assert torch.equal(weights0, weights1)
    assert stats0 == stats1
    if minibatch is None:
        single = make_policy()
        stats = update(single, whole, config)
        assert torch.allclose(weights(single), weights0, atol=1e-4)
        assert stats.as_floats() == pytest.approx(stats0, rel=1e-3, abs=1e-4)
