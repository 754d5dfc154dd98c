# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What DataAgent costs inside a training step, by part, and what a selection of 10 million takes.

    \b
    python tools/bench_overhead.py                              all of it
    python tools/bench_overhead.py --model resnet18_64 --updates 12
    python tools/bench_overhead.py --only select

A real Trainer with DataAgent's defaults trains torchvision's resnets on random images, on one CPU
thread, for one epoch. Shares are of the step without the agent, of the same steps: the time from
BATCH_START to BATCH_END less that in DataAgent. A window is the batches from one of the agent's
updates to the next, with it; figures are medians over windows, the first, in which everything
happens for the first time, left out. What is done at the epoch's end is spread over the epoch's
steps, which are few here. Not seen is what Composer takes to call an algorithm, and the data
loader.

Time is the process's CPU time, which leaves out what other processes do in the middle of a step or
of the agent. Shares by the clock on the wall are given, too (*_wall): where the machine has nothing
else to do, the two agree.

Host synchronisations are counted without a GPU, in a run of its own whose agent lives on a device
that is not there (pretended_gpu.py): each operation of each handler passes by it, and counted are
those for which the host would have waited. Those are reads of values (item(), x[mask], nonzero()),
copies to the host, and copies from it that are not non_blocking. Per step are those in the events
of every batch, per update those of BATCH_END where the agent learns.

