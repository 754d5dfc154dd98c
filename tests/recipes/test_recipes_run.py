# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes that run: with other algorithms, again, after a change, after a kill."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from composer.algorithms import EMA, LabelSmoothing
from composer.core import Callback, State
from composer.loggers import Logger
from run_writer import run_writer

from composer_dataagent import DataAgent
from composer_dataagent.recipes import Recipe, RecipeError, build_trainer, is_finished
from composer_dataagent.recipes import train as train_recipe
from composer_dataagent.recipes.run import FINISHED_FILE, RECIPE_FILE
from composer_dataagent.report import read_run
from composer_dataagent.report.hold import LOCK, is_held

MakeRecipe = Callable[..., Recipe]


def train(recipe: Recipe) -> Path:
    """Train a recipe that has a history."""
    history = train_recipe(recipe)
    assert history is not None
    return history


def test_with_label_smoothing_ema_callbacks_and_loggers(recipe: MakeRecipe, tmp_path: Path) -> None:
    made = recipe(
        "trainer.max_duration=2ep",
        "algorithms.label_smoothing.smoothing=0.1",
        "algorithms.ema.half_life=10ba",
        "callbacks.lr_monitor={}",
        f"loggers.file.filename={tmp_path}/log.txt",
    )
    trainer = build_trainer(made)
    assert [type(a) for a in trainer.state.algorithms] == [DataAgent, LabelSmoothing, EMA]
    trainer.close()
    run = read_run(train(made))
    assert [row["selected"] for row in run.rows] == [1437, 719]
    assert run.rows[-1]["metrics"]["eval/MulticlassAccuracy"] > 0.3
    assert "data_agent/coverage" in (tmp_path / "log.txt").read_text()
    assert len(run.samples) > 0  # thumbnails
    assert all(sample["png"] for sample in run.samples.values())


def test_a_finished_run_is_not_trained_again(recipe: MakeRecipe) -> None:
    made = recipe("trainer.max_duration=1ep")
    assert not is_finished(made)
    history = train(made) / "history.jsonl"
    before = history.read_bytes()
    assert is_finished(made)
    train(made)
    assert history.read_bytes() == before


def test_a_longer_run_goes_on_from_the_checkpoint(recipe: MakeRecipe) -> None:
    short, long = recipe("trainer.max_duration=1ep"), recipe("trainer.max_duration=2ep")
    run_dir = train(short)
    first = read_run(run_dir).rows
    assert is_finished(short) and not is_finished(long)
    train(long)
    rows = read_run(run_dir).rows
    assert rows[:1] == first and [row["epoch"] for row in rows] == [0, 1]
    assert is_finished(long) and not is_finished(short)


