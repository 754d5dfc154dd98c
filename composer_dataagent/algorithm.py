# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``DataAgent``: Composer's events in, the rooms of this package called."""

from __future__ import annotations

import functools
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from composer.core import Algorithm, Event, State, TimeUnit
from composer.loggers import Logger
from composer.utils import dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from composer_dataagent import collectives
from composer_dataagent.agent import REWARDS, is_settled
from composer_dataagent.checks import is_whole, require
from composer_dataagent.collectives import GatheredRows, Ranks, Traffic
from composer_dataagent.companions import refuse_batches, refuse_companions
from composer_dataagent.fetched import Fetched
from composer_dataagent.journal import Journal
from composer_dataagent.judge import STATES, Judge
from composer_dataagent.learning_rate import follow_training_progress
from composer_dataagent.look import look, share_of_rank
from composer_dataagent.nonfinite import ON_NONFINITE, NonfiniteWatch
from composer_dataagent.presets import PRESETS, Preset
from composer_dataagent.random_state import ResumedRandomness, take_random_state
from composer_dataagent.report import History, choose_samples, group_shards
from composer_dataagent.rounds import Schedule, Timetable, rounds_per_epoch
from composer_dataagent.selection import (
    LEDGER_COLUMNS,
    Ledger,
    RatioSchedule,
    Selection,
    Selector,
    Units,
    build_selector,
    foresee,
    shard_units,
)
from composer_dataagent.signals import (
    BatchReader,
    FeatureHook,
    Signals,
    SignalsFn,
    TokenOptions,
    checked,
    detect_signals,
    find_head,
    find_mixer,
    has_decoder_of_its_own,
    scale_gradient,
)
from composer_dataagent.streaming import FETCHES, Attachment, Costs, attach
from composer_dataagent.version import __version__
from composer_dataagent.visits import VisitBuffer, Visits, require_ranges

log = logging.getLogger(__name__)

STATE_VERSION = 7
# What ranks tell each other of visits, and is no column of the ledger.
_NOT_RECORDED = ("ids", "step", "nonfinite", "mean_action")