Ends with one JSON line.
"""

from __future__ import annotations

import json
import statistics
import time
import tracemalloc
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
import torchvision
from composer import Algorithm, Event, Trainer
from composer.core import State
from composer.loggers import Logger
from composer.models import ComposerClassifier
from pretended_gpu import DEVICE, HOST, OnDevice, PretendedGPU, Reads
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Dataset

from composer_dataagent import DataAgent, judge
from composer_dataagent.agent import Action, Learner, PPOStats
from composer_dataagent.judge import Judge
from composer_dataagent.report.facts import EpochFacts
from composer_dataagent.selection import Ledger, shard_units
from composer_dataagent.selection.selectors import DataAgentSelector
from composer_dataagent.signals import BatchReader

CLASSES = 10
# name -> (torchvision's model, pixels, batch size)
MODELS = {"resnet18_64": ("resnet18", 64, 32), "resnet50_112": ("resnet50", 112, 16)}
ONLY = ("step", "syncs", "select")
SHARD = 1_280  # samples, for selections that weigh what shards they touch
UPDATE, REST, EPOCH_END = "update", "rest", "epoch_end"
BETWEEN_EPOCHS = (Event.EPOCH_END, Event.EPOCH_CHECKPOINT, Event.EPOCH_START)
IN_STEP = (
    Event.BEFORE_DATALOADER,
    Event.BATCH_START,
    Event.BEFORE_TRAIN_BATCH,
    Event.BEFORE_FORWARD,
    Event.AFTER_FORWARD,
    Event.AFTER_TRAIN_BATCH,
    Event.BATCH_END,
)
# What is timed, by part. A part's time is its own: less that of the parts it calls.
PARTS: dict[str, dict[type, tuple[str, ...]]] = {
    "signals": {BatchReader: ("after_forward", "end_pass")},
    "acting": {Learner: ("act", "score"), Judge: ("_state_of",)},
    UPDATE: {Learner: ("learn",)},
    "recording": {
        DataAgent: ("_remember", "_record"),
        Judge: ("sound", "agreement", "score_to_keep"),
    },
    "rewards": {Judge: ("aims",)},
    "facts": {EpochFacts: ("add", "add_actions")},
}


class Images(Dataset):
    """As many random images as wanted, each a view of the same few numbers."""

    def __init__(self, num_samples: int, pixels: int) -> None:
        self.num_samples = num_samples
        self.noise = torch.randn(3, pixels, 2 * pixels)

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        pixels = self.noise.shape[1]
        return self.noise[:, :, at % pixels :][:, :, :pixels], at % CLASSES


def make_trainer(
    model: nn.Module, dataset: Dataset, batch_size: int, agent: Algorithm, **arguments: Any
) -> Trainer:
    """A trainer like any other, on one epoch."""
    return Trainer(
        model=ComposerClassifier(model, num_classes=CLASSES),
        optimizers=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        train_dataloader=DataLoader(dataset, batch_size),
        algorithms=[agent],
        max_duration="1ep",
        device="cpu",
        progress_bar=False,
        seed=1,
        **arguments,
    )


# ---------------------------------------------------------------------- time


@dataclass
class Window:
    """The batches up to an update: seconds without the agent, and in the agent."""

    other: float = 0.0
    other_wall: float = 0.0
    agent_wall: float = 0.0
    parts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def agent(self) -> float:
        """CPU seconds in the agent."""
        return sum(self.parts.values())


class Stopwatch:
    """Times a run of DataAgent from the outside.

    Attributes:
        windows (list[Window]): The last one is still open.
        epoch_end (float): CPU seconds in the agent between two epochs.
        steps (int): Batches trained.
    """

    def __init__(self) -> None:
        self.windows = [Window()]
        self.epoch_end = 0.0
        self.steps = 0
        self._inside: list[float] = []  # of each call that is open: seconds in parts it called

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have all of :data:`PARTS` timed."""
        with ExitStack() as patches:
            for part, owners in PARTS.items():
                for owner, names in owners.items():
                    for name in names:
                        timed = self._timed(part, getattr(owner, name))
                        patches.enter_context(mock.patch.object(owner, name, timed))
            apply = self._watched(self._timed(REST, DataAgent.apply))
            patches.enter_context(mock.patch.object(DataAgent, "apply", apply))
            yield

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - start
                self.windows[-1].parts[part] += took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        return timed

    def _watched(self, apply: Callable[..., None]) -> Callable[..., None]:
        def watched(agent: DataAgent, event: Event, state: State, logger: Logger) -> None:
            if event not in IN_STEP:
                self.windows.append(Window())  # of its own
                apply(agent, event, state, logger)
                apart = self.windows.pop()
                if event in BETWEEN_EPOCHS:
                    self.epoch_end += apart.agent
                return
            window = self.windows[-1]
            if event == Event.BATCH_START:
                window.other -= time.process_time() - window.agent
                window.other_wall -= time.perf_counter() - window.agent_wall
            start = time.perf_counter()
            apply(agent, event, state, logger)
            window.agent_wall += time.perf_counter() - start
            if event == Event.BATCH_END:
                self.steps += 1
                window.other += time.process_time() - window.agent
                window.other_wall += time.perf_counter() - window.agent_wall
                if UPDATE in window.parts:
                    self.windows.append(Window())

        return watched

    def figures(self) -> dict[str, Any]:
        """Shares of the step without the agent."""
        windows = self.windows[1:-1]
        in_window = self.steps / (len(windows) + 1)
        step = statistics.median(window.other for window in windows) / in_window
        parts = {
            part: statistics.median(window.parts[part] / window.other for window in windows)
            for part in [*PARTS, REST]
        }
        parts[EPOCH_END] = self.epoch_end / self.steps / step
        total = statistics.median(window.agent / window.other for window in windows)
        wall = statistics.median(window.agent_wall / window.other_wall for window in windows)
        return {
            "overhead": total + parts[EPOCH_END],
            "overhead_wall": wall + parts[EPOCH_END],
            "step_ms": 1e3 * step,
            "step_wall_ms": 1e3 * statistics.median(w.other_wall for w in windows) / in_window,
            "parts": parts,
        }


def bench_step(name: str, updates: int, interval: int) -> dict[str, Any]:
    """The agent's share of a model's steps."""
    architecture, pixels, batch_size = MODELS[name]
    model = getattr(torchvision.models, architecture)(num_classes=CLASSES)
    dataset = Images(batch_size * interval * (updates + 1), pixels)
    stopwatch = Stopwatch()
    with stopwatch.running():
        agent = DataAgent(update_interval=interval)
        trainer = make_trainer(model, dataset, batch_size, agent)
        trainer.fit()
        trainer.close()
    return {f"{name}_{figure}": value for figure, value in stopwatch.figures().items()}


