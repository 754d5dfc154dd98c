# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Several ranks: they agree, they select what one process selects, and they go on when killed."""

from __future__ import annotations

import shutil
import signal
from itertools import chain
from pathlib import Path
from typing import Any

import killable_run
import pytest
import torch
from digits_run import NUM_SAMPLES, write_shards
from killable_run import Outcome, saved_before
from same_states import assert_same

# No padding on 2 and 4 ranks, neither of all samples nor of half of them: a sample that is trained
# twice makes another model. Global batches of 16: 13 in the first epoch, 7 in each pruned one.
EVEN = 200
FIRST, PRUNED = 13, 7
TOTAL = FIRST + 2 * PRUNED
# In five rounds of an epoch: the first of all has 40 samples, the others 20 of 40.
IN_ROUNDS = {"interval": "0.2ep", "state": "both"}
ROUND_TOTAL = 3 + 14 * 2
COMPILES = [
    pytest.mark.grid,
    pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler"),
]


@pytest.fixture(scope="module")
def even_shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(str(tmp_path_factory.mktemp("even")), EVEN)


@pytest.fixture(scope="module")
def whole(even_shards: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Uninterrupted runs, each made once."""
    outcomes: dict[str, Outcome] = {}

    def get(ranks: int = 1, parallel: str | None = None, **arguments: Any) -> Outcome:
        key = f"{ranks} {parallel} {arguments}"
        if key not in outcomes:
            folder = tmp_path_factory.mktemp("whole")
            outcomes[key] = killable_run.run(
                even_shards, folder, ranks=ranks, parallel=parallel, **arguments
            )
            assert outcomes[key].exit_code == 0, outcomes[key].error
            total = ROUND_TOTAL if "interval" in arguments else TOTAL
            assert len(outcomes[key].batches) == total
        return outcomes[key]

    return get


def assert_same_batches(one: Outcome, other: Outcome) -> None:
    """Whatever the order within a batch."""
    assert {b: sorted(ids) for b, ids in one.batches.items()} == {
        b: sorted(ids) for b, ids in other.batches.items()
    }


def assert_ranks_agree(outcome: Outcome) -> None:
    for final in outcome.finals[1:]:
        assert_same(final["agent"], outcome.finals[0]["agent"])


def rows_of(outcome: Outcome) -> list[dict[str, Any]]:
    """The history without what ranks sent, which is counted from where a run goes on."""
    counts = ("calls", "bytes")
    return [{k: v for k, v in row.items() if not k.startswith(counts)} for row in outcome.rows]


def assert_killed_goes_on(
    shards: str,
    tmp_path: Path,
    uninterrupted: Outcome,
    kill_after: int,
    save_interval: str,
    arguments: dict[str, Any],
) -> None:
    """A run that is killed and started again ends, on each rank, as the uninterrupted one."""
    run = {"save_interval": save_interval, **arguments}
    killed = killable_run.run(shards, tmp_path / "run", kill_after=kill_after, **run)
    assert killed.exit_code == -signal.SIGKILL
    resumed = killable_run.run(shards, tmp_path / "run", **run)
    assert resumed.exit_code == 0, resumed.error
    assert resumed.batches == uninterrupted.batches
    for mine, expected in zip(resumed.finals, uninterrupted.finals, strict=True):
        assert_same(mine, expected)
    assert_same(rows_of(resumed), rows_of(uninterrupted))


def policy_of(outcome: Outcome) -> torch.Tensor:
    assert outcome.final is not None
    weights = outcome.final["agent"]["learner"]["policy"]
    return torch.cat([weight.flatten() for weight in weights.values()])


# ---------------------------------------------------------------------- what ranks select


@pytest.mark.parametrize(
    ("ranks", "parallel"),
    [
        (2, None),
        (4, None),
        pytest.param(2, "fsdp1", marks=pytest.mark.grid),
        pytest.param(2, "fsdp1-checkpointing", marks=pytest.mark.grid),
        (2, "fsdp2"),
        (2, "fsdp2-full"),
        pytest.param(4, "fsdp2-full", marks=pytest.mark.grid),
        (2, "fsdp2-checkpointing"),
        (1, "compile"),
        pytest.param(2, "compile-fsdp1", marks=pytest.mark.grid),
        pytest.param(2, "compile-fsdp2", marks=pytest.mark.grid),
        pytest.param(1, "compile-inductor", marks=COMPILES),
        pytest.param(2, "compile-inductor-fsdp2", marks=COMPILES),
    ],
)
def test_ranks_train_on_what_one_process_trains_on(
    whole: Any, ranks: int, parallel: str | None
) -> None:
    """In the same batches: weights that differ by rounding have not moved one sample here."""
    alone, together = whole(), whole(ranks, parallel)
    assert_same_batches(together, alone)
    assert_ranks_agree(together)
    # Adam takes full steps where gradients are nothing but rounding, which FSDP2 does its own way.
    close = 2e-3 if parallel and "fsdp2" in parallel else 1e-5
    torch.testing.assert_close(policy_of(together), policy_of(alone), atol=close, rtol=0)


@pytest.mark.parametrize(
    ("ranks", "parallel", "arguments"),
    [
        pytest.param(2, None, {"state": "both"}, marks=pytest.mark.grid),
        (2, "fsdp1", {"state": "features"}),
        (2, "fsdp2", {"state": "features"}),
        (2, "compile-fsdp2", {"state": "features"}),
        pytest.param(1, "compile-inductor", {"state": "features"}, marks=COMPILES),
        (2, None, {"preset": "paper"}),
        pytest.param(4, None, {"preset": "paper"}, marks=pytest.mark.grid),
        (2, None, {"selector": "infobatch"}),
        (2, None, {"selector": {"name": "data_agent", "egress_weight": 0.3}}),
        (2, None, IN_ROUNDS),
        (2, "fsdp2", {"look": True, **IN_ROUNDS}),
        (2, None, {"loader": {"num_workers": 2, "persistent_workers": True}}),
    ],
    ids=str,
)
def test_so_do_other_agents(
    whole: Any, ranks: int, parallel: str | None, arguments: dict[str, Any]
) -> None:
    alone, together = whole(**arguments), whole(ranks, parallel, **arguments)
    assert_same_batches(together, alone)
    assert_ranks_agree(together)


@pytest.mark.parametrize(
    ("launcher", "ranks"),
    [
        (["torch.distributed.run", "--standalone", "--nproc-per-node=2"], 2),
        pytest.param(["composer.cli.launcher", "-n", "4"], 4, marks=pytest.mark.grid),
    ],
    ids=["torchrun", "composer"],
)
def test_whoever_starts_the_ranks(
    even_shards: str, tmp_path: Path, whole: Any, launcher: list[str], ranks: int
) -> None:
    launched = killable_run.run(even_shards, tmp_path / "run", ranks=ranks, launcher=launcher)
    assert launched.exit_code == 0, launched.error
    assert launched.batches == whole(ranks).batches
    assert_same_batches(launched, whole())
    for mine, expected in zip(launched.finals, whole(ranks).finals, strict=True):
        assert_same(mine, expected)


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.grid)])
def test_ranks_agree_on_ragged_data(shards: str, tmp_path: Path, ranks: int) -> None:
    """Each epoch's last batch is smaller, and a few samples come on two ranks."""
    outcome = killable_run.run(shards, tmp_path / "run", ranks=ranks)
    assert outcome.exit_code == 0
    assert_ranks_agree(outcome)
    first = list(chain(*(outcome.batches[batch] for batch in range(FIRST))))
    assert set(first) == set(range(NUM_SAMPLES)) and len(first) == NUM_SAMPLES + 1
    assert outcome.final is not None
    visits = outcome.final["agent"]["ledger"]["visits"]
    assert visits.max() == 3 and visits.min() == 1  # once in an epoch, however often it came


def test_pruned_epochs_differ_from_each_other(whole: Any) -> None:
    """Guards the tests above: a selection that never changes would make them easy."""
    batches = whole().batches
    epochs = [range(FIRST, FIRST + PRUNED), range(FIRST + PRUNED, TOTAL)]
    second, third = ({i for b in epoch for i in batches[b]} for epoch in epochs)
    assert len(second) == len(third) == EVEN // 2 and second != third


@pytest.mark.parametrize(
    ("selector", "what"),
    [("data_agent", "agent after the update"), ("random", "selection for streaming epoch 1")],
)
def test_a_rank_that_goes_astray_is_named(
    even_shards: str, tmp_path: Path, selector: str, what: str
) -> None:
    astray = {2: {"seed": 1}}
    outcome = killable_run.run(
        even_shards, tmp_path / "run", ranks=4, selector=selector, of_rank=astray
    )
    assert outcome.exit_code == 1
    assert f"Ranks [2] have another {what} than rank 0" in outcome.error


def test_tensor_parallelism_is_refused(even_shards: str, tmp_path: Path) -> None:
    outcome = killable_run.run(even_shards, tmp_path / "run", ranks=2, parallel="fsdp1-tp")
    assert outcome.exit_code == 1
    assert "ValueError: DataAgent cannot run with tensor parallelism" in outcome.error


def test_what_ranks_send_each_other_is_counted_and_little(even_shards: str, tmp_path: Path) -> None:
    outcome = killable_run.run(even_shards, tmp_path / "run", ranks=2, save_interval="1ep")
    parameters = policy_of(outcome).numel()
    for row, batches, samples in zip(
        outcome.rows, (FIRST, PRUNED, PRUNED), (100, 50, 50), strict=True
    ):
        updates = round(batches / 4)
        # Rows of all ranks: their number and themselves; moments: two; one flat bucket for each of
        # four passes; the digest.
        assert row["calls_per_step"] == pytest.approx(updates * (2 + 2 + 4 + 1) / batches)
        rows_bytes = samples * (8 + 8 + 3 * 4 + 1 + 4 + 4 + 4 + 4)
        update_bytes = 8 + 32 + 24 + 4 * 4 * (parameters + 5) + 64
        expected = (rows_bytes + updates * update_bytes) / batches
        assert row["bytes_per_step"] == pytest.approx(expected)
        assert row["calls_at_epoch_end"] <= 5 and row["bytes_at_epoch_end"] < 2_000


# ---------------------------------------------------------------------- killed and resumed


@pytest.mark.parametrize(
    ("parallel", "save_interval", "kill_after"),
    [
        (None, "1ba", 2),
        pytest.param(None, "1ba", FIRST - 1, marks=pytest.mark.grid),
        pytest.param(None, "1ba", FIRST, marks=pytest.mark.grid),
        (None, *saved_before(FIRST + 1)),  # from the first epoch's last batch or its end
        pytest.param(None, "1ba", FIRST + 4, marks=pytest.mark.grid),
        (None, "1ep", FIRST + 3),
        ("fsdp1", *saved_before(FIRST + 4)),
        ("fsdp2", "4ba", FIRST + 4),
        pytest.param("fsdp2", "1ba", FIRST + PRUNED + 2, marks=pytest.mark.grid),
        pytest.param("fsdp2", "1ep", FIRST + 3, marks=pytest.mark.grid),
        ("fsdp2-full", *saved_before(FIRST + 4)),
    ],
)
def test_two_killed_ranks_resume_as_if_never_stopped(
    even_shards: str,
    tmp_path: Path,
    whole: Any,
    parallel: str | None,
    save_interval: str,
    kill_after: int,
) -> None:
    arguments = {"ranks": 2, "parallel": parallel, "dropout": 0.3}
    assert_killed_goes_on(
        even_shards, tmp_path, whole(**arguments), kill_after, save_interval, arguments
    )


@pytest.mark.parametrize("kill_after", [3, 8])  # at the end of a round, and inside one
def test_two_ranks_killed_in_rounds(
    even_shards: str, tmp_path: Path, whole: Any, kill_after: int
) -> None:
    arguments = {"ranks": 2, "look": True, **IN_ROUNDS}
    save_interval, kill_after = saved_before(kill_after)
    assert_killed_goes_on(
        even_shards, tmp_path, whole(**arguments), kill_after, save_interval, arguments
    )


@pytest.mark.parametrize(
    ("before", "after", "save_interval"),
    [
        (2, 1, "16ba"),
        pytest.param(1, 2, "1ba", marks=pytest.mark.grid),
        pytest.param(4, 2, "1ba", marks=pytest.mark.grid),
        (2, 4, "16ba"),
        (4, 2, "1ep"),
        pytest.param(1, 4, "1ep", marks=pytest.mark.grid),
    ],
)
def test_other_numbers_of_ranks_go_on_with_the_same_batches(
    even_shards: str, tmp_path: Path, whole: Any, before: int, after: int, save_interval: str
) -> None:
    folder = tmp_path / "run"
    killed = killable_run.run(
        even_shards, folder, ranks=before, save_interval=save_interval, kill_after=FIRST + 4
    )
    assert killed.exit_code == -signal.SIGKILL
    resumed = killable_run.run(even_shards, folder, ranks=after, save_interval=save_interval)
    assert resumed.exit_code == 0, resumed.error
    assert_same_batches(resumed, whole())
    assert_ranks_agree(resumed)
    torch.testing.assert_close(policy_of(resumed), policy_of(whole()), atol=1e-5, rtol=0)
