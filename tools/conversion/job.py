# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A conversion as a job: in parts, by several processes, and killed it goes on where it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import click
from folder_lock import LOCK, held
from streaming.base.format import reader_from_json
from streaming.base.storage.upload import CloudUploader
from tqdm import tqdm

from composer_dataagent.streaming.index_file import index_bytes, is_folder
from conversion.parts import INDEX, folder_of, merged, write_json
from conversion.stored import faults_of_files
from conversion.workers import in_processes

SETTINGS, BESIDE = "conversion.json", "writing_"

Part = TypeVar("Part")


@dataclass(frozen=True)
class Job(Generic[Part]):
    """What is converted, and where to.

    Attributes:
        out (Path): Folder of the parts, and of the index over all their shards.
        settings (Mapping[str, Any]): All that the shards depend on; as JSON has it.
        parts (Sequence[Part]): Of the inputs.
        convert (Callable[[Part, Path], None]): Writes a part's shards, their index and whatever
            else, into a folder that is empty; can be pickled.
        size_of (Callable[[Part], int]): Bytes of a part, for the progress bar.
        jobs (int): Parts at a time.
        remote (str | None): Folder or URL that gets the shards and the index, too. Default: none.
        keep_local (bool): Whether ``out`` keeps shards that ``remote`` has got. Default: ``False``.
    """

    out: Path
    settings: Mapping[str, Any]
    parts: Sequence[Part]
    convert: Callable[[Part, Path], None]
    size_of: Callable[[Part], int]
    jobs: int
    remote: str | None = None
    keep_local: bool = False

    @property
    def is_local(self) -> bool:
        """Whether ``out`` has the shards in the end."""
        return self.keep_local or self.remote is None


