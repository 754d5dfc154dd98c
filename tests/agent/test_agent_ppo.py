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
    sample_keys,
)

STATE_DIM = 5
ONE_STEP = PPOConfig(passes=1, max_grad_norm=None)


def make_policy(seed: int = 0) -> BetaPolicy:
    policy = BetaPolicy(STATE_DIM, hidden=(16, 16), seed=seed)
    # As if it had learnt for a while: a fresh actor's output layer lets little gradient through.
    with torch.no_grad():
        policy.actor[-1].weight *= 50  # type: ignore[operator]
    return policy


def make_rollout(policy: BetaPolicy, count: int, seed: int = 0) -> Rollout:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(count, STATE_DIM, generator=generator)
    keys = sample_keys(seed, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    action, log_prob, value, *_ = policy.act(states, keys)
    aim = torch.rand(count, generator=generator)
    return Rollout(states, action, log_prob, value, budget_reward(action, aim))


def rows(rollout: Rollout, keep: slice) -> Rollout:
    return Rollout(*(getattr(rollout, f.name)[keep] for f in fields(Rollout)))


def weights(policy: BetaPolicy) -> Tensor:
    return torch.cat([p.detach().flatten() for p in policy.parameters()])


def update(
    policy: BetaPolicy,
    rollout: Rollout,
    config: PPOConfig,
    all_reduce_sum: Callable[[Tensor], Tensor] | None = None,
) -> PPOStats:
    return ppo_update(policy, make_optimizer(policy, config), rollout, config, all_reduce_sum)


def actor_gradient(policy: BetaPolicy, rollout: Rollout) -> Tensor:
    """What one full-batch step of plain gradient descent does to the actor."""
    policy = copy.deepcopy(policy)
    before = torch.cat([p.detach().flatten() for p in policy.actor.parameters()])
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    ppo_update(policy, optimizer, rollout, ONE_STEP)
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
        update(policy, rows(make_rollout(policy, 4), slice(0, 0)), PPOConfig())


@pytest.mark.parametrize(
    "bad",
    [
        {"clip": 0.0},
        {"passes": 0},
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
    stats = update(policy, make_rollout(policy, 100), ONE_STEP)
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
        stats = update(make_policy(), replace(rollout, values=values), ONE_STEP)
        return stats.explained_variance.item()

    assert explained(rollout.rewards.clone()) == pytest.approx(1.0)
    assert explained(torch.full((200,), 0.3)) == pytest.approx(0.0, abs=1e-4)
    assert explained(-rollout.rewards) == pytest.approx(-3.0, abs=1e-3)
    constant = replace(rollout, rewards=torch.full((200,), -0.1))
    assert update(policy, constant, ONE_STEP).explained_variance.item() == 0


def test_the_other_diagnostics_are_what_they_say() -> None:
    policy = make_policy()
    rollout = make_rollout(policy, 300)
    with torch.no_grad():
        entropy = policy.distribution(rollout.states).entropy().mean()
        value_loss = 0.5 * (policy.value(rollout.states) - rollout.rewards).square().mean()
    stats = update(policy, rollout, ONE_STEP)
    assert all(getattr(stats, f.name).shape == () for f in fields(stats))
    floats = stats.as_floats()
    assert floats == {f.name: getattr(stats, f.name).item() for f in fields(stats)}
    assert floats["entropy"] == pytest.approx(entropy.item(), rel=1e-4)
    assert floats["value_loss"] == pytest.approx(value_loss.item(), rel=1e-4)
    assert floats["action_mean"] == pytest.approx(rollout.actions.mean().item(), rel=1e-5)
    expected = rollout.actions.std(correction=0).item()
    assert floats["action_std"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 257])
def test_any_rollout_size_learns_finite_weights(count: int) -> None:
    policy = make_policy()
    before = weights(policy)
    config = PPOConfig(passes=1, entropy_coef=0.01)
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
    config = replace(ONE_STEP, max_grad_norm=0.01)
    ppo_update(policy, optimizer, rollout, config)
    assert (weights(policy) - before).norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_update_is_a_function_of_its_arguments() -> None:
    results = []
    for seed in (3, 3, 4):
        policy = make_policy()
        update(policy, make_rollout(policy, 200, seed), PPOConfig())
        results.append(weights(policy))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_saved_agent_goes_on_as_if_never_stopped() -> None:
    config = PPOConfig()

    def go_on(policy: BetaPolicy, optimizer: torch.optim.Optimizer) -> Tensor:
        ppo_update(policy, optimizer, make_rollout(policy, 100, seed=9), config)
        return weights(policy)

    policy = make_policy()
    optimizer = make_optimizer(policy, config)
    ppo_update(policy, optimizer, make_rollout(policy, 100), config)
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
    config = PPOConfig()
    optimizer = make_optimizer(policy, config)
    with no_host_sync():
        rollout = make_rollout(policy, 100)
        stats = ppo_update(policy, optimizer, rollout, config)
    assert stats.as_floats()


def test_one_rank_is_the_same_with_or_without_a_collective() -> None:
    alone, identity = make_policy(), make_policy()
    rollout = make_rollout(alone, 200)
    stats_alone = update(alone, rollout, PPOConfig())
    stats_identity = update(identity, rollout, PPOConfig(), all_reduce_sum=torch.clone)
    assert torch.equal(weights(alone), weights(identity))
    assert stats_alone.as_floats() == stats_identity.as_floats()


class Threads:
    """Threads that sum their tensors, in place as torch.distributed does, and count how often."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.meeting = threading.Barrier(ranks)
        self.brought: list[Tensor] = [torch.empty(0)] * ranks
        self.calls = 0

    def run(self, work: Callable[[int, Callable[[Tensor], Tensor]], Any]) -> list[Any]:
        def rank(index: int) -> Any:
            def all_reduce_sum(tensor: Tensor) -> Tensor:
                self.brought[index] = tensor.clone()
                self.calls += index == 0
                self.meeting.wait()
                tensor.copy_(torch.stack(self.brought).sum(0))
                self.meeting.wait()
                return tensor

            try:
                return work(index, all_reduce_sum)
            except BaseException:
                self.meeting.abort()  # whoever failed must not leave the other waiting
                raise

        with ThreadPoolExecutor(self.ranks) as pool:
            return list(pool.map(rank, range(self.ranks)))


@pytest.mark.parametrize("cuts", [(100,), (1,), (0,), (7, 130, 199), (200,)])
def test_ranks_with_any_numbers_of_rows_end_as_one_rank_with_all(cuts: tuple[int, ...]) -> None:
    whole = make_rollout(make_policy(), 200)
    # Ranks whose rewards differ in level: normalising each alone would give other advantages.
    whole = replace(whole, rewards=whole.rewards.sort().values)
    bounds = [0, *cuts, 200]

    def work(index: int, all_reduce_sum: Callable[[Tensor], Tensor]) -> tuple[Tensor, Any]:
        policy = make_policy()
        part = rows(whole, slice(bounds[index], bounds[index + 1]))
        stats = update(policy, part, PPOConfig(), all_reduce_sum=all_reduce_sum)
        return weights(policy), stats.as_floats()

    threads = Threads(len(cuts) + 1)
    results = threads.run(work)
    assert threads.calls == 2 + PPOConfig().passes
    single = make_policy()
    stats = update(single, whole, PPOConfig()).as_floats()
    for weights_of_rank, stats_of_rank in results:
        assert torch.equal(weights_of_rank, results[0][0])
        assert stats_of_rank == results[0][1]
        torch.testing.assert_close(weights_of_rank, weights(single), atol=1e-4, rtol=0)
        assert stats_of_rank == pytest.approx(stats, rel=1e-3, abs=1e-4)