def test_what_a_run_takes_up_is_told(
    recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    short = recipe("trainer.max_duration=2ba", "trainer.save_interval=1ba")
    run_dir = store(short)
    train(short)
    assert (
        f"{run_dir} was begun before and left no checkpoint: it begins anew"
        in capsys.readouterr().out
    )
    train(recipe("trainer.max_duration=1ep"))
    assert f"{run_dir} goes on from batch 2 of epoch 0 (2 batches" in capsys.readouterr().out
    train(recipe("trainer.max_duration=2ep"))
    assert "goes on from the beginning of epoch 1" in capsys.readouterr().out


def test_a_run_goes_on_with_another_way_to_fetch(
    recipe: MakeRecipe, digits: Path, tmp_path: Path
) -> None:
    def made(epochs: int, *overrides: str) -> Recipe:
        return recipe(
            f"trainer.max_duration={epochs}ep",
            f"train_loader.dataset.remote={digits / 'train'}",
            f"train_loader.dataset.local={tmp_path / 'cache'}",
            "algorithms.data_agent.warmup_epochs=0",
            *overrides,
        )

    costs = "{dollars_per_gb: 0.05, dollars_per_million_requests: 0}"
    run_dir = train(
        made(1, "algorithms.data_agent.fetch=samples", f"algorithms.data_agent.costs={costs}")
    )
    assert not list((tmp_path / "cache").glob("*.mds"))
    shutil.rmtree(tmp_path / "cache")
    train(made(2))
    train(made(3, f"train_loader.dataset.local={tmp_path / 'other'}"))
    assert list((tmp_path / "other").glob("*.mds"))
    run = read_run(run_dir)
    first, second, third = (row["egress_bytes"] for row in run.rows)
    whole = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.mds"))
    assert 0 < first < 0.6 * whole and second == third == whole
    assert run.rows[0]["egress_dollars"] == pytest.approx(0.05 * first / 1e9)
    assert run.rows[1]["egress_dollars"] > 0.09 * whole / 1e9


def test_costs_that_are_none_name_their_key(recipe: MakeRecipe) -> None:
    for override, message in (
        ("fetch=ranges", r"algorithms\.data_agent: DataAgent: fetch='ranges'.*samples"),
        ("costs=5", r"algorithms\.data_agent\.costs=5"),
        ("costs.dollars=5", r"algorithms\.data_agent: DataAgent: costs.*dollars_per_gb"),
        ("costs.dollars_per_gb=-1", r"algorithms\.data_agent: DataAgent: costs.*>= 0"),
    ):
        with pytest.raises(RecipeError, match=message):
            train(recipe(f"algorithms.data_agent.{override}"))


@pytest.mark.parametrize(
    ("overrides", "saved"),
    [
        (["trainer.max_duration=1ep"], 10),
        (["trainer.max_duration=20ba"], 10),
        (["trainer.max_duration=2ep", "algorithms.data_agent.interval=0.5ep"], 10),
        (["trainer.max_duration=2ep"], 2),
    ],
)
def test_a_kill_never_costs_a_long_epoch(
    recipe: MakeRecipe, overrides: list[str], saved: int
) -> None:
    made = recipe(*overrides, "trainer.save_num_checkpoints_to_keep=-1")
    run_dir = train(made)
    assert len(list((run_dir / "checkpoints").glob("ep*.pt"))) == saved


@pytest.mark.parametrize("key", ["save_interval", "eval_interval"])
def test_an_interval_that_is_none_names_its_key(recipe: MakeRecipe, key: str) -> None:
    with pytest.raises(RecipeError, match=rf"trainer\.{key}='0\.1ep'.*0\.1dur"):
        train(recipe(f"trainer.{key}=0.1ep"))


def store(recipe: Recipe) -> Path:
    """Leave a run folder as if the recipe had been started there, with a checkpoint folder."""
    run_dir = Path(recipe.run_dir)
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / RECIPE_FILE).write_text(recipe.model_dump_json(exclude={"overwrite"}))
    return run_dir


class StartedError(Exception):
    """The recipe was let through, up to the making of the trainer."""


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe], None]:
    """Begin a run and end where training would start: what was there is checked by then."""

    def stop(recipe: Recipe) -> None:
        raise StartedError

    monkeypatch.setattr("composer_dataagent.recipes.run.build_trainer", stop)

    def begin(recipe: Recipe) -> None:
        with pytest.raises(StartedError):
            train_recipe(recipe)

    return begin


@pytest.mark.parametrize(
    "override",
    [
        "trainer.max_duration=20ep",
        "trainer.eval_interval=2ep",
        "trainer.eval_subset_num_batches=1",
        "trainer.save_interval=5ba",
        "trainer.save_num_checkpoints_to_keep=-1",
        "trainer.save_folder=elsewhere",
        "trainer.progress_bar=true",
        "trainer.console_log_interval=1ep",
        "trainer.python_log_level=info",
        "~trainer.device",  # whatever the machine has
        "trainer.dist_timeout=60",
        "train_loader.num_workers=1",
        "eval_loader.pin_memory=true",
        "train_loader.dataset.cache_limit=1gb",
        "train_loader.dataset.predownload=128",
        "callbacks.lr_monitor={}",
        "callbacks.early_stopper.monitor=loss",
        "loggers.file={}",
        "algorithms.data_agent.fetch=samples",
        "algorithms.data_agent.costs.dollars_per_gb=0.05",
    ],
)
def test_what_may_change_when_a_run_goes_on(
    recipe: MakeRecipe, start: Callable[[Recipe], None], override: str
) -> None:
    store(recipe())
    start(recipe(override))


def test_a_cache_may_be_elsewhere_and_data_may_not(
    recipe: MakeRecipe, digits: Path, tmp_path: Path, start: Callable[[Recipe], None]
) -> None:
    for name, remotes in {
        "one": [f"train_loader.dataset.remote={digits / 'train'}"],
        "streams": [
            "~train_loader.dataset.local",
            f"train_loader.dataset.streams.a.remote={digits / 'train'}",
        ],
    }.items():
        key = f"train_loader.dataset{'.streams.a' if name == 'streams' else ''}"
        run_dir = f"run_dir={tmp_path / name}"
        store(recipe(*remotes, f"{key}.local=here", run_dir))
        start(recipe(*remotes, f"{key}.local=there", run_dir))
        elsewhere = f"{key}.remote={digits / 'eval'}"
        with pytest.raises(RecipeError, match=rf"{key}.remote='.*', this recipe has"):
            train_recipe(recipe(*remotes, f"{key}.local=here", elsewhere, run_dir))


