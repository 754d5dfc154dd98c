# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn images with a class each into MDS shards, for image_classification in recipes.

    \b
    python tools/convert.py folder photos --hold-out 0.1 --out data/photos
    python tools/convert.py torchvision CIFAR10 --root ~/data --out data/cifar10
    python tools/convert.py huggingface beans/ --label-key labels --out data/beans
    python tools/convert.py list labels.csv --root images/ --out data/birds/train
    python tools/convert.py folder imagenet --split train --split val --jobs 16 \\
        --out data/imagenet --remote s3://my-bucket/imagenet
    python tools/convert.py verify s3://my-bucket/imagenet/val

Each split of a source becomes a folder in --out; a source without splits becomes --out itself. What
trains on it is printed, and written to --out/recipe.yaml: composer-dataagent train takes it as it
is. JPEGs, PNGs and WebPs that are grey or in colour are kept byte for byte, unless they are larger
than --resize; others become PNG, grey or in colour. Images are shuffled, since classes that follow
one another make shards of one class.

Stopped or killed, it goes on where it was when the same command is given again, and writes the same
bytes. Every image is decoded before it is written, and every sample is read back before a part of
the shards counts as done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
from conversion.image_folders import in_folders
from conversion.image_lists import in_list
from conversion.image_recipe import recipe_of
from conversion.image_shards import (
    ImageConversion,
    ImageCounts,
    convert_images,
    counts_of_images,
    image_parts,
    size_of_images,
)
from conversion.image_tables import of_hugging_face
from conversion.image_torchvision import of_torchvision
from conversion.job import SETTINGS, Job, run, to_remote
from conversion.listing import Images, Listing, held_out, shuffled
from conversion.verify import verify
from streaming.base.compression import get_compressions, is_compression

from composer_dataagent.report.atomic import write_atomically

# Of what is kept beside the shards. Another one cannot be taken up.
FORMAT = 1
# Names of so many broken images, and classes, are printed.
_TOLD = 5
_COMMAND = {"show_default": True, "max_content_width": 100}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(help=__doc__, context_settings=_COMMAND)
def main() -> None:
    """Convert images, or verify what was converted."""


def _converts(command: Callable[..., Images]) -> Callable[..., None]:
    """Give a command that lists images the options of what becomes of them, and convert them."""

    @click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
    @to_remote
    @click.option("--classes", type=_FILE, help="Names of all classes in order, one a line.")
    @click.option(
        "--columns",
        nargs=2,
        default=("image", "label"),
        help="Names for image and label in the shards.",
    )
    @click.option(
        "--mode",
        type=click.Choice(["RGB", "L"]),
        help="Make all images colour or grey.  [default: they stay what they are]",
    )
    @click.option(
        "--resize", type=click.IntRange(1), help="Scale shorter sides down to so many pixels."
    )
    @click.option(
        "--quality", default=95, type=click.IntRange(1, 100), help="Of JPEGs encoded anew."
    )
    @click.option(
        "--hold-out",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Share of the images that becomes val, to evaluate on, of a source of one split.",
    )
    @click.option("--shuffle", default=17, type=click.IntRange(0), help="Seed of the order.")
    @click.option("--no-shuffle", is_flag=True, help="Keep the order of the source.")
    @click.option(
        "--skip-broken", is_flag=True, help="Leave images out that cannot be read, and list them."
    )
    @click.option(
        "--shard-mb", default=64.0, type=click.FloatRange(0.001, 2000), help="Size of a shard."
    )
    @click.option(
        "--part-mb",
        type=click.FloatRange(0.001),
        help="Of images, at a time.  [default: --shard-mb]",
    )
    @click.option(
        "--compression",
        help="Of shards, for example zstd:7.  [default: none, as fetch: samples needs]",
    )
    @click.option("--jobs", default=2, type=click.IntRange(1), help="Parts at a time, a core each.")
    @wraps(command)
    def converting(
        out: Path,
        classes: Path | None,
        skip_broken: bool,
        hold_out: float | None,
        **options: Any,
    ) -> None:
        shared = {name: options.pop(name) for name in _SHARED}
        names = None if classes is None else _class_names(classes)
        images = command(classes=names, skip_broken=skip_broken, out=out, **options)
        if hold_out is not None:
            images = held_out(images, hold_out, shared["shuffle"])
        _convert(images, out, names, skip_broken=skip_broken, **shared)

    return converting


