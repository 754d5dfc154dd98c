# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpointed training run in processes of its own that may kill itself after any batch."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forked_ranks import forkserver, join

EPOCHS = 3
GLOBAL_BATCH = 16


@dataclass
class Outcome:
    """What a run left behind.

    Attributes:
        exit_code: Of the first rank; the others had the same.
        batches: The ids of each batch, of all ranks in order.
        finals: Of a finished run: for each rank the state of model and agent.
        rows: Of a finished run: its history.
        error: What the first rank raised, if it did.
    """

    exit_code: int
    batches: dict[int, list[int]] = field(default_factory=dict)
    finals: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    @property
    def final(self) -> dict[str, Any] | None:
        """The first rank's."""
        return self.finals[0] if self.finals else None


def saved_before(batch: int) -> tuple[str, int]:
    """``save_interval`` and ``kill_after`` of a run of which the batch before is the one saved."""
    return f"{batch - 1}ba", batch


def _full(value: Any) -> Any:
    """Sharded tensors put together."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _train(
    rank: int,
    ranks: int,
    attempt: int,
    shards: str,
    folder: str,
    save_interval: str,
    kill_after: int | None,
    arguments: dict[str, Any],
    launched: bool = False,
) -> None:
    import torch
    import torch.distributed as dist
    from composer.core import Callback
    from digits_run import build_trainer, make_loader, make_map_loader, make_model
    from parallel_runs import parallelism

    from composer_dataagent import DataAgent

    if launched:
        from composer_dataagent.recipes.build import join_ranks

        join_ranks("cpu")
    elif ranks > 1:
        join(rank, ranks, Path(folder, f"rendezvous-{attempt}"))
    # Loader workers watch their parent, which must be the run that is killed: under forkserver,
    # inherited from the test process, they would outlive it.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    log = Path(folder, f"batches-{attempt}-{rank}.jsonl")

    class Log(Callback):
        """Appends every batch's ids; dies without warning when its time has come."""

        def batch_start(self, state: Any, logger: Any) -> None:
            row = [int(state.timestamp.batch), state.train_dataloader.sample_ids.tolist()]
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")

        def batch_checkpoint(self, state: Any, logger: Any) -> None:
            # Callbacks run in the order given and the checkpoint saver comes last, so this kills
            # before the current batch's checkpoint is written.
            if kill_after is not None and int(state.timestamp.batch) == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

        def epoch_checkpoint(self, state: Any, logger: Any) -> None:
            if kill_after is not None and int(state.timestamp.batch) == -kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

    loader_arguments = {"batch_size": GLOBAL_BATCH // ranks, **arguments.pop("loader", {})}
    map_style = loader_arguments.pop("map_style", False)
    trainer_arguments = arguments.pop("trainer", {})
    model, parallel = parallelism(
        arguments.pop("parallel", None), make_model(arguments.pop("dropout", 0.0))
    )
    arguments |= arguments.pop("of_rank", {}).get(rank, {})
    os.chdir(folder)  # the same name for each run, so that agents have one repr
    # However little it learns in a few batches, the agent is what ranks: entropies of a model that
    # has learned nothing either are equal but for what rounding makes of them.
    followed = {"name": "data_agent", "min_fit": -1.0}
    agent = DataAgent(
        **{
            "ratio": 0.5,
            "update_interval": 4,
            "run_dir": "history",
            "selector": followed,
            **arguments,
        }
    )
    try:
        trainer = build_trainer(
            make_map_loader(**loader_arguments)
            if map_style
            else make_loader(shards, **loader_arguments),
            agent,
            model=model,
            callbacks=[Log()],
            **{
                "epochs": EPOCHS,
                "run_name": "killable",
                "save_folder": f"{folder}/checkpoints",
                "save_interval": save_interval,
                "save_num_checkpoints_to_keep": 1,
                "autoresume": True,
                **parallel,
                **trainer_arguments,
            },
        )
        trainer.fit()
    except Exception as error:
        Path(folder, f"error-{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        raise
    weights = {name: _full(value) for name, value in trainer.state.model.state_dict().items()}
    torch.save({"model": weights, "agent": agent.state_dict()}, f"{folder}/final-{rank}.pt")
    if ranks > 1:
        dist.barrier()  # the leader's shared memory must outlive the others
    trainer.close()


def _fork(job: tuple[Any, ...]) -> int:
    """Start the ranks, and give the exit code that they had."""
    context = forkserver()  # no thread of the test process is copied
    processes = [context.Process(target=_train, args=(rank, *job)) for rank in range(job[0])]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    exit_codes = {process.exitcode for process in processes}
    assert len(exit_codes) == 1, exit_codes
    return exit_codes.pop() or 0


def _launch(launcher: Sequence[str], job: tuple[Any, ...]) -> int:
    """Have a launcher start the ranks, and give its exit code."""
    command = [sys.executable, "-m", *launcher, __file__, json.dumps(job)]
    ours = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK")
    # Composer leaves those of this process behind, which may have trained by itself.
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(command, env=environment, check=False).returncode


def run(
    shards: str,
    folder: Path,
    *,
    ranks: int = 1,
    save_interval: str = "1ep",
    kill_after: int | None = None,
    launcher: Sequence[str] = (),
    **arguments: Any,
) -> Outcome:
    """Run (or resume, if ``folder`` holds checkpoints) and wait for the end or the death.

    Args:
        shards: Folder of the MDS shards.
        folder: Where checkpoints, the log of batches and the final state are.
        ranks: How many processes train together, with the same batches.
        save_interval: Composer's time string. ("1ba" makes a run several times slower.)
        kill_after: SIGKILL when this many batches are trained and before they are saved; negative:
            when the epoch that ends with batch ``-kill_after`` is over, before it is saved.
        launcher: A module that starts the ranks, and its arguments. Default: they are forked.
        **arguments: Of DataAgent, and ``of_rank``: those that a rank has for its own; ``dropout``:
            of the model; ``loader``: arguments of the loader, and ``map_style``; ``trainer``: of
            the trainer; ``parallel``: see ``parallel_runs``.
    """
    import torch

    from composer_dataagent.report import read_run

    folder.mkdir(exist_ok=True)
    attempt = len(list(folder.glob("batches-*-0.jsonl")))
    job = (ranks, attempt, shards, str(folder), save_interval, kill_after, arguments)
    outcome = Outcome(_launch(launcher, job) if launcher else _fork(job))
    for earlier in range(attempt + 1):
        logs = sorted(folder.glob(f"batches-{earlier}-*.jsonl"))
        of_ranks = [dict(map(json.loads, log.read_text().splitlines())) for log in logs]
        for batch in of_ranks[0] if of_ranks else []:
            outcome.batches[batch] = [i for ids in of_ranks for i in ids.get(batch, [])]
    if outcome.exit_code > 0:
        outcome.error = Path(folder, "error-0.txt").read_text()
    elif outcome.exit_code == 0:
        # weights_only: the state must load under the rules of Composer's next release.
        outcome.finals = [
            torch.load(folder / f"final-{rank}.pt", weights_only=True) for rank in range(ranks)
        ]
        outcome.rows = read_run(folder / "history").rows
    return outcome


if __name__ == "__main__":
    _train(int(os.environ["RANK"]), *json.loads(sys.argv[1]), launched=True)