@pytest.mark.parametrize(
    "override",
    [
        "trainer.precision=amp_bf16",
        "trainer.precision_config.margin=1",
        "trainer.device_train_microbatch_size=16",
        "trainer.step_schedulers_every_batch=true",
        "trainer.load_path=elsewhere.pt",
        "trainer.load_ignore_keys=[state/optimizers]",
        "trainer.scale_schedule_ratio=0.5",
        "trainer.accumulate_train_batch_on_tokens=true",
        "trainer.parallelism_config={}",
        "trainer.parallelism_config.fsdp.mixed_precision=PURE",
        "trainer.compile_config={}",
        "trainer.deterministic_mode=true",
        "trainer.train_subset_num_batches=3",
        "trainer.save_weights_only=true",
        "trainer.save_ignore_keys=[state/optimizers]",
        "trainer.autoresume=false",
        "trainer.ddp_sync_strategy=multi_auto_sync",
        "trainer.an_argument_of_a_later_composer=1",
        "callbacks.load_checkpoint.load_path=elsewhere.pt",
        "callbacks.LoadCheckpoint.load_path=elsewhere.pt",
        "model.num_workers=1",
        "train_loader.dataset.prefetch_factor=1",
        "eval_loader.batch_size=90",
        "~eval_loader",
        "~scheduler",
        "seed=3",
        "run_name=another",
    ],
)
def test_what_must_be_equal_when_a_run_goes_on(recipe: MakeRecipe, override: str) -> None:
    run_dir = store(recipe())
    before = sorted(run_dir.rglob("*"))
    key = override.removeprefix("~").partition("=")[0]
    with pytest.raises(RecipeError, match=rf"{re.escape(key)}.*another run_name or run_dir"):
        train_recipe(recipe(override))
    with pytest.raises(RecipeError, match="another run_name or run_dir"):  # nor back again
        (run_dir / RECIPE_FILE).write_text(recipe(override).model_dump_json())
        train_recipe(recipe())
    assert sorted(run_dir.rglob("*")) == before


# ------------------------------------------------------------------ checkpoints that a kill cut off


def put_checkpoints(run_dir: Path, *names: str, latest: str | None = None) -> Path:
    """Checkpoints that say their name, and the link to the one that is finished."""
    folder = run_dir / "checkpoints"
    for name in names:
        (folder / name).write_text(name)
    if latest is not None:
        (folder / "latest-rank0.pt").symlink_to(latest)
    return folder


def names_in(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if not path.is_symlink())
    # Whatever happens to a name, nothing is lost.
    for name in names:
        assert (folder / name).read_text() == name.removesuffix(".unfinished")
    return names