# ---------------------------------------------------------------------- host synchronisations


class HostLearner(Learner):
    """The agent's networks, on the host: no autograd can be had of a GPU that is not there.

    Reads of values are counted as if they were on it.

    Args:
        *args: As :class:`Learner` takes them.
        gpu (PretendedGPU): Where the caller is.
    """

    def __init__(self, *args: Any, gpu: PretendedGPU) -> None:
        on_host: list[Any] = [HOST if arg == DEVICE else arg for arg in args]
        super().__init__(*on_host)
        self._gpu = gpu

    def act(self, state: Tensor, keys: Tensor) -> Action:
        """See :class:`Learner`."""
        with Reads(self._gpu.waits):
            return to_device(super().act(*to_host((state, keys))))

    def learn(self, state: Tensor, action: Action, aim: Tensor) -> tuple[PPOStats, Tensor]:
        """See :class:`Learner`."""
        with Reads(self._gpu.waits):
            stats, reward = super().learn(*to_host((state, action, aim)))
        return PPOStats(**to_device(vars(stats))), to_device(reward)

    def score(self, state: Tensor) -> Tensor:
        """See :class:`Learner`."""
        with Reads(self._gpu.waits):
            return to_device(super().score(to_host(state)))

    def digest(self) -> str:
        """See :class:`Learner`."""
        self._gpu.waits["copy to the host"] += 1
        return super().digest()


class OnPretendedGPU(DataAgent):
    """DataAgent, as if the model was on a GPU.

    Attributes:
        waits (dict[str, Counter[str]]): What the host waited for in steps, at updates and between
            epochs.
        times (Counter[str]): How many of each there were.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._gpu = PretendedGPU()
        self.waits: dict[str, Counter[str]] = {"step": Counter(), UPDATE: Counter()}
        self.times: Counter[str] = Counter()

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """See :class:`DataAgent`."""
        updates = event == Event.BATCH_END and self._update_is_due(state)
        outputs, batch = state.outputs, state.batch
        state.outputs, state.batch = to_device((outputs, batch))
        self._gpu.waits.clear()
        on_gpu = mock.patch.object(judge, "Learner", partial(HostLearner, gpu=self._gpu))
        with on_gpu, self._gpu, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "User provided device_type of 'cuda'")
            super().apply(event, state, logger)
        state.outputs, state.batch = outputs, batch
        if event in IN_STEP:
            self.waits[UPDATE if updates else "step"] += self._gpu.waits
            self.times["step"] += event == Event.BATCH_START
            self.times[UPDATE] += updates

    def _set_up(self, state: State) -> None:
        # What a model's first parameter says is where the agent goes.
        first = nn.Parameter(OnDevice(torch.zeros(1)), requires_grad=False)
        state.model.register_parameter("first", first)
        super()._set_up(state)
        state.model.register_parameter("first", None)


def to_device(tree: Any) -> Any:
    """All tensors as if they were on the device."""
    return tree_map_only(Tensor, lambda tensor: OnDevice(tensor.detach()), tree)


def to_host(tree: Any) -> Any:
    """Their values."""
    return tree_map_only(OnDevice, lambda tensor: tensor.held, tree)


def bench_syncs(interval: int = 10) -> dict[str, Any]:
    """How often the host waits for the device, of a small model: no layer matters here."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, CLASSES))
    agent = OnPretendedGPU(update_interval=interval)
    trainer = make_trainer(model, Images(8 * 3 * interval, 8), 8, agent)
    trainer.fit()
    trainer.close()
    per = {
        when: {name: count / agent.times[when] for name, count in sorted(waits.items())}
        for when, waits in agent.waits.items()
    }
    return {f"host_syncs_per_{when}": sum(waits.values()) for when, waits in per.items()} | {
        f"host_syncs_per_{when}_by_kind": waits for when, waits in per.items()
    }


