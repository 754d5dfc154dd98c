# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The commands of ``composer-dataagent``."""

from __future__ import annotations

import json
import math
import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import click

from composer_dataagent.version import __version__

# Imports that take seconds (torch, Composer) are made by the command that needs them.

# Of every last batch that is not full, and of rounded label-smoothing targets: nothing to act on.
_KNOWN_WARNINGS = (
    "Cannot split tensor of length",
    "Some targets have less than 1 total probability",
)
# What is wrong with a recipe, if anything, and notes.
_Verdict = tuple[str | None, list[str]]
# Each takes up to a hundred of the 1,024 files that a process may have open on many systems.
_RECIPES_PER_PROCESS = 4


def _known(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse ``nan``, which is in every range."""
    del context, parameter
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Train on the samples that are worth it now, and stream only those.

    \b
    First steps:
      composer-dataagent demo                      four ways to train, a table, a report
      composer-dataagent train yamls/digits.yaml   one run from a recipe
      composer-dataagent validate mine.yaml        whether a recipe would train
      composer-dataagent report runs/digits        its report
      composer-dataagent suspects runs/digits      samples that probably have a wrong label
      composer-dataagent plan s3://bucket/data     what a run would download
      composer-dataagent doctor                    whether this machine can train
    """
    _silence_known_warnings()


def _silence_known_warnings() -> None:
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message)