def test_checkpoints_newer_than_the_latest_are_set_aside(
    recipe: MakeRecipe, start: Callable[[Recipe], None], caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = store(recipe())
    names = ["ep9-ba108-rank0.pt", "ep10-ba120-rank0.pt", "ep10-ba121-rank0.pt", "other.pt"]
    folder = put_checkpoints(run_dir, *names, latest="ep10-ba120-rank0.pt")
    for _ in range(2):
        start(recipe())
        assert names_in(folder) == [
            "ep10-ba120-rank0.pt",
            "ep10-ba121-rank0.pt.unfinished",
            "ep9-ba108-rank0.pt",
            "other.pt",
        ]
    (record,) = caplog.records
    assert "ep10-ba121-rank0.pt.unfinished" in record.getMessage()
    assert "ep9" not in record.getMessage()


def test_a_first_checkpoint_that_is_not_linked_is_set_aside(
    recipe: MakeRecipe, start: Callable[[Recipe], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = put_checkpoints(store(recipe()), "ep1-ba12-rank0.pt")
    start(recipe())
    assert names_in(folder) == ["ep1-ba12-rank0.pt.unfinished"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "changed",
    [
        "trainer.save_latest_filename=newest.pt",
        "trainer.save_latest_filename=null",
        "trainer.save_filename=ep{epoch}-ba{batch}-rank{rank}.pt",
        "trainer.save_folder=elsewhere",
        "callbacks.checkpoint_saver.latest_filename=null",
        "callbacks.CheckpointSaver={}",
    ],
)
@pytest.mark.parametrize("when", ["now", "before"])
def test_checkpoints_under_other_names_are_left_alone(
    recipe: MakeRecipe,
    start: Callable[[Recipe], None],
    caplog: pytest.LogCaptureFixture,
    changed: str,
    when: str,
) -> None:
    made = {"now": recipe(), "before": recipe()} | {when: recipe(changed)}
    folder = put_checkpoints(store(made["before"]), "ep1-ba12-rank0.pt")
    start(made["now"])
    assert names_in(folder) == ["ep1-ba12-rank0.pt"] and not caplog.records


def test_checkpoints_of_nobody_knows_whom_are_left_alone(
    recipe: MakeRecipe, start: Callable[[Recipe], None]
) -> None:
    run_dir = store(recipe())
    (run_dir / RECIPE_FILE).unlink()
    folder = put_checkpoints(run_dir, "ep1-ba12-rank0.pt")
    start(recipe())
    assert names_in(folder) == ["ep1-ba12-rank0.pt"]


@pytest.mark.parametrize("latest", ["none", "dangling", "a copy"])
def test_checkpoints_without_a_link_to_one_of_them_are_left_alone(
    recipe: MakeRecipe,
    start: Callable[[Recipe], None],
    caplog: pytest.LogCaptureFixture,
    latest: str,
) -> None:
    names = ["ep1-ba12-rank0.pt", "ep2-ba24-rank0.pt"]
    folder = put_checkpoints(store(recipe()), *names)
    if latest == "dangling":
        (folder / "latest-rank0.pt").symlink_to("ep3-ba36-rank0.pt")
    elif latest == "a copy":
        names.append("latest-rank0.pt")
        put_checkpoints(folder.parent, "latest-rank0.pt")
    start(recipe())
    assert names_in(folder) == names
    assert len(caplog.records) == (latest == "none")


def test_a_run_starts_again_after_its_first_checkpoint_was_cut_off(recipe: MakeRecipe) -> None:
    """With Composer's own check: it refuses to start while the cut-off file is there."""
    made = recipe("trainer.max_duration=2ep")
    run_dir = train(recipe("trainer.max_duration=1ep"))
    whole = read_run(run_dir).rows
    (folder,) = run_dir.glob("checkpoints")
    (checkpoint,) = folder.glob("ep*")
    (folder / "latest-rank0.pt").unlink()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    # The history has the row of the epoch already: the run may start again, another may not.
    with pytest.raises(RecipeError, match=r"num_epochs=1, now 2"):
        train(made)
    rows = read_run(train(recipe("trainer.max_duration=1ep"))).rows
    assert [row["mean_loss"] for row in rows] == [row["mean_loss"] for row in whole]
    assert (folder / f"{checkpoint.name}.unfinished").stat().st_size == 1000
    assert checkpoint.stat().st_size > 1000 and (folder / "latest-rank0.pt").exists()


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
@pytest.mark.parametrize("remedy", ["remove it", "overwrite=true"])
def test_a_damaged_checkpoint_is_named_and_the_remedies_work(
    recipe: MakeRecipe, damage: bytes | None, remedy: str
) -> None:
    made = recipe("trainer.max_duration=1ep")
    run_dir = train(made)
    (checkpoint,) = run_dir.glob("checkpoints/ep*")
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000] if damage is None else damage)
    message = f"The checkpoint {checkpoint} cannot be loaded: remove it, or give overwrite=true"
    with pytest.raises(RecipeError, match=re.escape(message)):
        train(made)
    if remedy == "remove it":
        checkpoint.unlink()
        train(made)
    else:
        train(recipe("trainer.max_duration=1ep", remedy))
    assert checkpoint.stat().st_size > 5000
    assert [row["epoch"] for row in read_run(run_dir).rows] == [0]


def test_a_checkpoint_to_start_from_is_named(recipe: MakeRecipe, tmp_path: Path) -> None:
    damaged = tmp_path / "start.pt"
    damaged.write_bytes(b"no checkpoint")
    with pytest.raises(
        RecipeError, match=rf"{damaged} cannot be loaded: give another trainer\.load"
    ):
        train(recipe("trainer.max_duration=1ep", f"trainer.load_path={damaged}"))


# ------------------------------------------------------------------ refused before the first step


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithms.data_agent.ratio=0.01", r"ratio=0\.01 of 1437 .* use ratio >= 0\.0891"),
        ("algorithms.data_agent={state: both, head: nope}", r"head='nope'"),
        ("train_loader.dataset.batching_method=device_per_stream", r"='device_per_stream'"),
        ("algorithms.selective_backprop={}", r"SelectiveBackprop"),
        ("model.num_classes=5", r"IndexError: Target \d is out of bounds"),
        ("train_loader.dataset.image=picture", r"image=.picture. is no column"),
    ],
)
def test_after_a_refusal_the_recipe_put_right_starts(
    recipe: MakeRecipe, override: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        train(recipe(override))
    made = recipe("trainer.max_duration=1ep")
    assert not (Path(made.run_dir) / RECIPE_FILE).exists()
    train(made)
    assert is_finished(made)


def test_a_run_folder_that_is_a_file_is_refused(recipe: MakeRecipe) -> None:
    made = recipe()
    Path(made.run_dir).touch()
    with pytest.raises(RecipeError, match=rf"cannot start: .*{made.run_dir}"):
        train(made)


def test_a_refused_resumption_leaves_the_stored_recipe(recipe: MakeRecipe) -> None:
    short, long = recipe("trainer.max_duration=1ep"), recipe("trainer.max_duration=2ep")
    run_dir = train(short)
    history = run_dir / "history.jsonl"
    rows = history.read_bytes()
    history.write_text("damaged\n")
    with pytest.raises(RecipeError, match=r"history\.jsonl.*damaged"):
        train(long)
    assert is_finished(short)
    history.write_bytes(rows)
    train(long)
    assert is_finished(long)


def test_the_recipe_is_there_before_the_first_checkpoint(recipe: MakeRecipe) -> None:
    run_dir = train(recipe("trainer.max_duration=1ba", "trainer.save_interval=1ba"))
    (checkpoint,) = run_dir.glob("checkpoints/ep0-ba1-*")
    assert (run_dir / RECIPE_FILE).stat().st_mtime_ns <= checkpoint.stat().st_mtime_ns


@pytest.mark.filterwarnings("ignore:No batches were trained", "ignore:The ``compute`` method")
def test_an_epoch_of_which_no_batch_is_left_begins_a_run(recipe: MakeRecipe) -> None:
    run_dir = train(recipe("trainer.max_duration=1ep", "trainer.save_interval=12ba"))
    (run_dir / FINISHED_FILE).unlink()
    made = recipe("trainer.max_duration=1ep", "trainer.save_interval=1ep")
    train(made)
    assert list(run_dir.glob("checkpoints/ep1-ba12-*")) and is_finished(made)


def test_an_error_while_training_is_not_the_recipes(
    recipe: MakeRecipe, digits: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(digits / "eval", tmp_path / "eval")
    shard = max(damaged.glob("*.mds"))  # not the one that is read to start with
    shard.write_bytes(bytes(shard.stat().st_size))
    made = recipe(f"eval_loader.dataset.local={damaged}", "eval_loader.batch_size=30")
    with pytest.raises(Exception) as caught:
        train(made)
    assert not isinstance(caught.value, RecipeError)
    assert (Path(made.run_dir) / RECIPE_FILE).exists()


def test_a_run_that_has_trained_longer_is_left_alone(
    recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = recipe("trainer.max_duration=1ep"), recipe("trainer.max_duration=2ep")
    run_dir = train(long)
    for stopped_before_it_said_so in (False, True):
        if stopped_before_it_said_so:
            (run_dir / FINISHED_FILE).unlink()
        capsys.readouterr()
        train(short)
        said = f"{run_dir} has trained 2ep already, max_duration=1ep: nothing to do"
        assert said in capsys.readouterr().out
        assert is_finished(long) != stopped_before_it_said_so and not is_finished(short)
    train(long)
    assert is_finished(long)


def test_another_recipe_does_not_touch_the_run(recipe: MakeRecipe) -> None:
    run_dir = train(recipe("trainer.max_duration=1ep"))
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    changed = "algorithms.data_agent.ratio=0.3"
    with pytest.raises(
        RecipeError, match=r"algorithms\.data_agent\.ratio=0\.5.*has 0\.3.*overwrite=true"
    ):
        train(recipe("trainer.max_duration=1ep", changed))
    with pytest.raises(RecipeError, match="optimizer"):  # refused before anything is removed
        train(recipe("trainer.max_duration=1ep", changed, "overwrite=true", "optimizer.lr=no"))
    with pytest.raises(RecipeError, match=r"ratio=0\.01"):  # or trained
        train(recipe("overwrite=true", "algorithms.data_agent.ratio=0.01"))
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}

    train(recipe("trainer.max_duration=2ep", changed, "overwrite=true"))
    assert [row["selected"] for row in read_run(run_dir).rows] == [1437, 431]
    stored = json.loads((run_dir / "recipe.json").read_text())
    assert stored["algorithms"]["data_agent"]["ratio"] == 0.3


def test_a_damaged_recipe_file_is_an_error(recipe: MakeRecipe) -> None:
    made = recipe("trainer.max_duration=1ep")
    Path(made.run_dir).mkdir()
    (Path(made.run_dir) / "recipe.json").write_text("{")
    with pytest.raises(RecipeError, match=r"recipe\.json is damaged"):
        train(made)


@pytest.mark.parametrize(
    "scheduler",
    [
        "{name: one_cycle_lr, max_lr: 0.01, total_steps: 37}",
        "{name: multi_step, milestones: [1ep, 2ep]}",
        "linear",
        "null",
    ],
)
def test_schedulers(recipe: MakeRecipe, scheduler: str) -> None:
    # 12 batches in a full epoch; the native one is stepped by Composer once an epoch by default.
    every_batch = "one_cycle" in scheduler
    made = recipe(
        "trainer.max_duration=3ep",
        f"scheduler={scheduler}",
        *["trainer.step_schedulers_every_batch=true"] * every_batch,
    )
    rates = [row["learning_rate"] for row in read_run(train(made)).rows]
    if scheduler == "null":
        assert len(set(rates)) == 1
    else:
        assert rates[-1] < 0.4 * rates[0]


@pytest.mark.parametrize(
    "override", ["~algorithms.data_agent", "algorithms.data_agent.run_dir=null"]
)
def test_a_run_without_a_history(recipe: MakeRecipe, override: str) -> None:
    made = recipe("trainer.max_duration=1ep", override)
    assert train_recipe(made) is None
    assert is_finished(made) and not (Path(made.run_dir) / "history.jsonl").exists()


def test_the_history_may_be_elsewhere(recipe: MakeRecipe, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    # Without evaluation, which a recipe need not have.
    made = recipe(
        "trainer.max_duration=1ep", f"algorithms.data_agent.run_dir={elsewhere}", "~eval_loader"
    )
    assert train_recipe(made) == elsewhere
    (row,) = read_run(elsewhere).rows
    assert row.get("metrics", {}) == {}
    assert not (Path(made.run_dir) / "history.jsonl").exists()


@pytest.mark.parametrize("overwrite", ["false", "true"])
def test_a_folder_that_another_process_trains_into(recipe: MakeRecipe, overwrite: str) -> None:
    made = recipe("trainer.max_duration=1ep", f"overwrite={overwrite}")
    run_dir = Path(made.run_dir)
    with run_writer(run_dir, epochs=0) as process:
        before = {path: path.read_bytes() for path in run_dir.rglob("*")}
        with pytest.raises(RecipeError, match="is in use by another process"):
            train(made)
        assert {path: path.read_bytes() for path in run_dir.rglob("*")} == before
        process.kill()
        process.wait()
        train(made)  # its child is still there
    assert len(read_run(run_dir).rows) == 1


def test_a_baseline_without_an_agent_holds_its_folder(recipe: MakeRecipe) -> None:
    made = recipe("trainer.max_duration=1ep")
    made = made.model_copy(update={"algorithms": {}})
    seen: list[bool | None] = []

    class Look(Callback):
        def epoch_end(self, state: State, logger: Logger) -> None:
            seen.append(is_held(Path(made.run_dir) / LOCK))

    assert train_recipe(made, [Look()]) is None
    assert seen == [True]
    assert is_held(Path(made.run_dir) / LOCK) is False  # though this process lives on


def test_folders_are_free_once_a_run_ended_or_failed(recipe: MakeRecipe, tmp_path: Path) -> None:
    made = recipe("trainer.max_duration=2ep", f"algorithms.data_agent.run_dir={tmp_path}/history")
    folders = [Path(made.run_dir), tmp_path / "history"]

    class Fail(Callback):
        def epoch_end(self, state: State, logger: Logger) -> None:
            assert [is_held(folder / LOCK) for folder in folders] == [True, True]
            if state.timestamp.epoch == 2:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        train_recipe(made, [Fail()])
    assert [is_held(folder / LOCK) for folder in folders] == [False, False]
    assert train_recipe(made) == folders[1]
    assert [is_held(folder / LOCK) for folder in folders] == [False, False]
