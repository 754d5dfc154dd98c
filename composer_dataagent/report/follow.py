# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The page of runs that go on, written anew until they have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from composer_dataagent.report.page import describe_page, write_described
from composer_dataagent.report.run import LEDGER, META, ROWS, SAMPLES, Run, look_again, read_run
from composer_dataagent.report.standing import State, is_over, states_of

# A training run writes its own page when it ends, maybe in the same moment.
SUFFIX = ".follow.tmp"


def follow(
    run_dirs: Sequence[str | Path],
    path: str | Path,
    every: float,
    tell: Callable[[list[State]], object],
    dollars_per_hour: float | None = None,
) -> list[Run]:
    """Write a page that reloads itself again and again, until all runs have ended or died.

    The last page does not reload itself, nor the one that Ctrl-C leaves.

    Args:
        run_dirs (Sequence[str | Path]): At least one run folder.
        path (str | Path): The HTML file.
        every (float): Seconds from one page to the next.
        tell (Callable[[list[State]], object]): Is given what is known of the runs, each time that
            one of them begins another epoch, ends or dies.
        dollars_per_hour (float | None): What an hour of training costs. Default: no price.

    Returns:
        list[Run]: As they were last.

    Raises:
        OSError: A run folder cannot be read, or the page not be written.
        ValueError: A run folder is damaged.
    """
    page, runs = {}, []
    stamps = told = None
    try:
        while True:
            found = [_stamps(Path(run_dir)) for run_dir in run_dirs]
            if found != stamps:  # else only time has passed: pictures need not be drawn again
                runs = [read_run(run_dir) for run_dir in run_dirs]
                stamps, page = found, describe_page(runs, dollars_per_hour=dollars_per_hour)
            runs = [look_again(run) for run in runs]
            over = all(map(is_over, runs))
            write_described(page, runs, path, None if over else every, SUFFIX)
            news = [
                (run.standing.state, int(run.standing.epochs))
                for run in runs
                if run.standing is not None
            ]
            if news != told:
                tell(states_of(runs))
                told = news
            if over:
                return runs
            time.sleep(every)
    except KeyboardInterrupt:
        if page:
            write_described(page, runs, path, None, SUFFIX)
        return runs


def _stamps(run_dir: Path) -> list[tuple[int, int] | None]:
    """What changes with the files of a run, but for its signs of life."""
    return [_stamp(run_dir / name) for name in (META, ROWS, LEDGER, SAMPLES)]


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size