def to_remote(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a command that runs a job: ``remote`` and ``keep_local``."""
    remote = click.option(
        "--remote", help="Folder or URL that gets the shards: s3://, gs://, azure://, ..."
    )
    keep = click.option("--keep-local", is_flag=True, help="Keep in --out what --remote has got.")
    return remote(keep(command))


def run(job: Job[Any], about: Callable[[], Mapping[str, Any]]) -> None:
    """Convert the parts that are not there yet, and write one index over all.

    All files are looked at in the end. A remote gets its index last, so that nobody reads what is
    not whole.

    Args:
        job (Job): What is asked for.
        about (Callable[[], Mapping[str, Any]]): Called once all parts are there: what the index
            says beside its shards. What it raises, where there is nothing to write an index over,
            is raised; the parts are removed then, being of no use to other settings, either.

    Raises:
        click.ClickException: The folder has something else, or an input cannot be read.
    """
    out = job.out
    if job.keep_local and job.remote is None:
        raise click.UsageError("--keep-local is about shards that --remote gets, too")
    remote = None if job.remote is None or not is_folder(job.remote) else Path(job.remote)
    if remote is not None and remote.resolve() == out.resolve():
        raise click.UsageError(f"--remote is --out, {out}: leave it out")
    if re.match(r"\w+:/", str(out)):  # pathlib makes one slash of two
        raise click.UsageError(f"--out={out} is a folder here: give the URL as --remote")
    places = {} if job.remote is None else {"remote": job.remote, "keep_local": job.keep_local}
    out.mkdir(parents=True, exist_ok=True)
    refusal = f"another conversion writes to {out}: wait for it"
    with held(out, refusal), _ended_as_by_ctrl_c():
        _take_up(out, {**job.settings, **places})
        for left in out.glob(f"{BESIDE}*"):  # by a kill
            shutil.rmtree(left, ignore_errors=True)
        folders = [folder_of(out, i) for i in range(len(job.parts))]
        parts_there = all(folder.exists() for folder in folders)
        if not (parts_there and (out / INDEX).exists()):
            if not parts_there:
                _refuse_other_data(job)
                (out / INDEX).unlink(missing_ok=True)
                _convert(job)
            try:
                facts = about()
            except click.ClickException:
                for folder in folders:
                    shutil.rmtree(folder)
                raise
            index = {"version": 2, "shards": merged(out, len(job.parts)), **facts}
            write_json(out / INDEX, index)
        _check_written(job)
        if job.remote is not None:
            _put_index(job.remote, (out / INDEX).read_bytes())


def _take_up(out: Path, settings: Mapping[str, Any]) -> None:
    """Go on in a folder of the same conversion; refuse any other."""
    kept = out / SETTINGS
    try:
        then = json.loads(kept.read_text()) if kept.exists() else None
    except ValueError as error:
        raise click.ClickException(f"{kept} is damaged: remove {out}, and convert again") from error
    if then is None and [p for p in out.iterdir() if p.name not in (LOCK, f"{SETTINGS}.tmp")]:
        raise click.ClickException(f"{out} holds something else: give an empty or new --out")
    if then is not None and any(out.glob("part_?????")):
        for name in sorted(then.keys() | settings.keys()):
            before, now = then.get(name), settings.get(name)
            if name == "inputs" and isinstance(before, list) and len(before) == len(settings[name]):
                before, now = next(
                    ((a, b) for a, b in zip(before, settings[name], strict=True) if a != b),
                    (None, None),
                )
            if before != now:
                raise click.ClickException(
                    f"{out} was begun with {name}={before!r}, and now it is {now!r}: give another "
                    "--out, or remove the folder"
                )
    write_json(kept, settings)


def _convert(job: Job[Any]) -> None:
    """Convert the parts that are not there yet.

    They are written beside, in a folder that no other process knows, and moved by this one, which
    holds the lock: what others that were killed might still write is not in the way.
    """
    out, parts = job.out, job.parts
    todo = [i for i in range(len(parts)) if not folder_of(out, i).exists()]
    done = sum(job.size_of(parts[i]) for i in {*range(len(parts))} - {*todo})
    whole = sum(map(job.size_of, parts))
    work = partial(_convert_part, job.convert, job.remote, job.is_local)
    with (
        TemporaryDirectory(prefix=BESIDE, dir=out, ignore_cleanup_errors=True) as beside,
        tqdm(total=whole, initial=done, desc=str(out), unit="B", unit_scale=True) as progress,
    ):
        written = {folder_of(Path(beside), i): parts[i] for i in todo}
        for folder, _ in in_processes(work, written, job.jobs):
            folder.rename(out / folder.name)
            progress.update(job.size_of(written[folder]))
    sys.stderr.flush()  # the end of the bar's line, before what is told next


def _convert_part(
    convert: Callable[[Any, Path], None],
    remote: str | None,
    is_local: bool,
    part: Any,
    folder: Path,
) -> None:
    """A part, and its shards where they are to be: others do not see them before the index."""
    if remote is None:
        convert(part, folder)
        return
    # First, so that a remote that cannot be written costs no work.
    uploader = _uploader(folder, f"{remote}/{folder.name}")
    convert(part, folder)
    for shard in json.loads((folder / INDEX).read_text())["shards"]:
        name = (shard["zip_data"] or shard["raw_data"])["basename"]
        _upload(uploader, name)
        if not is_local:
            (folder / name).unlink()


def _refuse_other_data(job: Job[Any]) -> None:
    """Nobody's data are written over: an index that is not ours is another's."""
    ours = job.out / INDEX  # of a conversion of which a part was removed
    there = None if job.remote is None else _remote_index(job.remote)
    if there is not None and not (ours.exists() and ours.read_bytes() == there):
        raise click.ClickException(
            f"{job.remote} has a data set already (there is an {INDEX}): give another --remote, or "
            "remove what is there"
        )


def _remote_index(remote: str) -> bytes | None:
    """The index that a remote has, if there is one that can be read."""
    try:
        return index_bytes(remote)
    except OSError:  # it is not there; whether the remote is there, the first upload tells
        return None


def _put_index(remote: str, content: bytes) -> None:
    there = _remote_index(remote)
    if there == content:
        return
    if there is not None:
        raise click.ClickException(
            f"{remote}/{INDEX} is of another data set now: give another --remote and --out"
        )
    with TemporaryDirectory() as folder:
        uploader = _uploader(Path(folder), remote)
        Path(folder, INDEX).write_bytes(content)
        _upload(uploader, INDEX)


def _uploader(folder: Path, remote: str) -> CloudUploader:
    try:
        return CloudUploader.get((str(folder), remote), keep_local=True)
    except Exception as error:  # of any provider's client
        raise _unwritable(remote, error) from error


def _upload(uploader: CloudUploader, name: str) -> None:
    try:
        uploader.upload_file(name)
    except Exception as error:  # of any provider's client
        raise _unwritable(os.path.join(uploader.remote or "", name), error) from error


def _unwritable(where: str, error: Exception) -> click.ClickException:
    return click.ClickException(
        f"--remote: {where} cannot be written ({type(error).__name__}: {error}). Put that right, "
        "and give the same command again: it goes on where it was"
    )


def _check_written(job: Job[Any]) -> None:
    """All files of the index are there, and as large as it says."""
    found = json.loads((job.out / INDEX).read_text())["shards"]
    shards = [reader_from_json("", None, shard) for shard in found]
    places = [job.remote] if job.remote is not None else []
    for place in [*places, *([str(job.out)] if job.is_local else [])]:
        try:
            faults = faults_of_files(place, shards)
        except OSError as error:
            raise click.ClickException(str(error)) from error
        if faults:
            raise click.ClickException(
                f"{len(faults)} files are not what was written, the first: {faults[0]}. Remove its "
                f"part_... folder from {job.out}, and give the same command again"
            )


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM would end this process alone, and at once, without a chance to end its workers."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