class DataAgent(Algorithm):
    """Train on the samples that are worth it now, and stream only those.

    Implements and goes beyond "Data Agent: Learning to Select Data via End-to-End Dynamic
    Optimization" (arXiv 2603.07433). Runs on :attr:`.Event.FIT_START` (attaches to the streaming
    dataset), around every forward pass (reads per-sample loss and entropy), on
    :attr:`.Event.BATCH_END` (every few batches: actions, rewards and a PPO update) and on
    :attr:`.Event.EPOCH_END` (selects what the next epoch serves). Nothing that the trainer, the
    model, metrics or other algorithms see is changed, and no global random state is used: with
    ``ratio=1.0`` training is bit-identical to a run without the algorithm (but for a
    ``RandomSampler`` over map-style data, whose order then depends on the run's seed and the epoch
    alone). With several ranks, all of them hold the same ledger, agent and selection.

    Args:
        ratio (float): Share of the samples that an epoch trains on, in (0, 1]. Default: ``0.5``.
        preset (str): ``default`` (see the method card) or ``paper`` (as published, with
            the shapes right). Arguments left at ``None`` take the preset's value.
        selector (str | dict | Selector | None): Which rule picks the next epoch's samples: a name
            (``composer-dataagent selectors`` lists them), ``{name: ..., **arguments}``, or an
            object. Default: ``data_agent``.
        state (str | None): What the policy sees of a sample: its ``signals`` (nine numbers),
            the ``features`` that enter the model's head (the paper's state), or ``both``.
        reward (str | None): ``budget``: minus the squared distance of action and batch rank of the
            target; ``paper``: action times composite reward.
        interval (str | None): Select several times in an epoch: ``"0.1ep"``, or ``"2000ba"``
            (batches of the full data). For data that are seen once, or too many to wait for an
            epoch's end. An epoch is then cut into equal rounds, each of which chooses from its own
            part of the data, and a round takes an epoch's place in ``warmup_epochs``, ``schedule``
            and the history. Default: ``None``, once an epoch.
        look (bool): Begin each pruned round (or epoch) with a forward pass over all that it chooses
            from. Costly: see the method card. Without it, a sample that was never seen is judged
            by what others of its shard and stream showed. Default: ``False``.
        warmup_epochs (int | None): Full epochs (or rounds) at the start. Default: ``1``.
        anneal (float | None): Share of training at the end that sees full epochs, in [0, 1).
        schedule (Callable[[int, float], float] | None): ``(epoch, progress) -> ratio`` for the
            epoch (or round, counted over all epochs) about to start, instead of ``ratio``,
            ``warmup_epochs`` and ``anneal``.
        rescale (bool | None): Multiply gradients by ``1 / ratio`` in pruned epochs (the paper's
            loss weight).
        update_interval (int | None): Batches between PPO updates, about: an epoch is cut evenly, so
            that its last batch ends with one. Default: ``10``.
        head (str | None): Dotted path of the model's head, whose input is the feature embedding.
            Default: found by itself where ``state`` needs it.
        signals (Callable | dict | None): ``(outputs, batch) -> Signals(loss[B], entropy[B])`` for
            models that are neither classifiers nor predict tokens; or how sequences of tokens are
            read, ``{compile: bool, max_tokens: int}``, see
            :class:`~composer_dataagent.signals.TokenOptions`. Default: found from the model.
        on_nonfinite (str): What to do about samples for which a forward pass gave NaN or an
            infinity. ``skip``: they count as seen, nothing that is known of them changes, one
            warning is logged an epoch. ``raise``: an error when their numbers reach the host, at
            the next PPO update or the epoch's end. Default: ``skip``.
        fetch (str): Of streaming data with a remote, what is fetched. ``shards``: whole shards, of
            which something is selected. ``samples``: what is selected and little else, by ranges,
            where that costs less, see ``docs/guides/object_storage.md``. A run may go on with the
            other one. Default: ``shards``.
        costs (Costs | Mapping[str, Any] | None): Prices of bytes and requests, by which it is
            decided how a shard is fetched, and reckoned what an epoch cost:
            ``{dollars_per_gb: 0.05}``, see :class:`~composer_dataagent.streaming.Costs`. Default:
            list prices of a large cloud.
        seed (int): Seeds policy weights, exploration and selection. Default: ``0``.
        run_dir (str | None): Folder for the machine-readable history, from which
            ``composer-dataagent report`` makes a page. Default: no history is written.
        class_names (list[str] | None): Names of the labels ``0, 1, ...`` for the report.
        overwrite (bool): Replace a history that another run, or one of the same name with other
            settings, left in ``run_dir``. Default:
            ``False``.

    Raises:
        ValueError: An argument is out of its range (the message names the accepted values); at
            FIT_START: fewer selected samples than a global batch, a head that cannot be found,
            an algorithm beside it that changes which samples are in a batch (see the method card),
            or a second DataAgent.
        TypeError: At FIT_START: the training loader is no ``DataLoader`` over a
            ``StreamingDataset`` or a map-style dataset, or the model's outputs are not understood
            and ``signals`` is not given.
        RuntimeError: While training, see ``on_nonfinite``.

    Example:
        >>> import torch
        >>> from composer import Trainer
        >>> from composer.models import ComposerClassifier
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from composer_dataagent import DataAgent
        >>> data = TensorDataset(torch.randn(96, 4), torch.randint(2, (96,)))
        >>> trainer = Trainer(
        ...     model=ComposerClassifier(torch.nn.Linear(4, 2), num_classes=2),
        ...     train_dataloader=DataLoader(data, batch_size=8, shuffle=True),
        ...     max_duration="3ep",
        ...     algorithms=[DataAgent(ratio=0.5)],
        ... )
        >>> trainer.fit()
        >>> int(trainer.state.timestamp.sample)  # an epoch of all 96, and two of half of them
        192
    """

    def __init__(
        self,
        ratio: float = 0.5,
        *,
        preset: str = "default",
        selector: str | dict[str, Any] | Selector | None = None,
        state: str | None = None,
        reward: str | None = None,
        interval: str | None = None,
        look: bool = False,
        warmup_epochs: int | None = None,
        anneal: float | None = None,
        schedule: Schedule | None = None,
        rescale: bool | None = None,
        update_interval: int | None = None,
        head: str | None = None,
        signals: SignalsFn | dict[str, Any] | None = None,
        on_nonfinite: str = "skip",
        fetch: str = "shards",
        costs: Costs | Mapping[str, Any] | None = None,
        seed: int = 0,
        run_dir: str | None = None,
        class_names: list[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        require(preset in PRESETS, "preset", preset, f"one of {sorted(PRESETS)}")
        chosen = {
            name: value
            for name, value in {
                "state": state,
                "reward": reward,
                "warmup_epochs": warmup_epochs,
                "anneal": anneal,
                "rescale": rescale,
                "update_interval": update_interval,
            }.items()
            if value is not None
        }
        settings: Preset = replace(PRESETS[preset], **chosen)
        if head is not None and settings.state == "signals":
            raise ValueError(
                f"DataAgent: head={head!r} names where features come from, but state='signals' "
                "uses none: add state='features' or 'both', or remove head"
            )
        require(settings.state in STATES, "state", settings.state, f"one of {list(STATES)}")
        require(settings.reward in REWARDS, "reward", settings.reward, f"one of {list(REWARDS)}")
        require(
            is_whole(settings.update_interval) and settings.update_interval >= 1,
            "update_interval",
            settings.update_interval,
            "a whole number of batches, at least 1",
        )
        require(
            on_nonfinite in ON_NONFINITE,
            "on_nonfinite",
            on_nonfinite,
            f"one of {list(ON_NONFINITE)}",
        )
        require(fetch in FETCHES, "fetch", fetch, f"one of {list(FETCHES)}")
        booleans = {"rescale": settings.rescale, "overwrite": overwrite, "look": look}
        for name, value in booleans.items():
            require(isinstance(value, bool), name, value, "True or False")
        require(schedule is None or callable(schedule), "schedule", schedule, "a function")
        for name, value in {"head": head, "run_dir": run_dir}.items():
            require(value is None or isinstance(value, str | os.PathLike), name, value, "text")
        require(is_whole(seed) and seed >= 0, "seed", seed, "a whole number, 0 or more")
        require(
            class_names is None
            or (isinstance(class_names, Sequence) and not isinstance(class_names, str)),
            "class_names",
            class_names,
            "a list with the name of each label",
        )
        self.ratio = ratio
        self.preset = preset
        self.settings = settings
        self.schedule: Schedule = schedule or RatioSchedule(
            ratio, settings.warmup_epochs, settings.anneal
        )
        self.selector = build_selector(_merge(settings.selector, selector))
        rounds_per_epoch(interval)  # what is wrong with it shows now
        if self.selector.is_blind and look:
            raise ValueError(
                f"DataAgent: selector={self.selector.name!r} uses nothing of what look=True would "
                "show it, at a third of the cost of training on all candidates: remove look"
            )
        if self.selector.remembers and (interval is not None or look):
            raise ValueError(
                f"DataAgent: selector={self.selector.name!r} keeps its own record of all samples "
                "and chooses from all of them, which interval and look do not let it do: use "
                "another selector, or remove them"
            )
        self.interval = interval
        self.look = look
        self.fetch = fetch
        self.costs = _costs(costs)
        self.seed = int(seed)
        self.head = head
        self.run_dir = run_dir
        self.class_names = None if class_names is None else [str(name) for name in class_names]
        self.overwrite = overwrite
        self._signals_fn: SignalsFn | None = signals if callable(signals) else None
        self._token_options = _token_options(None if callable(signals) else signals)
        self._nonfinite = NonfiniteWatch(on_nonfinite)
        self._arguments = {
            "ratio": ratio,
            "preset": preset,
            "selector": selector,
            **chosen,
            "interval": interval,
            "look": look or None,
            "schedule": schedule,
            "head": head,
            "signals": signals,
            "on_nonfinite": on_nonfinite,
            "fetch": None if fetch == "shards" else fetch,
            "costs": costs,
            "seed": seed,
            "run_dir": run_dir,
            "class_names": class_names,
            "overwrite": overwrite,
        }
        self._history: History | None = None
        self._loaded: dict[str, Any] | None = None
        self._randomness: ResumedRandomness | None = None
        self._attachment: Attachment | None = None
        self._device = torch.device("cpu")  # the model's, once it is known

    def __repr__(self) -> str:
        # A function by its name: its own repr is an address, another one in each process.
        given = ", ".join(
            f"{name}={getattr(value, '__qualname__', None) or repr(value)}"
            for name, value in self._arguments.items()
            if value is not None
        )
        return f"{type(self).__name__}({given})"

    # ------------------------------------------------------------------ events

    def match(self, event: Event, state: State) -> bool:
        """Whether :meth:`apply` has something to do at ``event``."""
        del state
        return event in self._HANDLERS

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """Handle ``event``; the time spent is counted as the agent's overhead."""
        start = time.perf_counter()
        if torch.is_autocast_enabled(self._device.type):
            # Around fit(), it is meant for the model: it would reach the agent, too.
            with torch.autocast(self._device.type, enabled=False):
                self._HANDLERS[event](self, state, logger)
        else:
            self._HANDLERS[event](self, state, logger)
        if self._attachment is not None:
            self._journal.add_agent_time(time.perf_counter() - start)

    def _init(self, state: State, logger: Logger) -> None:
        del logger
        _reject_conflicting_algorithms(state)

    def _fit_start(self, state: State, logger: Logger) -> None:
        del logger
        _reject_conflicting_algorithms(state)
        if state.tp_config is not None:
            raise ValueError(
                "DataAgent cannot run with tensor parallelism (parallelism_config['tp']), where "
                "several ranks work on the same samples: use FSDP or DDP"
            )
        self._check_loader(state)
        if self._attachment is None:
            self._set_up(state)
        refuse_batches(
            state,
            self._times.possible_sizes(),
            self._times.per_epoch,
            self._loader,
            collectives.world_size(),
        )
        self._mixer = find_mixer(state.algorithms)
        self._take_up_selection(state)
        follow_training_progress(
            state, self._full_batches, self.num_samples, self._global_batch_size()
        )
        # Composer read the length before the selection was known (and before a checkpoint was).
        state.dataloader_len = -1
        # A streaming dataset keeps its own place: iterating it up to the current epoch, as Composer
        # does in a second fit(), would move it on.
        state.dataset_resumption["train"] = True
        if self.run_dir is not None and collectives.rank() == 0:
            # One object over several fits: it knows what is its own.
            self._history = self._history or History(self.run_dir, overwrite=self.overwrite)
            number = self._times.number
            resumed = number > 0 or int(state.timestamp.batch) > 0  # Composer's clock may be at 0
            self._history.begin(self._meta(state), number, resumed)
        self._journal.begin_fit(self._history)
        self._count_from(state)

    def _epoch_start(self, state: State, logger: Logger) -> None:
        del logger
        self._journal.start_clock()
        self._count_from(state)

    def _before_dataloader(self, state: State, logger: Logger) -> None:
        del state, logger
        if self._randomness is not None:
            self._randomness.before_batch()

    def _batch_start(self, state: State, logger: Logger) -> None:
        del state, logger
        ids = self._loader.sample_ids  # type: ignore[attr-defined]  # set by streaming.attach
        self._ids: Tensor = ids
        selected = self._mask[ids.numpy()]
        if not selected.all():
            outside = ~selected
            raise RuntimeError(
                f"The loader served {int(outside.sum())} samples that are not selected in this "
                f"epoch, for example id {int(ids[int(outside.argmax())])}. Do not iterate over the "
                "training dataset from elsewhere while a run with DataAgent goes on."
            )
        self._reader.begin_batch()

    def _before_train_batch(self, state: State, logger: Logger) -> None:
        # Fires again when an out-of-memory batch is retried, and for SAM's second pass.
        del logger
        self._reader.begin_pass(state.device_train_microbatch_size)

    def _before_forward(self, state: State, logger: Logger) -> None:
        del state, logger
        self._reader.before_forward()

    def _after_forward(self, state: State, logger: Logger) -> None:
        del logger
        mixing = None if self._mixer is None else self._mixer.read()
        rows = self._reader.after_forward(state.outputs, state.batch, mixing)
        weights = self._gradient_weights(rows)
        if weights is not None:
            scale_gradient(state.outputs, weights if mixing is None else mixing.of_rows(weights))

    def _after_train_batch(self, state: State, logger: Logger) -> None:
        del logger
        read = self._reader.end_pass(len(self._ids))
        if read is not None:
            self._remember(*read, state)

    def _batch_end(self, state: State, logger: Logger) -> None:
        self._inside_epoch = True
        if self._update_is_due(state):
            self._update()
        if self._journal.beat_is_due:
            self._journal.beat(self._times.epochs_done(self._part_of_round(state)))
        is_at_end = int(state.timestamp.batch_in_epoch) == self._round_end
        if is_at_end and not self._times.is_last:
            self._end_round(state, logger)

    def _batch_checkpoint(self, state: State, logger: Logger) -> None:
        # After the evaluators between two batches, before the checkpoint is written.
        del state, logger
        if self._journal.row is not None:  # a round has just ended
            self._journal.write(self._ledger_columns())

    def _epoch_end(self, state: State, logger: Logger) -> None:
        self._inside_epoch = False
        if not self._times.is_last:
            raise RuntimeError(
                f"The epoch ended in round {self._times.at + 1} of {self._times.per_epoch}: the "
                "loader stopped early. Look for an earlier error of the data loader."
            )
        self._end_round(state, logger)

    def _end_round(self, state: State, logger: Logger) -> None:
        """All selected samples were served: learn from them, tell of them, select the next ones."""
        ended = self._times.name()
        self._update()  # where the loader gave fewer batches than it said
        before_epoch_end = self._ranks.traffic
        self._check_everything_was_served()
        self.ledger.refresh_flags()
        self._judge.refresh_classes()
        row = self._describe_round(state)
        self._times.number += 1
        self._select(state)
        # The selection was made for the old one.
        self._judge.choose_target(self._times.progress(state), ended)
        # With what was fetched for a look at what the coming round could choose from, as its time.
        row |= self._fetched.of_epoch()
        self._fetched.begin_epoch()
        self._fetch_ahead(state)
        row |= self._communication(state, before_epoch_end)
        self._count_from(state)
        self._journal.open_row(row)
        facts = row | {f"ppo/{name}": value for name, value in row["ppo"].items()}
        logger.log_metrics(
            {
                f"data_agent/{name}": float(value)
                for name, value in (facts | self._journal.times()).items()
                if isinstance(value, int | float)
            }
        )

    def _tell_of_savings(self, state: State, attachment: Attachment) -> None:
        # Several nodes get other parts of the data in each epoch; a run that goes on may do so
        # where nothing is there yet.
        is_one_node = dist.get_world_size() == dist.get_local_world_size()
        if not is_one_node or state.timestamp.batch > 0 or not attachment.has_remote():
            return
        keeps_all = not attachment.dataset.cache_limit
        if self.fetch == "samples" and keeps_all and self.schedule(0, 0.0) == 1:
            log.warning(
                "fetch='samples' saves nothing in this run: its first epoch is full, and the cache "
                "keeps all of it. Give the StreamingDataset a cache_limit below the size of the "
                "data; `composer-dataagent plan` tells what that saves"
            )

    def _fetch_ahead(self, state: State) -> None:
        """Fetch for the coming epoch, if there is one, and it does not begin at once."""
        assert self._attachment is not None
        done = state.get_elapsed_duration()
        if self._times.at == 0 and (done is None or done < 1):
            self._attachment.fetch_ahead()

    def _eval_before_all(self, state: State, logger: Logger) -> None:
        del logger
        # Evaluators that run at the epoch's end put the training loader back with the length that
        # they found.
        if self._attachment is not None and not self._inside_epoch:
            self._refresh_length(state)

    def _refresh_length(self, state: State) -> None:
        """Have Composer, which keeps the loader's length, ask for that of the coming epoch.

        Not at EPOCH_END: loggers still tell of the epoch that ended.
        """
        if state.dataloader is self._loader:
            state.dataloader_len = -1

    def _eval_end(self, state: State, logger: Logger) -> None:
        del logger
        if self._attachment is not None:
            self._journal.record_evaluation(state)

    def _epoch_checkpoint(self, state: State, logger: Logger) -> None:
        # After the evaluators of the epoch's end, before the checkpoint is written.
        del logger
        self._refresh_length(state)
        self._journal.write(self._ledger_columns())

    def _fit_end(self, state: State, logger: Logger) -> None:
        del logger
        if self._times.inside(state):
            # Stopped inside an epoch: what was trained in it counts, and is told.
            visits = self._visits.peek()  # another fit() may go on, and learn from them
            if visits is not None:
                visits = self._judge.sound(visits)
                self._record(visits, self._judge.agreement(visits), None, None)
            row = self._describe_round(state, self._part_of_round(state)) | self._fetched.of_epoch()
            self._journal.open_row(row)
            self._journal.write(self._ledger_columns())
        if self._randomness is not None:
            self._randomness.end()
        self._journal.end_fit()
        self._keep_samples()
        self._journal.end_run()

    def _part_of_round(self, state: State) -> float:
        """How much of the running round is trained."""
        return min(self._times.sample_in_round(state) / len(self._selected.ids), 1.0)

    def _keep_samples(self) -> None:
        """Keep a few samples for the report: those that are worth a look."""
        if not self._journal.is_written or self._attachment is None:
            return
        chosen = choose_samples(self._ledger_columns())
        try:
            samples = {i: self._to_show(i) for ids in chosen.values() for i in ids}
            self._journal.write_samples(samples)
        except Exception:
            # The training is done and saved: a picture is not worth an error now.
            log.warning("The report has no samples to show, for they cannot be read", exc_info=True)

    def _to_show(self, sample_id: int) -> dict[str, Any]:
        """A sample's columns, and its text, if its dataset can tell it (of tokens, say)."""
        assert self._attachment is not None
        columns = self._attachment.raw_sample(sample_id)
        text_of = getattr(self._attachment.dataset, "text_of", None)
        return columns if text_of is None else {"text": text_of(columns), **columns}

    _HANDLERS: ClassVar[Mapping[Event, Callable[..., None]]] = {
        Event.INIT: _init,
        Event.FIT_START: _fit_start,
        Event.EPOCH_START: _epoch_start,
        Event.BEFORE_DATALOADER: _before_dataloader,
        Event.BATCH_START: _batch_start,
        Event.BEFORE_TRAIN_BATCH: _before_train_batch,
        Event.BEFORE_FORWARD: _before_forward,
        Event.AFTER_FORWARD: _after_forward,
        Event.AFTER_TRAIN_BATCH: _after_train_batch,
        Event.BATCH_END: _batch_end,
        Event.BATCH_CHECKPOINT: _batch_checkpoint,
        Event.EPOCH_END: _epoch_end,
        Event.EVAL_BEFORE_ALL: _eval_before_all,
        Event.EVAL_END: _eval_end,
        Event.EPOCH_CHECKPOINT: _epoch_checkpoint,
        Event.FIT_END: _fit_end,
    }

    # ------------------------------------------------------------------ set-up

    def _check_loader(self, state: State) -> None:
        loader = state.dataloader
        if not isinstance(loader, DataLoader):
            raise TypeError(
                "DataAgent needs `train_dataloader` to be a torch DataLoader (or StreamingData"
                "Loader) over a streaming.StreamingDataset or a map-style dataset, but it is a "
                f"{type(loader).__name__}"
            )
        if state.dataloader_len is not None and int(state.dataloader_len) < len(loader):
            raise ValueError(
                "train_subset_num_batches cannot be combined with DataAgent, which decides how "
                "many batches an epoch has: remove it and use `ratio` or `max_duration`"
            )
        if self._attachment is not None and loader is not self._loader:
            raise ValueError(
                "fit() was given another train_dataloader than before, but what DataAgent knows is "
                "about the samples of the first: use a new Trainer and a new DataAgent"
            )

    def _set_up(self, state: State) -> None:
        """Attach to loader and model; needs the trainer's final objects, hence at FIT_START."""
        loader = state.dataloader
        assert isinstance(loader, DataLoader), "checked before"
        attachment = attach(
            loader.dataset,
            loader,
            shuffle_seed=state.rank_zero_seed,
            fetch=self.fetch,
            costs=self.costs,
        )
        if attachment.has_standing_selection():
            raise ValueError(
                "The training dataset is restricted already (by select(), or serve_always() of its "
                "attachment), and DataAgent selects as well: call clear(dataset), or serve_always("
                "range(N)), to let DataAgent choose from all samples; or give it a data set that "
                "has only these"
            )
        self.num_samples = attachment.num_samples
        self._tell_of_savings(state, attachment)
        self._loader = loader
        self._full_batches = len(loader)
        self._times = Timetable(
            self.num_samples,
            rounds_per_epoch(self.interval, self._full_batches),
            self._global_batch_size(),
            self.schedule,
        )
        self._order: tuple[int, NDArray] | None = None  # of an epoch, while it comes in rounds
        self._looked = 0  # samples that the running round was chosen from by forward passes
        self._device = next(state.model.parameters()).device
        self._ranks = Ranks(self._device)
        leads_node = dist.get_local_rank() == 0
        self._fetched = Fetched(attachment, self.costs, self._ranks, leads_node)
        hook = None
        if self.selector.uses_score and self.settings.state != "signals":
            _, head = find_head(state.model, self.head)
            hook = FeatureHook(head, has_decoder_of_its_own(state.model))
        signals_fn = (
            detect_signals(state.model, self._token_options)
            if self._signals_fn is None
            else checked(self._signals_fn)
        )
        self._reader = BatchReader(signals_fn, hook)

        self.ledger = Ledger(self.num_samples)
        self.ledger.units = self._units_of(attachment)
        self._judge = Judge(
            self.ledger,
            self.selector,
            self.settings,
            self.seed,
            self._ranks,
            self._device,
            feature_dim=0 if hook is None else hook.feature_dim,
        )
        self._journal = Journal(self._device)
        self._visits = VisitBuffer()
        self._inside_epoch = False
        self._told_of_empty = False
        self._knows_empty = False  # whether signals tell samples without a target, if there are any
        self._selected_for = 0  # the round
        self._churn: float | None = None
        self._mask = np.zeros(self.num_samples, bool)
        self._selection: Selection | None = None
        self._attachment = attachment

    def _units_of(self, attachment: Attachment) -> Units | None:
        """Which samples are read together; None where there is nothing to choose between."""
        shards = attachment.shards()
        if len(shards.samples) > 1:
            return shard_units(shards.samples, shards.bytes_per_sample)
        weight = self.selector.egress_weight
        if weight > 0:
            raise ValueError(
                f"DataAgent: selector has egress_weight={weight}, which chooses between shards, "
                "but the training data are map-style, or in one shard: remove egress_weight, or "
                "give a StreamingDataset of several shards"
            )
        return None

    @property
    def _selected(self) -> Selection:
        """What the running (or, between epochs, the coming) epoch trains on."""
        assert self._selection is not None, "made at FIT_START"
        return self._selection

    def _take_up_selection(self, state: State) -> None:
        """Serve the checkpoint's selection, or make the first one."""
        assert self._attachment is not None
        inside_epoch = int(state.timestamp.batch_in_epoch) > 0
        if self._loaded is not None:
            self._restore(self._loaded)
            if self._inside_epoch and not inside_epoch:
                raise RuntimeError(
                    "The checkpoint is from inside an epoch, which fit(reset_time=True) would "
                    "leave: load one of an epoch's end (save_interval='1ep'), or do without "
                    "reset_time"
                )
            drawn = self._times.inside(state) or (
                self._loader.persistent_workers and self._times.number > 0
            )
            if inside_epoch or drawn:  # else Composer restores the generators
                random = (self._loaded["inside_epoch"] or {}).get("random", [])
                same_ranks = len(random) == collectives.world_size()
                mine = random[collectives.rank()] if same_ranks else None
                self._randomness = ResumedRandomness(self._loader, mine, drawn)
            self._loaded = None
            self._attachment.resume_at(self._streaming_epoch, self._times.sample_in_round(state))
        elif self._selection is not None:
            self._go_on_in_another_fit(state)
        elif inside_epoch:
            raise RuntimeError(
                "The checkpoint is from inside an epoch and has no DataAgent state, so what that "
                "epoch has left to serve is not known: start from a checkpoint of an epoch's end "
                "(save_interval='1ep')"
            )
        self._times.check_ratio()  # not first after a warm-up epoch
        self._times.check_end(state)
        upcoming = self._attachment.upcoming_epoch()
        if self._selection is None:
            if not self.ledger.seen.any():
                self._times.number = int(state.timestamp.epoch) * self._times.per_epoch
            self._select(state)
        elif self._streaming_epoch != upcoming:
            raise RuntimeError(
                f"The checkpoint's selection is for streaming epoch {self._streaming_epoch}, but "
                f"the dataset is about to run epoch {upcoming}. Load the checkpoint with its "
                "dataset state (do not use `load_ignore_keys` on `state/dataset_state`), or "
                "without the algorithm's."
            )
        else:
            self._serve(self._selection, state)

    def _go_on_in_another_fit(self, state: State) -> None:
        """What was begun is finished, unless Composer was told to count from 0 again."""
        assert self._attachment is not None
        if self._selected_for != self._times.number:
            self._selection = None  # an error, or Ctrl-C, came while the round was being selected
        elif self._inside_epoch and int(state.timestamp.batch_in_epoch) == 0:
            self._update()
            self._inside_epoch = False
            self._times.leave_epoch()
            self._fetched.begin_epoch()  # the row of what is left has it
            self._selection = None
        elif self._attachment.upcoming_epoch() != self._streaming_epoch:
            # Inside of what max_duration, or an error, ended; maybe in its very first batch.
            self._attachment.resume_here(self._times.sample_in_round(state))

    def _global_batch_size(self) -> int:
        assert self._loader.batch_size is not None, "refused by streaming.attach"
        return self._loader.batch_size * collectives.world_size()

    def _meta(self, state: State) -> dict[str, Any]:
        duration = state.max_duration
        epochs = None
        if duration is not None and duration.unit == TimeUnit.EPOCH:
            epochs = int(duration.value)
        return {
            "run_name": state.run_name,
            "selector": self.selector.name,
            "ratio": self.ratio if isinstance(self.schedule, RatioSchedule) else None,
            "preset": self.preset,
            "state": self.settings.state,
            "seed": self.seed,
            "trainer_seed": int(state.rank_zero_seed),
            "settings": self.plain_settings(),
            "num_samples": self.num_samples,
            "num_epochs": epochs,
            "class_names": self.class_names,
            "version": __version__,
            # Not among the settings: what is selected does not depend on how it is fetched.
            **({"fetch": self.fetch} if self.fetch != "shards" else {}),
            **({"costs": self.costs.given()} if self.costs.given() else {}),
        }

    def plain_settings(self) -> dict[str, Any]:
        """All arguments that the selected samples depend on, as JSON knows them."""
        selector = {k: v for k, v in vars(self.selector).items() if not k.startswith("_")}
        given = {
            "ratio": self.ratio,
            **asdict(self.settings),
            "selector": {"name": self.selector.name, **selector},
            "schedule": None if isinstance(self.schedule, RatioSchedule) else self.schedule,
            "head": self.head,
            "signals": self._signals_fn or self._token_options.given(),
        }
        # Only where they are: rows of results that were made before these existed stay valid.
        given |= {"interval": self.interval} if self.interval is not None else {}
        given |= {"look": True} if self.look else {}
        return json.loads(json.dumps(given, default=_name_of))

    # ------------------------------------------------------------------ one batch

    def _remember(self, signals: Signals, features: Tensor | None, state: State) -> None:
        """Keep what the batch showed of its samples, on the device."""
        self._visits.append(self._visits_of(self._ids, signals, features, state))

    def _visits_of(
        self, ids: Tensor, signals: Signals, features: Tensor | None, state: State
    ) -> Visits:
        loss, entropy = signals.loss, signals.entropy
        max_prob = signals.target_prob if signals.max_prob is None else signals.max_prob
        # Else a loss that is 0 or below may be anything.
        self._knows_empty = signals.label is not None or signals.max_prob is not None
        if signals.label is None and signals.max_prob is not None:
            self._judge.notice_sequences(self._times.progress(state))
        return Visits(
            ids=ids,
            step=torch.full_like(ids, int(state.timestamp.batch)),
            progress=torch.full(ids.shape, self._times.progress(state)),
            before=torch.from_numpy(self.ledger.agreement[ids.numpy()]).float(),
            loss=loss,
            entropy=entropy,
            max_prob=max_prob,
            label=_classes(signals.label, loss),
            predicted=_classes(signals.predicted, loss),
            nonfinite=signals.nonfinite,
            features=loss.new_empty(len(loss), 0) if features is None else features,
        )

    def _update_is_due(self, state: State) -> bool:
        """Whether the batch that just ended is the last of one of the epoch's equal parts."""
        batch, batches = int(state.timestamp.batch_in_epoch), state.dataloader_len
        if batches is None:
            return batch % self.settings.update_interval == 0
        parts = max(1, round(int(batches) / self.settings.update_interval))
        return batch * parts // int(batches) > (batch - 1) * parts // int(batches)

    def _update(self) -> None:
        """Figure 1 of the paper for the batches since the last time: state, action, reward, PPO."""
        visits = self._visits.take()
        if visits is None:
            return
        visits = self._judge.sound(visits)
        agreement = self._judge.agreement(visits)
        acted = self._judge.act(visits, agreement)
        score, mean = None, None
        if acted is not None:
            score, mean = self._judge.score_to_keep(visits, acted[1]), acted[1].mean
        rows = self._record(visits, agreement, score, mean)
        facts = self._journal.facts
        aims = self._judge.aims(rows.columns, facts)
        empty = (visits.label < 0) & is_settled(visits.loss, visits.max_prob) & self._knows_empty
        told = ~(visits.nonfinite | empty)
        facts.add(where=told, loss=visits.loss, entropy=visits.entropy)
        facts.add(nonfinite=visits.nonfinite, without_targets=empty & ~visits.nonfinite)
        if acted is not None:
            self._judge.learn(*acted, rows, aims, facts)

    def _record(
        self,
        visits: Visits,
        agreement: Tensor,
        score: Tensor | None,
        mean_action: Tensor | None,
    ) -> GatheredRows:
        """Write all ranks' visits to the ledger of each, and give them in order of their steps."""
        columns = _columns(visits, agreement, score=score, mean_action=mean_action)
        rows = self._ranks.all_gather_rows(columns)
        require_ranges(rows.columns)  # on all ranks, before anything is learned from them
        order = np.argsort(rows.columns["step"], kind="stable")
        columns = {name: column[order] for name, column in rows.columns.items()}
        self._nonfinite.hear(columns["ids"][columns["nonfinite"]], self._times.name())
        self.ledger.record(columns["ids"], self._times.number, **_recorded(columns))
        return GatheredRows(columns, rows.rank[order])

    def _gradient_weights(self, microbatch: slice) -> Tensor | None:
        """Factor ``[B]`` on each sample's gradient, or None where all are 1."""
        if self._weights is None:
            return None
        rows = np.searchsorted(self._selected.ids, self._ids[microbatch].numpy())
        return torch.from_numpy(self._weights[rows]).to(self._device, non_blocking=True)

    # ------------------------------------------------------------------ epoch boundary

    def _count_from(self, state: State) -> None:
        """Start to count what ranks send each other in an epoch's steps."""
        self._counted_from = self._ranks.traffic, int(state.timestamp.batch)

    def _communication(self, state: State, before_epoch_end: Traffic) -> dict[str, float]:
        """What this rank sent for the agent: per step, and at the epoch's end."""
        began, batch = self._counted_from
        steps = max(int(state.timestamp.batch) - batch, 1)
        in_steps, at_end = before_epoch_end - began, self._ranks.traffic - before_epoch_end
        return {
            "calls_per_step": in_steps.calls / steps,
            "bytes_per_step": in_steps.bytes / steps,
            "calls_at_epoch_end": at_end.calls,
            "bytes_at_epoch_end": at_end.bytes,
        }

    def _check_everything_was_served(self) -> None:
        """Served equals planned, or the run stops: a short epoch is never passed over."""
        served = self.ledger.last_seen == self._times.number
        missing = np.flatnonzero(self._mask & ~served)
        selected = int(self._mask.sum())
        assert self._attachment is not None
        allowed = self._attachment.may_leave_out(selected, self._loader)
        if len(missing) > allowed or not served.any():
            raise RuntimeError(
                f"{self._times.name().capitalize()} ended without {len(missing)} of its "
                f"{selected} selected samples, for example id {int(missing[0])}: the loader "
                "stopped early. Look for an earlier error of the data loader."
            )

    def _select(self, state: State) -> None:
        """Pick what the coming round trains on, and serve it."""
        assert self._attachment is not None
        batches_of = functools.partial(self._attachment.batches_left, self._loader)
        size = self._times.begin_round(state, self.selector.ratio_of, batches_of)
        self._looked = 0
        candidates = self._candidates()
        known = self._known(candidates, size, state)
        of_agent = known.score
        if known.seen.any() and self._judge.is_unsure:
            known.score = self._judge.score_without_agent(known, self._times.name())
        rng = np.random.default_rng([self.seed, self._times.number])
        selection = self.selector.select(known, size, rng)
        self._check_selection(selection, size, len(known))
        if candidates is not None:
            selection = Selection(candidates[selection.ids], selection.weights)
        # A rule of the user's may have its own mind.
        self._times.sizes[self._times.at] = len(selection.ids)
        if known is self.ledger and self._judge.scores_at_visit:
            known.score = of_agent  # which it goes on with
        last = self.ledger.last_seen[selection.ids] // self._times.per_epoch
        epoch = self._times.epoch
        self._churn = float((last != epoch - 1).mean()) if epoch > 0 else None
        self._serve(selection, state)

    def _check_selection(self, selection: object, size: int, of: int) -> None:
        """Tell whoever wrote a rule what is wrong with what it gave."""
        what = f"selector {self.selector.name!r}, asked for {size} of {of} samples,"
        if not isinstance(selection, Selection):
            raise TypeError(
                f"{what} returned a {type(selection).__name__}: its select() must return "
                "Selection(ids, weights=None)"
            )
        ids = selection.ids
        if not len(ids) or ids[0] < 0 or ids[-1] >= of:  # they are sorted
            got = f"{len(ids)} ids from {ids[0]} to {ids[-1]}" if len(ids) else "no ids"
            raise ValueError(f"{what} returned {got}: ids are the ledger's rows, 0 to {of - 1}")
        if self._times.per_epoch > 1 and len(ids) != size:
            raise ValueError(
                f"{what} returned {len(ids)}: with interval={self.interval!r} it must be as many "
                "as asked for, since the trainer knows before an epoch how long it is"
            )

    def _candidates(self) -> NDArray[np.int64] | None:
        """Sorted ids of what the coming round chooses from; None where that is everything."""
        assert self._attachment is not None
        if self._times.per_epoch == 1:
            return None
        epoch = self._times.epoch
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._attachment.order_of(epoch)
        return np.sort(self._order[1][self._times.part]).astype(np.int64)

    def _known(self, candidates: NDArray[np.int64] | None, size: int, state: State) -> Ledger:
        """What is known of the candidates before the coming round trains on them."""
        known = self.ledger
        if candidates is not None or self.look:
            everything = np.arange(self.num_samples) if candidates is None else candidates
            known = known.rows(everything, self._times.per_epoch)
            if size < len(everything) and not self.selector.is_blind:
                # At its end, nothing may ever be trained on what is selected.
                if self.look and self._times.progress(state) < 1:
                    return self._look(everything, known, state)
                self._foresee(everything, known)
        if self._judge.learner is not None and not self._judge.scores_at_visit:
            known.score = self._judge.score_all(known, self._times.progress(state))
        return known

    def _look(self, candidates: NDArray[np.int64], known: Ledger, state: State) -> Ledger:
        """Write into ``known`` what a forward pass over the candidates shows now."""
        assert self._attachment is not None and self._loader.batch_size is not None
        ranks = collectives.world_size()
        mine = share_of_rank(candidates, collectives.rank(), ranks)
        rows = int(state.device_train_microbatch_size or self._loader.batch_size)
        batches = self._attachment.read(mine, self._loader, min(rows, self._loader.batch_size))
        seen = [self._seen(*batch, state) for batch in look(state, self._reader, batches)]
        together = {name: np.concatenate([part[name] for part in seen]) for name in seen[0]}
        columns = self._ranks.all_gather_rows(together).columns
        require_ranges(columns)
        known.observe(np.searchsorted(candidates, columns["ids"]), **_recorded(columns))
        self._looked = len(candidates)
        return known

    def _seen(
        self, ids: Tensor, signals: Signals, features: Tensor | None, state: State
    ) -> dict[str, NDArray]:
        """What a batch that was only looked at says of its samples."""
        visits = self._judge.sound(self._visits_of(ids, signals, features, state))
        agreement = self._judge.agreement(visits)
        acted = self._judge.act(visits, agreement)
        score = None if acted is None else self._judge.score_of(acted[1])
        return _columns(visits, agreement, score=score)

    def _foresee(self, candidates: NDArray[np.int64], known: Ledger) -> None:
        """Write into ``known`` what those that were never seen are probably like."""
        assert self._attachment is not None
        shards = self._attachment.shards()
        foresee(
            self.ledger,
            known,
            self._attachment.shards_of(np.flatnonzero(self.ledger.seen)),
            self._attachment.shards_of(candidates),
            shards.stream,
            shards.bytes_per_sample,
        )

    def _serve(self, selection: Selection, state: State) -> None:
        assert self._attachment is not None
        self._selection, self._selected_for = selection, self._times.number
        self._mask = np.zeros(self.num_samples, bool)
        self._mask[selection.ids] = True
        self._weights = selection.weights
        of = self._times.count
        if self.settings.rescale and len(selection.ids) < of:
            ones = np.ones(len(selection.ids), np.float32)
            factor = np.float32(of / len(selection.ids))
            self._weights = factor * (ones if self._weights is None else self._weights)
        record = self._attachment.serve(selection.ids)
        self._attachment.go_on(self._loader, self._times.sizes, self._times.began)
        left = self._attachment.batches_left(
            self._loader, len(selection.ids), self._times.sample_in_round(state)
        )
        self._round_end = int(state.timestamp.batch_in_epoch) + left
        self._streaming_epoch = self._attachment.upcoming_epoch()
        self._ranks.check_same("ledger", self.ledger.digest)
        self._ranks.check_same(
            f"selection for streaming epoch {record.epoch}", lambda: record.digest
        )

    def _describe_round(self, state: State, part: float = 1.0) -> dict[str, Any]:
        """The facts of the round (or epoch) that just ended, for loggers, history and report.

        Args:
            state (State): Composer's.
            part (float): How much of it was trained. Default: all.
        """
        epoch, epochs = self._times.number, self._times.epochs_done(part)
        facts = self._journal.facts
        means = facts.means(self._ranks.all_reduce_sum)
        label = self.ledger.label
        known = label >= 0
        classes = int(label.max()) + 1 if known.any() else 0
        chosen = np.bincount(label[known & self._mask], minlength=classes)
        total = np.bincount(label[known], minlength=classes)
        samples = int(state.timestamp.sample)
        # Of language models no label is known: there is nothing to say about trust in them.
        trust, plausibility, flagged = (
            (
                self.ledger.label_trust,
                self.ledger.label_plausibility,
                int(self.ledger.flagged.sum()),
            )
            if classes
            else (None, None, None)
        )
        empty = int(means.get("without_targets", 0))
        if empty and not self._told_of_empty and collectives.rank() == 0:
            log.warning(
                "%d of the samples of %s have nothing to learn from (no label, or no token whose "
                "label counts): leave such samples out of the data",
                empty,
                self._times.name(),
            )
            self._told_of_empty = True
        nonfinite = int(means.get("nonfinite", 0))
        self._nonfinite.end_round(nonfinite if collectives.rank() == 0 else 0, self._times.name())
        return {
            "epoch": epoch,
            "epochs": epochs,
            "streaming_epoch": self._streaming_epoch,
            "selector": self.selector.name,
            "ratio": len(self._selected.ids) / self._times.count,
            "selected": len(self._selected.ids),
            "looked": self._looked,
            "samples_seen": samples,
            "share_of_full": samples / (epochs * self.num_samples),
            "batches": int(state.timestamp.batch),
            "learning_rate": float(state.optimizers[0].param_groups[0]["lr"]),
            "mean_loss": means.get("loss"),
            "mean_entropy": means.get("entropy"),
            "difficulty": means.get("difficulty"),
            "uncertainty": means.get("uncertainty"),
            "reward_weight": means.get("reward_weight"),
            "reward": means.get("reward"),
            "nonfinite": nonfinite,
            "without_targets": empty,
            "updates": (
                None
                if self._judge.learner is None
                else round(means.get("updates", 0) / collectives.world_size())
            ),
            "flagged": flagged,
            "label_trust": trust,
            "label_plausibility": plausibility,
            "target": self._judge.target,
            "fit": None if self._judge.learner is None else self._judge.fit,
            "coverage": self.ledger.coverage(),
            "churn": self._churn,
            "action_mean": means.get("action"),
            "action_std": means.get("action_std"),
            "action_histogram": (
                None
                if self._judge.learner is None
                else facts.action_histogram(self._ranks.all_reduce_sum)
            ),
            "ppo": {
                name.removeprefix("ppo_"): value
                for name, value in means.items()
                if name.startswith("ppo_")
            },
            "class_selected": {str(c): int(chosen[c]) for c in range(classes)},
            "class_total": {str(c): int(total[c]) for c in range(classes)},
            **self._describe_shards(),
        }

    def _describe_shards(self) -> dict[str, Any]:
        """Which share of the shards that the round could choose from it reads, and what of each."""
        units, candidates = self.ledger.units, self._candidates()
        if units is None:  # map-style, or one shard: there is nothing to tell
            return {"shards_touched": None}
        there = units.samples if candidates is None else units.count(candidates)
        read = units.count(self._selected.ids)
        return {
            "shards_touched": float((read > 0).sum() / (there > 0).sum()),
            "shard_selected": group_shards(read),
            "shard_total": group_shards(there),
        }

    def _ledger_columns(self) -> dict[str, NDArray]:
        columns = {name: getattr(self.ledger, name) for name in [*LEDGER_COLUMNS, "flagged"]}
        if self.ledger.score is not None:
            columns["score"] = self.ledger.score
        return columns

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if never stopped: tensors and builtins only."""
        if self._attachment is None:
            return super().state_dict() | (self._loaded or {})
        weights = self._selected.weights
        return super().state_dict() | {
            "version": STATE_VERSION,
            "data": self._attachment.fingerprint(),
            "settings": self.plain_settings() | {"seed": self.seed},
            "ledger": self.ledger.state_dict(),
            "flagged": torch.from_numpy(np.packbits(self.ledger.flagged)),
            "label_trust": self.ledger.label_trust,
            "label_plausibility": self.ledger.label_plausibility,
            **self._judge.state_dict(),
            "selector": self.selector.state_dict(),
            "selection": {
                "streaming_epoch": self._streaming_epoch,
                "mask": torch.from_numpy(np.packbits(self._mask)),
                "weights": None if weights is None else torch.from_numpy(weights),
                "churn": self._churn,
                **self._times.state_dict(),
                "looked": self._looked,
            },
            "inside_epoch": self._state_inside_epoch() if self._inside_epoch else None,
        }

    def _state_inside_epoch(self) -> dict[str, Any]:
        """What ranks do not agree in before the epoch's end."""
        journal = self._journal.state_dict() | self._fetched.state_dict()
        return {
            "visits": self._ranks.all_gather_objects(self._visits.state_dict()),
            "random": self._ranks.all_gather_objects(take_random_state()),
            "journal": self._ranks.all_gather_objects(journal),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep a checkpoint's state until FIT_START, when the dataset is known.

        Args:
            state (dict[str, Any]): What :meth:`state_dict` gave, possibly empty of everything but
                ``repr`` (a checkpoint written before training began).

        Raises:
            ValueError: The checkpoint was written by a newer, unknown version.
        """
        if "version" not in state:
            return
        if state["version"] != STATE_VERSION:
            raise ValueError(
                f"The checkpoint's DataAgent state has version {state['version']}, this package "
                f"reads version {STATE_VERSION}: install the version that wrote it, or load with "
                "`load_ignore_keys=['state/algorithms']`"
            )
        self._loaded = state

    def _restore(self, state: dict[str, Any]) -> None:
        assert self._attachment is not None
        more = {"data": self._attachment.fingerprint(), "seed": self.seed}
        now = more | self.plain_settings()
        then = {"seed": self.seed, "data": state["data"], **state["settings"]}
        for name in sorted(now.keys() | then.keys()):
            if now.get(name) != then.get(name):
                raise ValueError(
                    f"The checkpoint's DataAgent has {name}={then.get(name)!r}, but this one has "
                    f"{name}={now.get(name)!r}: resume with the same, or load with "
                    "`load_ignore_keys=['state/algorithms']` to start the agent anew"
                )
        self.ledger.load_state_dict(state["ledger"])
        self.ledger.set_flags(_unpack(state["flagged"], self.num_samples))
        self.ledger.label_trust = state["label_trust"]
        self.ledger.label_plausibility = state["label_plausibility"]
        self._judge.load_state_dict(state)
        self.selector.load_state_dict(state["selector"])
        self._inside_epoch = state["inside_epoch"] is not None
        if self._inside_epoch:
            self._restore_inside_epoch(state["inside_epoch"])
        selection = state["selection"]
        weights = selection["weights"]
        self._churn = selection["churn"]
        self._streaming_epoch = selection["streaming_epoch"]
        self._times.load_state_dict(selection)
        self._looked = selection["looked"]
        self._selection = Selection(
            np.flatnonzero(_unpack(selection["mask"], self.num_samples)),
            None if weights is None else weights.numpy().copy(),
        )

    def _restore_inside_epoch(self, state: dict[str, Any]) -> None:
        rank, ranks = collectives.rank(), collectives.world_size()
        self._visits.load_state_dict(state["visits"], rank, ranks, self._device)
        self._journal.load_state_dict(state["journal"], rank, ranks)
        self._fetched.load_state_dict(state["journal"], rank)


def _classes(column: Tensor | None, like: Tensor) -> Tensor:
    """A column of classes, -1 everywhere where there is none."""
    return torch.full_like(like, -1, dtype=torch.int64) if column is None else column


def _columns(visits: Visits, agreement: Tensor, **more: Tensor | None) -> dict[str, NDArray]:
    """Visits, and what was made of them, as arrays."""
    columns = visits.on_host() | {"agreement": agreement.cpu().numpy()}
    return columns | {name: c.cpu().numpy() for name, c in more.items() if c is not None}


def _recorded(columns: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Of what ranks tell each other of visits, the columns of the ledger."""
    return {name: column for name, column in columns.items() if name not in _NOT_RECORDED}


def _unpack(bits: Tensor, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(bits.numpy(), count=count).astype(bool)


def _merge(
    preset: dict[str, Any], given: str | dict[str, Any] | Selector | None
) -> dict[str, Any] | Selector:
    """The selector of a preset with the arguments given, unless another one is named."""
    if isinstance(given, Selector):
        return given
    spec = {"name": given} if isinstance(given, str) else dict(given or preset)
    return {**preset, **spec} if spec.get("name") == preset["name"] else spec


def _token_options(given: object) -> TokenOptions:
    known = [field.name for field in fields(TokenOptions)]
    accepted = f"a function, or a dict of {' and '.join(known)}"
    require(given is None or isinstance(given, Mapping), "signals", given, accepted)
    options = dict(given) if isinstance(given, Mapping) else {}
    require(options.keys() <= set(known), "signals", given, accepted)
    return TokenOptions(**options)


def _costs(given: Costs | Mapping[str, Any] | None) -> Costs:
    accepted = isinstance(given, Costs | Mapping | None)
    require(accepted, "costs", given, "a mapping of prices, or Costs")
    try:
        return Costs.of(given)
    except ValueError as error:
        raise ValueError(f"DataAgent: costs: {error}") from error


def _name_of(thing: object) -> str:
    """What a function or object of the user's is called: the same in each process."""
    return getattr(thing, "__qualname__", type(thing).__qualname__)


def _reject_conflicting_algorithms(state: State) -> None:
    refuse_companions(state.algorithms)
    if sum(isinstance(algorithm, DataAgent) for algorithm in state.algorithms) > 1:
        raise ValueError("A run can have one DataAgent only: remove the others")