_SHARED = (
    *("remote", "keep_local", "columns", "mode", "resize", "quality", "shuffle", "no_shuffle"),
    *("shard_mb", "part_mb", "compression", "jobs"),
)
_split = click.option(
    "--split", "splits", multiple=True, help="Of the source; again for more.  [default: all]"
)


@main.command("folder")
@click.argument("root", type=_FOLDER)
@_split
@_converts
def folder_command(
    root: Path, splits: tuple[str, ...], classes: list[str] | None, out: Path, **_: Any
) -> Images:
    """A folder for each class (torchvision's ImageFolder), or for each split with those in it.

    Classes are numbered as their folders are sorted, over all splits. Splits are folders named
    train, val, valid, validation, eval and test, or what --split says.

    \b
    Examples:
      python tools/convert.py folder photos --hold-out 0.1 --out data/photos
      python tools/convert.py folder photos/train --out data/photos/train --resize 256
      python tools/convert.py folder imagenet --split train --split val --jobs 16 \\
          --out data/imagenet --remote s3://my-bucket/imagenet
    """
    if out.resolve().is_relative_to(root.resolve()):
        raise click.UsageError(f"--out {out} is inside of {root}: it would be taken for a class")
    return in_folders(root, splits, classes)


@main.command("torchvision")
@click.argument("name")
@click.option(
    "--root",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where torchvision keeps the data.",
)
@click.option("--download", is_flag=True, help="Let torchvision download what is not there.")
@_split
@_converts
def torchvision_command(
    name: str,
    root: Path,
    download: bool,
    splits: tuple[str, ...],
    classes: list[str] | None,
    **_: Any,
) -> Images:
    """A data set of torchvision's by name: MNIST, FashionMNIST, CIFAR10, CIFAR100, ImageNet, ...

    Files that torchvision reads are kept as they are; arrays become PNG.

    \b
    Examples:
      python tools/convert.py torchvision MNIST --root ~/data --out data/mnist
      python tools/convert.py torchvision CIFAR100 --root ~/data --download --out data/cifar100
      python tools/convert.py torchvision ImageNet --root /data/imagenet --out data/imagenet
    """
    images = of_torchvision(name, root.expanduser(), splits, download)
    own = images.classes
    if (
        classes
        and own
        and [*map(own.index, filter(own.__contains__, classes))]
        != [i for i, each in enumerate(classes) if each in own]
    ):
        raise click.UsageError(
            f"--classes: {name} has its classes in another order ({', '.join(own[:3])}, ...), by "
            "which they are numbered: leave --classes out, or give names in that order"
        )
    return images


@main.command("huggingface")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--image-key", default="image", help="Column of the image.")
@click.option(
    "--label-key", default="label", help="Column of its class: a ClassLabel, number or name."
)
@_split
@_converts
def huggingface_command(
    paths: tuple[Path, ...],
    image_key: str,
    label_key: str,
    splits: tuple[str, ...],
    classes: list[str] | None,
    out: Path,
    **_: Any,
) -> Images:
    """A data set on disk that save_to_disk wrote, or parquet files with a column of images.

    Parquet files in a folder are of the split that their names begin with
    (train-00000-of-00004.parquet), or of the folder's where these are numbers (train/0000.parquet);
    files that are named one by one are of one. Their rows are unpacked beside --out while they are
    converted, which takes as much room again.

    \b
    Examples:
      python tools/convert.py huggingface beans/ --label-key labels --out data/beans
      python tools/convert.py huggingface data/*.parquet --out data/pets
      python tools/convert.py huggingface food101/ --split train --out data/food101 --resize 256
    """
    return of_hugging_face(paths, splits, image_key, label_key, classes, _unpacked_beside(out))