@main.command()
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def train(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Train from a YAML recipe.

    KEY=VALUE replaces a value of the recipe, or adds one; of a section, KEY={...} replaces only
    what it names. ~KEY leaves a key out: give it before to replace a whole section. Dots reach into
    sections. A run that was killed goes on from its last checkpoint when the same command is given
    again.

    \b
    Examples:
      composer-dataagent train yamls/digits.yaml
      composer-dataagent train yamls/digits.yaml run_name=third algorithms.data_agent.ratio=0.3
      composer-dataagent train yamls/digits.yaml algorithms.label_smoothing.smoothing=0.1
      composer -n 2 -m composer_dataagent train yamls/digits.yaml
    """
    from composer_dataagent import collectives
    from composer_dataagent.recipes import RecipeError, load_recipe
    from composer_dataagent.recipes import train as run

    try:
        history = run(load_recipe(recipe, overrides))
    except RecipeError as error:
        raise click.ClickException(str(error)) from error
    if collectives.rank() != 0:
        return
    if history is None:
        click.echo("There is no report: the recipe has no data_agent that writes a history")
    else:
        _write_report([history], None)


@main.command("doctor")
@click.argument("data", metavar="[RECIPE|DATA]...", nargs=-1)
@click.option("--split", help="Folder within DATA that has the shards.")
def doctor_command(data: tuple[str, ...], split: str | None) -> None:
    """Say whether this machine can train, and if not, what to do.

    Looks at packages and their versions, GPUs, shared memory, temporary and open files. With DATA
    (a folder or URL of shards), or a RECIPE, whose data and folders are meant, also whether it can
    be read with the credentials that are there, and whether cache and runs can be written and have
    room. Of the data, only the index is fetched.

    \b
    Examples:
      composer-dataagent doctor
      composer-dataagent doctor s3://bucket/data --split train
      composer-dataagent doctor yamls/imagenet_resnet50.yaml
    """
    from composer_dataagent.doctor import check_local, check_machine, check_packages, check_remote

    bad = _tell(check_packages())
    bad += _tell(check_machine())
    if bad and data:
        raise click.ClickException(f"{bad} to be mended first; {', '.join(data)} not looked at")
    for each in data:
        if Path(each).suffix in (".yaml", ".yml"):
            from composer_dataagent.recipes.examine import examine

            try:
                bad += _tell(examine(Path(each)))
            except ValueError as error:
                raise click.ClickException(str(error)) from error
        else:
            bad += _tell([check_remote(each, split)[0]])
    if not data:
        bad += _tell([check_local(Path("runs"))])
    if bad:
        raise click.ClickException(f"{bad} to be mended before training")


def _tell(findings: Sequence[Any]) -> int:
    """Print findings; give the number of bad ones."""
    colours = {"good": "green", "note": "yellow", "bad": "red"}
    for each in findings:
        click.echo(f"{click.style(f'{each.level:4}', fg=colours[each.level])}  {each.what}")
        if each.advice:
            click.echo(f"      {each.advice}")
    return sum(each.level == "bad" for each in findings)


@main.command("validate")
@click.argument("arguments", nargs=-1, required=True, metavar="RECIPE... [KEY=VALUE]...")
@click.option("--smoke", is_flag=True, help="Also train a few steps, on random data and the CPU.")
def validate_command(arguments: tuple[str, ...], smoke: bool) -> None:
    """Say whether recipes would train, before it costs anything.

    Makes model, optimizer, schedule, algorithms, callbacks and loggers, and looks at data that are
    on this machine; nothing is downloaded. What could not be looked at is said. KEY=VALUE changes
    all recipes, as in train.

    With --smoke, each is trained for two epochs of a few steps, of which the second is selected,
    and evaluated: the code of a real run, on random data of the right shape. A ResNet-50 takes some
    20 seconds.

    \b
    Examples:
      composer-dataagent validate yamls/*.yaml
      composer-dataagent validate yamls/imagenet_resnet50.yaml --smoke
      composer-dataagent validate mine.yaml algorithms.data_agent.ratio=0.3
    """
    overrides = [each for each in arguments if _is_override(each)]
    recipes = [Path(each) for each in arguments if not _is_override(each)]
    if not recipes:
        raise click.UsageError("name at least one recipe")
    failed = 0
    for path, (problem, notes) in zip(recipes, _verdicts(recipes, overrides, smoke), strict=True):
        if problem is None:
            click.echo(f"right  {path}" + (f" ({'; '.join(notes)})" if notes else ""))
        else:
            failed += 1
            click.secho(f"wrong  {path}: {problem.removeprefix(f'{path}: ')}", fg="red")
    if failed:
        raise click.ClickException(f"{failed} of {len(recipes)} recipes would not train")


def _verdicts(recipes: list[Path], overrides: list[str], smoke: bool) -> Iterator[_Verdict]:
    """What is wrong with each recipe, and notes.

    Streaming gives back shared memory and the files behind it when its process ends, so of many
    recipes, a few each have a process of their own.
    """
    if len(recipes) == 1:
        yield _verdict(recipes[0], overrides, smoke)
        return
    for first in range(0, len(recipes), _RECIPES_PER_PROCESS):
        some = recipes[first : first + _RECIPES_PER_PROCESS]
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            coming = [pool.submit(_verdict, path, overrides, smoke) for path in some]
            yield from map(_result, coming)


def _result(coming: Future[_Verdict]) -> _Verdict:
    try:
        return coming.result()
    except BrokenProcessPool:
        return "its process was killed, or that of one just before: give it alone", []


def _verdict(path: Path, overrides: list[str], smoke: bool) -> _Verdict:
    from composer_dataagent.recipes import RecipeError
    from composer_dataagent.recipes.trial import try_out
    from composer_dataagent.recipes.validate import load_for_validation, validate

    _silence_known_warnings()
    try:
        recipe, notes = load_for_validation(path, overrides)
        notes += validate(recipe)
        notes += try_out(recipe) if smoke else []
    except RecipeError as error:
        return str(error), []
    except Exception as error:  # a fault of ours, or of a library: the others are looked at
        return f"{type(error).__name__}: {error}", []
    return None, notes


def _is_override(argument: str) -> bool:
    return not Path(argument).exists() and (argument.startswith("~") or "=" in argument)


@main.command()
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each.")
@click.option(
    "--folder",
    default="runs/demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where runs and report go.",
)
@click.option(
    "--data",
    default="data/digits",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the shards are, or go.",
)
@click.option("--fresh", is_flag=True, help="Train again what is there already.")
def demo(seeds: int, folder: Path, data: Path, fresh: bool) -> None:
    """Compare full data, random selection, InfoBatch and DataAgent on real digits.

    Trains the same small CNN four ways through the same recipe and ends with a table and a report.
    Finished runs are used again. Needs no network: the images come with scikit-learn.
    """
    from composer_dataagent.recipes import RecipeError
    from composer_dataagent.recipes.demo import run_demo

    try:
        run_dirs = run_demo(folder, data, seeds, fresh)
    except RecipeError as error:
        raise click.ClickException(str(error)) from error
    _write_report(run_dirs, folder / "report.html")


@main.command("prepare-digits")
@click.option(
    "--out",
    default="data/digits",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that gets the splits train and eval.",
)
def prepare_digits_command(out: Path) -> None:
    """Write scikit-learn's digits as MDS shards (1,437 + 360 images, no download)."""
    from composer_dataagent.recipes import RecipeError
    from composer_dataagent.recipes.digits import prepare_digits

    try:
        click.echo(prepare_digits(out))
    except RecipeError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("run_dirs", nargs=-1, required=True, metavar="RUN_DIR...", type=click.Path())
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The HTML file.")
@click.option(
    "--png",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that gets every picture as a PNG file.",
)
@click.option("--overwrite", is_flag=True, help="Replace pictures, or a file that is no page.")
@click.option(
    "--dollars-per-hour",
    type=click.FloatRange(0, math.inf, max_open=True),
    callback=_known,
    help="Of all machines together: what was saved is told in money, too.",
)
@click.option("--follow", is_flag=True, help="Write the page anew until all runs have ended.")
@click.option(
    "--every",
    type=click.FloatRange(1, 86_400),
    callback=_known,
    help="Seconds between two pages of --follow.  [default: 10]",
)
def report(
    run_dirs: tuple[str, ...],
    out: Path | None,
    png: Path | None,
    overwrite: bool,
    dollars_per_hour: float | None,
    follow: bool,
    every: float | None,
) -> None:
    """Make the report of one or more runs again: a table here, and one HTML page.

    The page is written to RUN_DIR/report.html, or with several runs to --out. Works while runs go
    on; with --follow the page loads itself again as they do. Runs of the selector "full" beside
    others tell what was saved.

    \b
    Examples:
      composer-dataagent report runs/digits
      composer-dataagent report runs/digits runs/third --out compared.html
      composer-dataagent report runs/digits runs/full --out saved.html --dollars-per-hour 2.50
      composer-dataagent report runs/digits --png figures
      composer-dataagent report runs/digits --follow --every 30
    """
    if len(run_dirs) > 1 and out is None:
        raise click.UsageError("several runs go into one page: name it with --out")
    if every is not None and not follow:
        raise click.UsageError("--every is about --follow: give that, too")
    _write_report(
        [Path(run_dir) for run_dir in run_dirs],
        out,
        png=png,
        overwrite=overwrite,
        dollars_per_hour=dollars_per_hour,
        every=(every or 10.0) if follow else None,
    )


@main.command("suspects")
@click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The CSV file.  [default: RUN_DIR/suspects.csv]",
)
@click.option("--top", type=click.IntRange(1), help="How many at most.  [default: all]")
@click.option("--overwrite", is_flag=True, help="Replace a file that says something else.")
def suspects_command(run_dir: Path, out: Path | None, top: int | None, overwrite: bool) -> None:
    """List a run's probably mislabelled samples, the most contradicted first.

    A sample is listed if the model, each time that it trained on it, gave the label far less
    probability than another class. sample_id is the position in the data set: dataset[sample_id]
    is the sample. Works while the run goes on, and for runs of every selector, full included.

    \b
    Examples:
      composer-dataagent suspects runs/digits
      composer-dataagent suspects runs/digits --top 500 --out check.csv
    """
    from composer_dataagent.report import read_run
    from composer_dataagent.report.suspects import list_suspects, print_suspects, write_suspects

    try:
        run = read_run(run_dir)
        found = list_suspects(run, top)
        path = write_suspects(found, out or run_dir / "suspects.csv", overwrite)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    print_suspects(run, found)
    click.echo(f"List: {path}")


@main.command("plan")
@click.argument("data", metavar="DATA|RECIPE")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--split", help="Folder within DATA that has the shards.")
@click.option("--ratio", type=float, help="Share of the samples of an epoch.  [default: 0.5]")
@click.option("--epochs", type=click.IntRange(1), help="How many.  [default: 10]")
@click.option("--warmup", type=int, help="Full epochs at the start.  [default: 1]")
@click.option("--anneal", type=float, help="Share of full epochs at the end.  [default: 0]")
@click.option("--cache-limit", help="Of each node, as 100gb; 0: none.  [default: no limit]")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1), help="Machines.")
@click.option("--workers", type=click.IntRange(1), help="Loader workers a node.  [default: 1]")
@click.option("--dollars-per-gb", type=float, help="Of 10^9 bytes.  [default: 0.09]")
@click.option("--dollars-per-million-requests", type=float, help="[default: 0.4]")
@click.option("--dollars-per-hour", type=float, help="Of waiting for data.  [default: 0]")
@click.option("--bandwidth", help="Bytes a second of a worker.  [default: 100e6]")
@click.option("--concurrency", type=int, help="Requests at once of a worker.  [default: 64]")
@click.option("--latency", type=float, help="Seconds of a request.  [default: 0.02]")
@click.option("--seed", type=click.IntRange(0), help="Draws selections.  [default: 0]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one line of JSON.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Page (.html) or picture of bytes against ratio (.svg).",
)
def plan_command(data: str, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Tell before a run what it will download, from the index alone.

    DATA is a folder or URL of shards, as StreamingDataset's remote: only its index.json is
    downloaded. Or a RECIPE (.yaml): then data, ratio, warm-up, epochs, cache limit, workers, costs
    and seed are those of the recipe, where no option says otherwise.

    Four ways to read are compared: full data; random samples, of which whole shards are fetched,
    as stock streaming does with a subset; the same, of which only ranges are fetched, or whole
    shards where those are cheaper; and a selection of whole shards, which is as little as whole
    shards allow.

    Sizes are read as streaming reads them, 1gb being 1024^3 bytes; figures are in powers of 1000,
    as clouds count. The time is that of the downloads alone: training may go on meanwhile.

    \b
    Examples:
      composer-dataagent plan s3://bucket/data --split train --ratio 0.3 --epochs 90 --out plan.html
      composer-dataagent plan s3://bucket/data --cache-limit 100gb --nodes 2 --warmup 0
      composer-dataagent plan yamls/digits.yaml algorithms.data_agent.ratio=0.3 --cache-limit 0
      composer-dataagent plan data/digits/train --json
    """
    from composer_dataagent.recipes.plan import plan, run_of
    from composer_dataagent.report.plan import check_path, print_plan, write_plan

    out = options.pop("out")
    try:
        if out is not None:
            check_path(out)
        found = plan(run_of(data, overrides, **options), show_progress=not as_json)
        if out is not None:
            write_plan(found, out)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(found))
        return
    print_plan(found)
    if out is not None:
        click.echo(f"\n{'Page' if out.suffix == '.html' else 'Picture'}: {out}")


@main.command()
def selectors() -> None:
    """List the selectors: the rules that can pick the next epoch's samples.

    Each takes an egress_weight, too: the higher, the fewer shards a selection touches.

    \b
    Example, in a recipe:
      selector: {name: entropy, egress_weight: 0.2}
    """
    from composer_dataagent.selection import SELECTORS, selector_names

    width = max(map(len, selector_names()))
    for name in selector_names():
        click.echo(f"{name:{width}}  {SELECTORS[name].summary}")


def _write_report(
    run_dirs: list[Path],
    out: Path | None,
    *,
    png: Path | None = None,
    overwrite: bool = False,
    dollars_per_hour: float | None = None,
    every: float | None = None,
) -> None:
    """Print the table, write the page, and say where it is; with ``every``, until runs end."""
    from composer_dataagent.report import read_run, write_page
    from composer_dataagent.report.follow import follow
    from composer_dataagent.report.page import check_page
    from composer_dataagent.report.png import write_pictures
    from composer_dataagent.report.savings import savings
    from composer_dataagent.report.standing import states_of
    from composer_dataagent.report.table import print_table

    page = out or run_dirs[0] / "report.html"
    try:
        if not overwrite:
            check_page(page)
            if every is not None and png is not None and any(png.glob("*.png")):
                raise FileExistsError(
                    f"{png} has pictures already, and those of --follow are written when all has "
                    "ended: give another folder, or --overwrite"
                )
        if every is None:
            runs = [read_run(run_dir) for run_dir in run_dirs]
            write_page(runs, page, dollars_per_hour=dollars_per_hour)
        else:
            click.echo(f"Page, as long as the runs go on: {page} (Ctrl-C ends this, not them)")
            runs = follow(run_dirs, page, every, _tell_states, dollars_per_hour)
        pictures = [] if png is None else write_pictures(runs, png, overwrite)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if not runs:  # Ctrl-C came before anything was read
        return
    print_table(runs)
    for each in savings(runs, dollars_per_hour):
        click.echo(f"{each.label} {each.against}: {each.text}")
    if every is None:
        _tell_states(states_of(runs))
    click.echo(f"Report: {page}")
    if png is not None:
        click.echo(f"Pictures: {len(pictures)} in {png}")


def _tell_states(states: Sequence[Any]) -> None:
    """Say of runs that go on, how far they are."""
    for state in states:
        click.echo(f"{state.name}: {state.text}")
