# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpointed training run in a process of its own that may kill itself after any batch."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EPOCHS = 3


@dataclass
class Outcome:
    """What a run left behind: its exit code, and for a finished one its batches and state."""

    exit_code: int
    batches: dict[int, list[int]] = field(default_factory=dict)
    final: dict[str, Any] | None = None


def _train(
    shards: str, folder: str, save_interval: str, kill_after: int | None, arguments: dict[str, Any]
) -> None:
    import torch
    from composer.core import Callback
    from digits_run import build_trainer, make_loader, make_map_loader, make_model

    from composer_dataagent import DataAgent

    # Loader workers watch their parent, which must be the run that is killed: under forkserver,
    # inherited from the test process, they would outlive it.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    log = Path(folder, "batches.jsonl")

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

    loader_arguments = arguments.pop("loader", {})
    map_style = loader_arguments.pop("map_style", False)
    model = make_model(arguments.pop("dropout", 0.0))
    trainer = build_trainer(
        make_map_loader(**loader_arguments)
        if map_style
        else make_loader(shards, **loader_arguments),
        DataAgent(**{"ratio": 0.5, "update_interval": 4, **arguments}),
        model=model,
        epochs=EPOCHS,
        callbacks=[Log()],
        run_name="killable",
        save_folder=f"{folder}/checkpoints",
        save_interval=save_interval,
        save_num_checkpoints_to_keep=1,
        autoresume=True,
    )
    trainer.fit()
    agent = next(a for a in trainer.state.algorithms if isinstance(a, DataAgent))
    torch.save(
        {"model": trainer.state.model.state_dict(), "agent": agent.state_dict()},
        f"{folder}/final.pt",
    )
    trainer.close()


def run(
    shards: str,
    folder: Path,
    *,
    save_interval: str = "1ba",
    kill_after: int | None = None,
    **arguments: Any,
) -> Outcome:
    """Run (or resume, if ``folder`` holds checkpoints) and wait for the end or the death.

    Args:
        shards: Folder of the MDS shards.
        folder: Where checkpoints, the log of batches and the final state are.
        save_interval: Composer's time string.
        kill_after: SIGKILL when this many batches are trained and before they are saved; negative:
            when the epoch that ends with batch ``-kill_after`` is over, before it is saved.
        **arguments: Of DataAgent; ``dropout``: of the model; ``loader``: arguments of the loader,
            and ``map_style``.
    """
    import torch

    folder.mkdir(exist_ok=True)
    # A server that has the imports done forks each run: no thread of the test process is copied.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["digits_run", "composer_dataagent.algorithm"])
    process = context.Process(
        target=_train, args=(shards, str(folder), save_interval, kill_after, arguments)
    )
    process.start()
    process.join()
    assert process.exitcode is not None
    outcome = Outcome(process.exitcode)
    for line in Path(folder, "batches.jsonl").read_text().splitlines():
        batch, ids = json.loads(line)
        outcome.batches[batch] = ids
    final = Path(folder, "final.pt")
    if final.exists():
        # weights_only: the state must load under the rules of Composer's next release.
        outcome.final = torch.load(final, weights_only=True)
    return outcome
