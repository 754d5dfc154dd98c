# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""The pictures of a page as files, for slides and papers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from composer_dataagent.report.atomic import write_atomically
from composer_dataagent.report.figures import RUN_PICTURES, draw_metric
from composer_dataagent.report.picture import Picture
from composer_dataagent.report.run import Run
from composer_dataagent.report.summary import group_runs
from composer_dataagent.report.svg import to_png
from composer_dataagent.report.wording import short

NAME_LENGTH, HEADING_LENGTH = 80, 70


def write_pictures(runs: Sequence[Run], folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Write every picture of the runs' page as a PNG file.

    Args:
        runs (Sequence[Run]): As for :func:`~composer_dataagent.report.write_page`.
        folder (str | Path): Made if absent. The files are called after what they show:
            ``data_agent_which-shards-are-read.png``.
        overwrite (bool): Replace files that show something else. Default: ``False``.

    Returns:
        list[Path]: The files, in the order of the page.

    Raises:
        FileExistsError: One of them is there, shows something else, and ``overwrite`` is false;
            none is written then.
        OSError: The folder cannot be made or written.
    """
    folder = Path(folder)
    files: dict[Path, bytes] = {}
    for label, picture in _pictures(runs):
        name = "_".join(filter(None, map(_plain, (label, picture.title))))
        path = folder / f"{name}.png"
        while path in files:  # labels that differ in what a file name cannot have
            path = path.with_stem(f"{path.stem}-more")
        heading = f"{picture.title}: {label}" if label else picture.title
        files[path] = to_png(picture.figure, short(heading, HEADING_LENGTH))
    for path, data in files.items():
        if not overwrite and path.exists() and path.read_bytes() != data:
            raise FileExistsError(
                f"{path} is there already and shows something else: give another folder, or "
                "--overwrite"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            write_atomically(path, data)
    except OSError as error:
        raise OSError(
            f"The pictures cannot be written to {folder} ({error}): use another"
        ) from error
    return list(files)


def _pictures(runs: Sequence[Run]) -> Iterable[tuple[str, Picture]]:
    """The label of the runs that it is of, and the picture; no label of all."""
    groups = group_runs(runs)
    metric = draw_metric(groups)
    if metric is not None:
        yield "", metric
    for label, group in groups.items():
        for draw in RUN_PICTURES:
            picture = draw(group[0])
            if picture is not None:
                yield label, picture


def _plain(text: str) -> str:
    """Text as a part of a file name on any system."""
    return re.sub(r"[^\w.=]+", "-", text)[:NAME_LENGTH].strip("-.").lower()