# ---------------------------------------------------------------------- selection


def bench_select(samples: int, repeats: int, egress_weight: float) -> dict[str, float]:
    """Half of a ledger's samples, by random scores; none was never seen, none is flagged."""
    rng = np.random.default_rng(0)
    ledger = Ledger(samples)
    for name in ("loss", "entropy", "max_prob", "agreement"):
        getattr(ledger, name)[:] = rng.random(samples, np.float32)
    ledger.label[:] = rng.integers(0, 1_000, samples)
    ledger.last_seen[:] = 0
    ledger.score = rng.random(samples, np.float32)
    shards = np.diff(np.arange(0, samples + SHARD, SHARD).clip(max=samples))
    ledger.units = shard_units(shards, np.ones(len(shards)))
    selector = DataAgentSelector()
    selector.egress_weight = egress_weight
    took, took_wall = [], []
    for seed in track(range(repeats), "selection", console=Console(stderr=True)):
        generator = np.random.default_rng(seed)
        start, start_wall = time.process_time(), time.perf_counter()
        selector.select(ledger, samples // 2, generator)
        took.append(time.process_time() - start)
        took_wall.append(time.perf_counter() - start_wall)
    tracemalloc.start()  # not while the time counts
    selector.select(ledger, samples // 2, np.random.default_rng(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    scale = f"select_{samples // 1_000_000}m" if samples >= 1_000_000 else "select"
    return {
        f"{scale}_ns_per_sample": 1e9 * statistics.median(took) / samples,
        f"{scale}_wall_ns_per_sample": 1e9 * statistics.median(took_wall) / samples,
        f"{scale}_peak_bytes_per_sample": peak / samples,
    }


# ---------------------------------------------------------------------- command


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(ONLY), multiple=True, help="Parts to run.")
@click.option("--model", type=click.Choice(list(MODELS)), multiple=True, help="Default: all.")
@click.option(
    "--updates", type=click.IntRange(1), default=6, show_default=True, help="Windows to measure."
)
@click.option(
    "--update-interval",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Batches in a window; the agent's default.",
)
@click.option("--samples", default=10_000_000, show_default=True, help="Of the selection.")
@click.option(
    "--egress-weight", default=0.0, show_default=True, help="Of the selection, in shards of 1,280."
)
@click.option("--repeats", default=3, show_default=True, help="Of the selection.")
def main(
    only: tuple[str, ...],
    model: tuple[str, ...],
    updates: int,
    update_interval: int,
    samples: int,
    egress_weight: float,
    repeats: int,
) -> None:
    """Run the parts, print their tables, and all figures as one line of JSON."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # Composer's, about what is no concern here
    figures: dict[str, Any] = {}
    if "step" in (only or ONLY):
        names = model or tuple(MODELS)
        for name in names:
            figures |= bench_step(name, updates, update_interval)
        table = Table("% of the step without agent", *names)
        for part in [*PARTS, REST, EPOCH_END]:
            shares = [figures[f"{name}_parts"][part] for name in names]
            table.add_row(part, *(f"{100 * share:.3f}" for share in shares))
        for total in ("overhead", "overhead_wall"):
            table.add_row(total, *(f"{100 * figures[f'{name}_{total}']:.3f}" for name in names))
        table.add_row("step, ms", *(f"{figures[f'{name}_step_ms']:.0f}" for name in names))
        Console().print(table)
    others: dict[str, Any] = {}
    if "syncs" in (only or ONLY):
        others |= bench_syncs()
    if "select" in (only or ONLY):
        others |= bench_select(samples, repeats, egress_weight)
    for name, figure in others.items():
        print(name, figure)
    print(json.dumps(figures | others))


if __name__ == "__main__":
    main()