@main.command("list")
@click.argument("path", type=_FILE)
@click.option(
    "--root", type=_FOLDER, help="Paths are relative to it.  [default: the list's folder]"
)
@click.option("--image-key", default="image", help="Column of the path of the image.")
@click.option("--label-key", default="label", help="Column of its class: a number or a name.")
@click.option("--split-key", help="Column of its split.  [default: there is one]")
@_converts
def list_command(
    path: Path,
    root: Path | None,
    image_key: str,
    label_key: str,
    split_key: str | None,
    classes: list[str] | None,
    skip_broken: bool,
    **_: Any,
) -> Images:
    """A list of image files and classes: JSON lines (.jsonl), or .csv and .tsv with headings.

    \b
    Examples:
      python tools/convert.py list labels.csv --root images/ --out data/birds/train
      python tools/convert.py list all.jsonl --image-key file --label-key species \\
          --split-key split --out data/birds
    """
    keys = {"image": image_key, "label": label_key}
    return in_list(path, root or path.parent, keys, split_key, classes, skip_broken)


@main.command("verify")
@click.argument("data", nargs=-1, required=True, metavar="FOLDER|URL...")
@click.option("--split", help="Folder within it that has the shards.")
@click.option("--jobs", default=2, type=click.IntRange(1), help="Shards at a time, a core each.")
def verify_command(data: tuple[str, ...], split: str | None, jobs: int) -> None:
    """Read every sample of shards: sizes, hashes, and all pixels. Ends with 1 if any is wrong.

    What is in an object store is downloaded for it, a shard at a time. Works for all MDS shards,
    also for those that other tools wrote.

    \b
    Examples:
      python tools/convert.py verify data/photos/train data/photos/val
      python tools/convert.py verify s3://my-bucket/imagenet --split val --jobs 8
    """
    wrong = 0
    for source in data:
        try:
            found = verify(source.rstrip("/"), split, jobs)
        except (OSError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{source}: {found.read:,} of {found.samples:,} samples can be read")
        for fault in found.faults:
            click.echo(f"  {fault}", err=True)
        wrong += len(found.faults)
    if wrong:
        raise click.ClickException(f"{wrong} shards are damaged")


def _convert(
    images: Images,
    out: Path,
    names: list[str] | None,
    *,
    remote: str | None,
    keep_local: bool,
    shuffle: int,
    no_shuffle: bool,
    shard_mb: float,
    part_mb: float | None,
    jobs: int,
    **asked: Any,
) -> None:
    """Convert all splits, and tell what became of the images."""
    if asked["compression"] is not None and not is_compression(asked["compression"]):
        raise click.UsageError(
            f"--compression {asked['compression']!r} is not one of {sorted(get_compressions())}"
        )
    if len({*asked["columns"]}) < 2 or not all(asked["columns"]):
        raise click.UsageError(f"--columns {' '.join(asked['columns'])}: give two different names")
    for note in images.notes:
        click.echo(note, err=True)
    classes = names or images.classes
    if None not in images.splits and (out / SETTINGS).exists():
        raise click.ClickException(f"{out} holds another data set: give an empty or new --out")
    remote = None if remote is None else remote.rstrip("/")
    written: dict[str | None, ImageCounts] = {}
    for split, listing in images.splits.items():
        conversion = ImageConversion(
            source=listing.source,
            classes=None if classes is None else len(classes),
            encoding=listing.encoding,
            shard_bytes=int(shard_mb * 2**20),
            **asked,
        )
        items = shuffled(listing, None if no_shuffle else shuffle)
        parts = image_parts(items, int((part_mb or shard_mb) * 2**20))
        folder = out / (split or "")
        job = Job(
            out=folder,
            settings={
                "format": FORMAT,
                "images": f"{len(items):,} images with the digest {listing.state}",
                "classes": classes,
                "shuffle": None if no_shuffle else shuffle,
                "part_mb": part_mb or shard_mb,
                "columns": [*conversion.columns],
                "encoding": conversion.encoding,
                **{name: asked[name] for name in ("mode", "resize", "quality", "compression")},
                "shard_bytes": conversion.shard_bytes,
            },
            parts=parts,
            convert=partial(convert_images, conversion),
            size_of=size_of_images,
            jobs=jobs,
            remote=f"{remote}/{split}" if remote and split else remote,
            keep_local=keep_local,
        )
        run(job, partial(_about, folder, len(parts), classes, conversion.columns[1]))
        written[split] = counts_of_images(folder, len(parts))
        _check_counts(folder, written[split], listing)
        if split:
            click.echo(f"\n{folder}")
        _tell(folder, written[split], classes)
    if images.scratch is not None:
        shutil.rmtree(images.scratch, ignore_errors=True)
    is_local = keep_local or remote is None
    _write_recipe(out, recipe_of(out, written, classes, remote, is_local, asked["columns"]))
    told = {str(split or ""): counts.as_dict(classes) for split, counts in written.items()}
    click.echo(json.dumps({"out": str(out), "remote": remote, "splits": told}))


def _about(out: Path, parts: int, classes: Sequence[str] | None, label: str) -> dict[str, Any]:
    """What the index tells of the images."""
    counts = counts_of_images(out, parts)
    if not counts.samples:
        raise click.ClickException(
            f"none of {counts.images:,} images can be read, the first: "
            f"{' '.join(counts.skipped[0])}"
        )
    return {
        "images": {
            "label": label,
            "classes": counts.classes if classes is None else len(classes),
            "class_names": classes,
        }
    }


def _check_counts(out: Path, counts: ImageCounts, listing: Listing) -> None:
    """As many as there were."""
    index = json.loads((out / "index.json").read_text())
    samples = sum(shard["samples"] for shard in index["shards"])
    if not samples == counts.samples == len(listing.items) - len(counts.skipped):
        raise click.ClickException(
            f"{out} has {samples:,} samples of {len(listing.items):,} images, of which "
            f"{len(counts.skipped):,} are broken: remove it, and convert again"
        )


def _tell(out: Path, counts: ImageCounts, classes: Sequence[str] | None) -> None:
    for name, count in counts.as_dict(classes).items():
        told = f"{count:15,}" if isinstance(count, int) else f"{count:>15}"
        click.echo(f"{name.replace('_', ' '):19} {told}")
    known = counts.classes if classes is None else len(classes)
    if empty := known - len(counts.of_class):
        click.echo(f"{out}: {empty:,} of {known:,} classes have no images", err=True)
    if counts.skipped:
        lines = "".join(f"{name}\t{fault}\n" for name, fault in counts.skipped)
        path = out / "skipped.tsv"
        write_atomically(path, lines.encode("utf-8", "surrogateescape"))
        for name, fault in counts.skipped[:_TOLD]:
            click.echo(f"skipped {name} ({fault})", err=True)
        click.echo(f"{len(counts.skipped):,} broken images were left out: {path}", err=True)


def _write_recipe(out: Path, recipe: str) -> None:
    """Print it, and keep it; one that is there may be somebody's work."""
    path = out / "recipe.yaml"
    if not path.exists():
        write_atomically(path, recipe.encode())
    is_it = path.read_text() == recipe
    click.echo(f"\n# {path}" + ("" if is_it else " was there, and is left as it is"))
    click.echo(recipe)
    if "eval_loader:" not in recipe:
        click.echo(
            "# It evaluates on nothing: --hold-out 0.1 (and a new --out) keeps a tenth for it. Or "
            "give the recipe an eval_loader, or have two splits, train and val\n"
        )
    click.echo(f"# composer-dataagent train {path}")


def _class_names(path: Path) -> list[str]:
    names = path.read_text().splitlines()
    if not names or len({*names}) < len(names) or not all(name.strip() for name in names):
        raise click.UsageError(f"--classes {path}: give one name a line, each once")
    return names


def _unpacked_beside(out: Path) -> Path:
    """Where rows of parquet files are while they are converted."""
    return out.resolve().with_name(f".{out.resolve().name}.unpacked")


if __name__ == "__main__":
    main()
