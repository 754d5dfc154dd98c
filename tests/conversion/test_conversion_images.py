# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/convert.py``: each source gives its images, byte for byte, with their classes."""

from __future__ import annotations

import io
import json
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml
from conversion import image_torchvision
from conversion.image_recipe import recipe_of
from conversion.image_shards import ImageCounts
from conversion_folders import files_of
from image_files import (
    NAMES,
    convert,
    converted,
    digits,
    encoded,
    image_folder,
    stored,
    told,
)
from PIL import Image

from composer_dataagent.recipes import load_recipe
from composer_dataagent.recipes.data import DATASETS


def contents(root: Path, numbers: dict[str, int]) -> list[tuple[bytes, int]]:
    return sorted(
        (path.read_bytes(), numbers[path.parent.name])
        for path in root.glob("*/*")
        if path.is_file()
    )


NUMBERS = {name: i for i, name in enumerate(NAMES)}


@pytest.fixture
def hugging_face() -> None:
    datasets.disable_progress_bars()


# ---------------------------------------------------------------------- folders


@pytest.mark.parametrize(
    "name", ["${run_name}", "???", "yes", "3", "caf\u00e9: ${oc.env:HOME}", "#1 'a'"]
)
def test_classes_of_any_name_reach_the_recipe(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / name
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(digits("train", 1)[0][0], "PNG"))
    converted("folder", tmp_path / "in", "--out", tmp_path / "${out}")
    recipe = load_recipe(tmp_path / "${out}" / "recipe.yaml")
    agent = recipe.algorithms["data_agent"]
    assert agent is not None and [each.strip() for each in agent["class_names"]] == [name]
    assert isinstance(recipe.train_loader.dataset, dict)
    assert recipe.train_loader.dataset["local"] == str(tmp_path / "${out}")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_files_of_a_folder_are_kept_byte_for_byte(tmp_path: Path, kind: str) -> None:
    root = image_folder(tmp_path / "photos", "train", 60, kind)
    (root / "digit 3" / "notes.txt").write_text("no image")
    result = convert("folder", root, "--out", tmp_path / "out", "--shard-mb", 0.005)
    assert result.exit_code == 0 and "1 files are no images by their names" in result.stderr
    assert sorted(stored(tmp_path / "out")) == contents_without_notes(root)
    summary = json.loads(result.stdout.splitlines()[-1])["splits"][""]
    assert (summary["images"], summary["samples"], summary["classes"]) == (60, 60, 10)
    assert summary["encoded_anew"] == 0 and summary["widths"] == "8"
    assert summary["grey" if kind == "PNG" else "in_colour"] == 60
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert len(index["shards"]) > 1 and index["images"]["class_names"] == NAMES
    assert all(shard["raw_data"]["bytes"] <= 0.005 * 2**20 for shard in index["shards"])


def contents_without_notes(root: Path) -> list[tuple[bytes, int]]:
    (root / "digit 3" / "notes.txt").unlink(missing_ok=True)
    return contents(root, NUMBERS)


def test_splits_are_numbered_alike_and_get_a_folder_each(tmp_path: Path) -> None:
    image_folder(tmp_path / "in" / "train", "train", 60)
    image_folder(tmp_path / "in" / "val", "eval", 20)
    shutil.rmtree(tmp_path / "in" / "val" / "digit 0", ignore_errors=True)
    result = convert("folder", tmp_path / "in", "--out", tmp_path / "out")
    assert "val: 1 of 10 classes have no images" in result.stderr
    for split in ("train", "val"):
        assert sorted(stored(tmp_path / "out" / split)) == contents(
            tmp_path / "in" / split, NUMBERS
        )
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert recipe["train_loader"]["dataset"]["local"] == str(tmp_path / "out" / "train")
    assert recipe["eval_loader"]["dataset"]["local"] == str(tmp_path / "out" / "val")
    assert recipe["algorithms"]["data_agent"]["class_names"] == NAMES
    assert (tmp_path / "out" / "recipe.yaml").read_text() in result.stdout


def test_the_order_is_a_seeds(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "in", "train", 60)
    for name, options in {
        "a": [],
        "b": ["--shuffle", 17],
        "c": ["--shuffle", 3],
        "d": ["--no-shuffle"],
    }.items():
        converted("folder", root, "--out", tmp_path / name, *options)
    labels = {name: [label for _, label in stored(tmp_path / name)] for name in "abcd"}
    assert labels["d"] == sorted(labels["d"])
    assert len({tuple(each) for each in labels.values()}) == 3 and labels["a"] == labels["b"]
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_named_classes_keep_their_numbers(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "in", "eval", 20)
    (tmp_path / "classes.txt").write_text("\n".join(["background", *NAMES]) + "\n")
    options = ["--classes", tmp_path / "classes.txt"]
    there = len({label for _, label in digits("eval", 20)})
    result = convert("folder", root, "--out", tmp_path / "out", *options)
    assert f"{11 - there} of 11 classes have no images" in result.stderr
    shifted = {name: i + 1 for name, i in NUMBERS.items()}
    assert sorted(stored(tmp_path / "out")) == contents(root, shifted)


# ---------------------------------------------------------------------- what images become


def image_bytes(mode: str, size: tuple[int, int], kind: str, **options: Any) -> bytes:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def test_what_no_recipe_could_read_is_encoded_anew(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "a"
    folder.mkdir(parents=True)
    (folder / "inks.jpg").write_bytes(image_bytes("CMYK", (12, 9), "JPEG"))
    (folder / "palette.png").write_bytes(image_bytes("P", (12, 9), "PNG"))
    (folder / "bits.png").write_bytes(image_bytes("1", (12, 9), "PNG"))
    (folder / "bitmap.bmp").write_bytes(image_bytes("RGB", (12, 9), "BMP"))
    deep = np.arange(108, dtype=np.uint16).reshape(9, 12) * 600
    Image.fromarray(deep).save(folder / "deep.png")
    dark = np.arange(108, dtype=np.uint16).reshape(9, 12)  # of 16 bits, and so nearly black
    Image.fromarray(dark).save(folder / "dark.png")
    kept = image_bytes("L", (12, 9), "JPEG")
    (folder / "grey.jpg").write_bytes(kept)
    result = converted("folder", tmp_path / "in", "--out", tmp_path / "out", "--no-shuffle")
    assert result["splits"][""]["encoded_anew"] == 6
    found = [Image.open(io.BytesIO(data)) for data, _ in stored(tmp_path / "out")]
    by_name = dict(zip(sorted(path.name for path in folder.iterdir()), found, strict=True))
    assert {name: (image.mode, image.format) for name, image in by_name.items()} == {
        "bitmap.bmp": ("RGB", "PNG"),
        "bits.png": ("L", "PNG"),
        "dark.png": ("L", "PNG"),
        "deep.png": ("L", "PNG"),
        "grey.jpg": ("L", "JPEG"),
        "inks.jpg": ("RGB", "JPEG"),
        "palette.png": ("RGB", "PNG"),
    }
    assert (np.asarray(by_name["deep.png"]) == deep >> 8).all()
    assert not np.asarray(by_name["dark.png"]).any()
    with Image.open(folder / "palette.png") as before:
        assert (np.asarray(by_name["palette.png"]) == np.asarray(before.convert("RGB"))).all()
    assert kept in [data for data, _ in stored(tmp_path / "out")]
    # Grey and colour in one data set: what the recipe says makes one shape of them.
    arguments = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["train_loader"]
    arguments["dataset"].pop("name")
    dataset = DATASETS.build("d", "image_classification", arguments["dataset"], batch_size=1)
    assert {tuple(dataset[i][0].shape) for i in range(7)} == {(3, 9, 12)}


def test_pictures_of_phones_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "a"
    folder.mkdir(parents=True)
    options = {"save_all": True, "append_images": [Image.new("RGB", (12, 9))]}
    (folder / "phone.jpg").write_bytes(image_bytes("RGB", (12, 9), "MPO", **options))
    converted("folder", tmp_path / "in", "--out", tmp_path / "out")
    assert [data for data, _ in stored(tmp_path / "out")] == [(folder / "phone.jpg").read_bytes()]


def test_only_what_is_larger_is_resized(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "a"
    folder.mkdir(parents=True)
    small = image_bytes("RGB", (30, 20), "JPEG")
    (folder / "small.jpg").write_bytes(small)
    (folder / "large.jpg").write_bytes(image_bytes("RGB", (60, 90), "JPEG"))
    options = ["--resize", 20, "--no-shuffle"]
    told = converted("folder", tmp_path / "in", "--out", tmp_path / "out", *options)
    (large, _), (kept, _) = stored(tmp_path / "out")
    assert kept == small and told["splits"][""]["encoded_anew"] == 1
    image = Image.open(io.BytesIO(large))
    assert image.size == (20, 30) and image.format == "JPEG"


def test_all_in_colour_in_columns_of_other_names(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "in", "train", 60)
    options = ["--mode", "RGB", "--columns", "x", "y"]
    told = converted("folder", root, "--out", tmp_path / "out", *options)["splits"][""]
    assert (told["encoded_anew"], told["in_colour"]) == (60, 60)
    dataset = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["train_loader"]
    arguments = dataset["dataset"]
    assert (arguments.pop("name"), arguments["image"]) == ("image_classification", "x")
    built = DATASETS.build("d", "image_classification", arguments, batch_size=1)
    found = []
    for i in range(60):
        pixels, label = built[i]
        found.append(((pixels * 127.5 + 127.5).round().byte().numpy().tobytes(), label))
    expected = [(np.stack([image] * 3).tobytes(), label) for image, label in digits("train", 60)]
    assert sorted(found) == sorted(expected)
    assert convert("verify", tmp_path / "out").exit_code == 0


# ---------------------------------------------------------------------- held out


def test_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "in", "train", 200)
    converted("folder", root, "--out", tmp_path / "out", "--hold-out", 0.2)
    train, val = stored(tmp_path / "out" / "train"), stored(tmp_path / "out" / "val")
    assert len(val) == 40 and sorted(train + val) == contents(root, NUMBERS)
    held, whole = (Counter(label for _, label in images) for images in (val, train + val))
    assert all(abs(held[label] - 0.2 * whole[label]) < 1 for label in range(10))
    recipe = load_recipe(tmp_path / "out" / "recipe.yaml")
    assert recipe.eval_loader is not None and isinstance(recipe.eval_loader.dataset, dict)
    assert recipe.eval_loader.dataset["local"] == str(tmp_path / "out" / "val")
    # Again the same, and by another seed others.
    for name, seed in (("again", 17), ("other", 18)):
        options = ["--hold-out", 0.2, "--shuffle", seed]
        converted("folder", root, "--out", tmp_path / name, *options)
        assert (sorted(stored(tmp_path / name / "val")) == sorted(val)) == (name == "again")


@pytest.mark.usefixtures("hugging_face")
def test_of_a_table_a_share_of_each_class_is_held_out(tmp_path: Path) -> None:
    hugging_face_rows(40).save_to_disk(str(tmp_path / "set"))
    options = ["--image-key", "picture", "--label-key", "kind", "--hold-out", 0.25]
    result = converted("huggingface", tmp_path / "set", *options, "--out", tmp_path / "out")
    assert {name: split["samples"] for name, split in result["splits"].items()} == {
        "train": 30,
        "val": 10,
    }
    train, val = stored(tmp_path / "out" / "train"), stored(tmp_path / "out" / "val")
    expected = sorted((encoded(image, "PNG"), label) for image, label in digits("train", 40))
    assert sorted(train + val) == expected
    held, whole = (Counter(label for _, label in images) for images in (val, expected))
    assert all(abs(held[label] - 0.25 * whole[label]) < 1 for label in range(10))


def test_what_cannot_be_held_out_is_refused(tmp_path: Path) -> None:
    image_folder(tmp_path / "in" / "train", "train", 20)
    image_folder(tmp_path / "in" / "val", "eval", 20)
    out = tmp_path / "out"
    for options, message in (
        (["--hold-out", 0.2], "makes a split val, and there is train and val: leave it out, or"),
        (["--hold-out", 0.2, "--split", "val"], "and there is val: leave it out"),
        (["--hold-out", 0.01, "--split", "train"], "--hold-out 0.01 of 20 images are 0"),
        (["--hold-out", 1], "0<x<1"),
    ):
        result = convert("folder", tmp_path / "in", "--out", out, *options)
        assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert not out.exists()
    # What was converted whole is not mixed with it.
    converted("folder", tmp_path / "in" / "train", "--out", out)
    result = convert("folder", tmp_path / "in" / "train", "--out", out, "--hold-out", 0.2)
    assert result.exit_code == 1 and "holds another data set" in result.stderr
    converted("folder", tmp_path / "in", "--split", "train", "--out", tmp_path / "one")
    options = ["--split", "train", "--hold-out", 0.2, "--out", tmp_path / "one"]
    result = convert("folder", tmp_path / "in", *options)
    assert result.exit_code == 1 and "was begun with images=" in result.stderr


# ---------------------------------------------------------------------- other sources


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl"])
@pytest.mark.parametrize("labels", ["names", "numbers"])
def test_a_list_of_files(tmp_path: Path, name: str, labels: str) -> None:
    root = image_folder(tmp_path / "in", "train", 40)
    rows = [
        {
            "file": str(path.relative_to(root)),
            "class": path.parent.name if labels == "names" else NUMBERS[path.parent.name],
            "part": "val" if i % 4 == 0 else "train",
        }
        for i, path in enumerate(sorted(root.glob("*/*")))
    ]
    if name.endswith(".csv"):
        lines = [",".join(map(str, row.values())) for row in rows]
        (root / name).write_text("\n".join(["file,class,part", *lines]))
    else:
        (root / name).write_text("\n".join(map(json.dumps, rows)))
    keys = ["--image-key", "file", "--label-key", "class", "--split-key", "part"]
    converted("list", root / name, *keys, "--out", tmp_path / "out")
    both = stored(tmp_path / "out" / "train") + stored(tmp_path / "out" / "val")
    assert len(stored(tmp_path / "out" / "val")) == 10
    (root / name).unlink()
    assert sorted(both) == contents(root, NUMBERS)
    index = json.loads((tmp_path / "out" / "train" / "index.json").read_text())
    assert index["images"]["class_names"] == (NAMES if labels == "names" else None)


def hugging_face_rows(count: int) -> datasets.Dataset:
    rows = digits("train", count)
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)}
    )
    columns = {
        "picture": [{"bytes": encoded(image, "PNG"), "path": None} for image, _ in rows],
        "kind": [label for _, label in rows],
    }
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.usefixtures("hugging_face")
@pytest.mark.parametrize("kind", ["set", "splits", "parquet", "folder of parquet"])
def test_hugging_face_data_on_disk(tmp_path: Path, kind: str) -> None:
    rows = hugging_face_rows(40)
    given, split = tmp_path / "set", ""
    if kind == "set":
        rows.save_to_disk(str(given))
    elif kind == "splits":
        datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(str(given))
        split = "train"
    elif kind == "parquet":
        given = tmp_path / "rows.parquet"
        rows.to_parquet(str(given))
    else:
        (given / "data").mkdir(parents=True)
        for i in range(2):
            half = rows.select(range(20 * i, 20 * i + 20))
            half.to_parquet(str(given / "data" / f"train-0000{i}-of-00002.parquet"))
        split = "train"
    keys = ["--image-key", "picture", "--label-key", "kind"]
    result = converted("huggingface", given, *keys, "--out", tmp_path / "out")
    assert {*result["splits"]} == {split} | ({"test"} if kind == "splits" else set())
    expected = sorted((encoded(image, "PNG"), label) for image, label in digits("train", 40))
    assert sorted(stored(tmp_path / "out" / split)) == expected
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert recipe["algorithms"]["data_agent"]["class_names"] == NAMES
    assert {path.name for path in tmp_path.iterdir()} == {given.name, "out"}


@pytest.mark.usefixtures("hugging_face")
def test_numbered_parquet_files_are_of_their_folders_split(tmp_path: Path) -> None:
    rows = hugging_face_rows(40)
    for split, some in (("train", range(30)), ("test", range(30, 40))):
        (tmp_path / "set" / "default" / split).mkdir(parents=True)
        rows.select(some).to_parquet(str(tmp_path / "set" / "default" / split / "0000.parquet"))
    keys = ["--image-key", "picture", "--label-key", "kind"]
    result = converted("huggingface", tmp_path / "set", *keys, "--out", tmp_path / "out")
    assert {name: each["samples"] for name, each in result["splits"].items()} == {
        "train": 30,
        "test": 10,
    }


@pytest.mark.usefixtures("hugging_face")
@pytest.mark.parametrize("name", ["train/0000.parquet", "train-0000.parquet"])
def test_configurations_of_a_data_set_are_not_mixed(tmp_path: Path, name: str) -> None:
    for configuration in ("one", "two"):
        path = tmp_path / "set" / configuration / name
        path.parent.mkdir(parents=True)
        hugging_face_rows(20).to_parquet(str(path))
    keys = ["--image-key", "picture", "--label-key", "kind"]
    result = convert("huggingface", tmp_path / "set", *keys, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "may be of two configurations: give one" in told(result)
    assert not (tmp_path / "out").exists()
    told_of_one = converted("huggingface", tmp_path / "set/two", *keys, "--out", tmp_path / "out")
    assert told_of_one["splits"]["train"]["samples"] == 20


@pytest.mark.usefixtures("hugging_face")
def test_splits_of_a_stranger_stay_inside_of_the_folder(tmp_path: Path) -> None:
    hugging_face_rows(5).save_to_disk(str(tmp_path / "in" / "elsewhere"))
    (tmp_path / "in" / "set").mkdir()
    splits = json.dumps({"splits": ["../elsewhere"]})
    (tmp_path / "in" / "set" / "dataset_dict.json").write_text(splits)
    keys = ["--image-key", "picture", "--label-key", "kind", "--out", tmp_path / "out"]
    result = convert("huggingface", tmp_path / "in" / "set", *keys)
    assert result.exit_code == 1 and "'../elsewhere' is no name of a folder" in told(result)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.usefixtures("hugging_face")
def test_named_classes_of_a_table_get_the_numbers_that_are_asked_for(tmp_path: Path) -> None:
    hugging_face_rows(40).save_to_disk(str(tmp_path / "set"))
    (tmp_path / "classes.txt").write_text("\n".join(["background", *NAMES[::-1]]) + "\n")
    keys = ["--image-key", "picture", "--label-key", "kind"]
    options = ["--classes", tmp_path / "classes.txt", "--out", tmp_path / "out"]
    converted("huggingface", tmp_path / "set", *keys, *options)
    expected = sorted((encoded(image, "PNG"), 10 - label) for image, label in digits("train", 40))
    assert sorted(stored(tmp_path / "out")) == expected
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    result = convert("huggingface", tmp_path / "set", *keys, *options[:2], "--out", tmp_path / "b")
    assert result.exit_code == 1 and "'digit 0' is none of the --classes" in told(result)


@pytest.mark.usefixtures("hugging_face")
def test_labels_of_a_table_may_be_names(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": encoded(i, "PNG")}, "label": NAMES[n]} for i, n in digits("train", 60)
    ]
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(rows).to_parquet(str(path))
    converted("huggingface", path, "--out", tmp_path / "out")
    expected = sorted((encoded(image, "PNG"), label) for image, label in digits("train", 60))
    assert sorted(stored(tmp_path / "out")) == expected


def idx(path: Path, array: np.ndarray) -> None:
    """A file as MNIST's are: type and dimensions, then bytes."""
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def test_a_set_of_torchvisions(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rows = {"train": digits("train", 30), "t10k": digits("eval", 12)}
    for name, some in rows.items():
        idx(raw / f"{name}-images-idx3-ubyte", np.stack([image for image, _ in some]))
        idx(raw / f"{name}-labels-idx1-ubyte", np.array([label for _, label in some]))
    given = ["torchvision", "mnist", "--root", tmp_path / "data"]
    result = converted(*given, "--out", tmp_path / "out")
    samples = {name: each["samples"] for name, each in result["splits"].items()}
    assert samples == {"train": 30, "test": 12}
    for name, split in (("train", "train"), ("t10k", "test")):
        found = [
            (np.asarray(Image.open(io.BytesIO(data))).tobytes(), label)
            for data, label in stored(tmp_path / "out" / split)
        ]
        assert sorted(found) == sorted((image.tobytes(), label) for image, label in rows[name])
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert recipe["model"] == {"name": "resnet8", "num_classes": 10}
    assert recipe["algorithms"]["data_agent"]["class_names"][:2] == ["0 - zero", "1 - one"]
    converted(*given, "--split", "test", "--out", tmp_path / "one")
    assert (tmp_path / "one" / "test" / "index.json").exists()
    assert "no 'val'" in told(convert(*given, "--split", "val", "--out", tmp_path / "no"))
    others = np.stack([255 - image for image, _ in rows["t10k"]])
    idx(raw / "t10k-images-idx3-ubyte", others)  # of the same size
    image_torchvision._opened.cache_clear()  # as in a process of its own
    result = convert(*given, "--split", "test", "--out", tmp_path / "one")
    assert "was begun with images=" in told(result)
    names = recipe["algorithms"]["data_agent"]["class_names"]
    (tmp_path / "classes.txt").write_text("\n".join(names[::-1]))
    options = ["--classes", tmp_path / "classes.txt", "--out", tmp_path / "no"]
    assert "in another order (0 - zero" in told(convert(*given, *options))


def test_imagenet_as_torchvision_keeps_it(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    for split, of in (("train", "train"), ("val", "eval")):
        image_folder(root / split, of, 60, "JPEG")
    names = {name: (f"{name}, first", f"{name}, second") for name in NAMES}
    torch.save((names, []), root / "meta.bin")
    converted("torchvision", "ImageNet", "--root", root, "--out", tmp_path / "out")
    for split in ("train", "val"):
        assert sorted(stored(tmp_path / "out" / split)) == contents(root / split, NUMBERS)
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert recipe["algorithms"]["data_agent"]["class_names"] == [f"{n}, first" for n in NAMES]
    assert recipe["model"] == {"name": "resnet8", "num_classes": 10, "in_channels": 3}


def test_torchvisions_files_are_kept(tmp_path: Path) -> None:
    image_folder(tmp_path / "data" / "eurosat" / "2750", "train", 40, "JPEG")
    converted("torchvision", "EuroSAT", "--root", tmp_path / "data", "--out", tmp_path / "out")
    root = tmp_path / "data" / "eurosat" / "2750"
    assert sorted(stored(tmp_path / "out")) == contents(root, NUMBERS)


@pytest.mark.parametrize("name", ["MNIST", "SEMEION"])  # the latter does by default
def test_nothing_is_downloaded_unasked(tmp_path: Path, name: str) -> None:
    arguments = ["torchvision", name, "--root", tmp_path / "none", "--out", tmp_path / "out"]
    result = convert(*arguments)
    assert result.exit_code == 1 and "--root, or give --download" in told(result)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- again


def test_given_again_it_has_nothing_to_do(tmp_path: Path) -> None:
    arguments = ["folder", image_folder(tmp_path / "in", "train", 30), "--out", tmp_path / "out"]
    first = converted(*arguments)
    before = (tmp_path / "out" / "index.json").stat().st_mtime_ns
    assert converted(*arguments) == first
    assert (tmp_path / "out" / "index.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["--resize", 4], "begun with resize=None, and now it is 4"),
        (["--shuffle", 1], "begun with shuffle=17, and now it is 1"),
        (["--compression", "zstd"], "begun with compression=None, and now it is 'zstd'"),
    ],
)
def test_other_settings_do_not_go_into_the_same_folder(
    tmp_path: Path, other: list[object], message: str
) -> None:
    arguments = ["folder", image_folder(tmp_path / "in", "train", 30), "--out", tmp_path / "out"]
    converted(*arguments)
    before = files_of(tmp_path / "out")
    result = convert(*arguments, *other)
    assert result.exit_code == 1 and message in told(result)
    assert files_of(tmp_path / "out") == before


def test_other_images_do_not_go_into_the_same_folder(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "in", "train", 30)
    converted("folder", root, "--out", tmp_path / "out")
    (root / "digit 1" / "more.png").write_bytes(encoded(digits("eval", 1)[0][0], "PNG"))
    result = convert("folder", root, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "was begun with images='30 images" in told(result)


def test_a_recipe_that_is_there_is_left(tmp_path: Path) -> None:
    arguments = ["folder", image_folder(tmp_path / "in", "train", 30), "--out", tmp_path / "out"]
    converted(*arguments)
    (tmp_path / "out" / "recipe.yaml").write_text("mine: 1\n")
    assert "was there, and is left as it is" in convert(*arguments).stdout
    assert (tmp_path / "out" / "recipe.yaml").read_text() == "mine: 1\n"


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_damage_is_found_when_it_is_given_again_and_by_verify(
    tmp_path: Path, compression: str | None
) -> None:
    root = image_folder(tmp_path / "in", "train", 30)
    options = ["--shard-mb", 0.004, *(["--compression", compression] if compression else [])]
    arguments = ["folder", root, "--out", tmp_path / "out", *options]
    converted(*arguments)
    result = convert("verify", tmp_path / "out")
    assert result.exit_code == 0 and "30 of 30 samples can be read" in result.stdout
    shard = sorted((tmp_path / "out").glob("part_*/shard*"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # the size is right
    result = convert("verify", tmp_path / "out")
    assert result.exit_code == 1 and "1 shards are damaged" in result.stderr
    assert "part_00001/shard.00000.mds" in result.stderr and "xxh64" in result.stderr
    shard.write_bytes(whole[:-1])
    result = convert(*arguments)
    assert result.exit_code == 1 and "part_... folder" in told(result)
    shutil.rmtree(shard.parent)
    converted(*arguments)
    assert shard.read_bytes() == whole


# ---------------------------------------------------------------------- broken images


def test_a_broken_image_is_named_and_can_be_skipped(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "in", "train", 60, "JPEG")
    bad = sorted(root.glob("*/*"))[7]
    bad.write_bytes(bad.read_bytes()[:-60])  # the header is whole, the pixels are not
    empty = sorted(root.glob("*/*"))[3]
    empty.write_bytes(b"")
    good = [each for each in contents(root, NUMBERS) if each[0]]
    arguments = ["folder", root, "--out", tmp_path / "out", "--shard-mb", 0.004]
    result = convert(*arguments)
    assert result.exit_code == 1 and "--skip-broken" in told(result)
    assert str(bad) in told(result) or str(empty) in told(result)
    assert not (tmp_path / "out" / "index.json").exists()
    result = convert(*arguments, "--skip-broken")
    assert result.exit_code == 0 and "2 broken images were left out" in result.stderr
    listed = (tmp_path / "out" / "skipped.tsv").read_text().splitlines()
    assert {line.split("\t")[0] for line in listed} == {str(bad), str(empty)}
    assert len(stored(tmp_path / "out")) == 58
    assert {*stored(tmp_path / "out")} < {*good}


def test_nothing_but_broken_images(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "a.png").write_text("text")
    result = convert("folder", tmp_path / "in", "--out", tmp_path / "out", "--skip-broken")
    assert result.exit_code == 1 and "none of 1 images can be read" in told(result)


# ---------------------------------------------------------------------- mistakes


def bad_folder(tmp_path: Path, case: str) -> list[object]:
    root = image_folder(tmp_path / "in", "train", 20)
    out = ["--out", tmp_path / "out"]
    if case == "no folders":
        return ["folder", root / "digit 1", *out]
    if case == "empty class":
        (root / "x").mkdir()
    if case == "splits and more":
        (root / "train").mkdir()
    if case == "no split":
        return ["folder", root, "--split", "dev", *out]
    if case == "something else":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
    if case == "url":
        return ["folder", root, "--out", "s3://bucket/data"]
    if case == "inside":
        return ["folder", root, "--out", root / "out"]
    if case == "columns":
        return ["folder", root, *out, "--columns", "a", "a"]
    if case == "compression":
        return ["folder", root, *out, "--compression", "foo"]
    if case == "keep local":
        return ["folder", root, *out, "--keep-local"]
    if case == "remote":
        return ["folder", root, *out, "--remote", f"{tmp_path}/out/"]
    if case == "classes":
        (tmp_path / "classes.txt").write_text("digit 0\n")
        return ["folder", root, *out, "--classes", tmp_path / "classes.txt"]
    if case == "torchvision":
        return ["torchvision", "CIFAR11", "--root", root, *out]
    if case == "no shards":
        return ["verify", root]
    return ["folder", root, *out]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no folders", "has no folders: there should be one for each class"),
        ("empty class", "in/x has no images"),
        ("splits and more", "say with --split which of its folders are splits"),
        ("no split", "--split dev: "),
        ("something else", "holds something else: give an empty or new --out"),
        ("url", "is a folder here: give the URL as --remote"),
        ("inside", "it would be taken for a class"),
        ("columns", "--columns a a: give two different names"),
        ("compression", "--compression 'foo' is not one of"),
        ("keep local", "--keep-local is about shards that --remote gets"),
        ("remote", "--remote is --out"),
        ("classes", "is none of the 1 --classes"),
        ("torchvision", "'CIFAR11' is no data set of torchvision's"),
        ("no shards", "There is no"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, case: str, message: str) -> None:
    result = convert(*bad_folder(tmp_path, case))
    assert result.exit_code in (1, 2) and message in told(result)
    assert not (tmp_path / "out" / "index.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,label\na.png,0\nb.png,1\n", "b.png cannot be read: No such file"),
        ("image,label\na.png,cat\na.png,-1\n", None),
        ("file,label\na.png,0\n", "has no column 'image'"),
        ("image,label\na.png,\n", "line 2: there is no 'label'"),
        ("image,label\n", "names no images"),
        ("image,label\na\0.png,0\n", "cannot be read"),
        ("image,label\na.png,99999999999\n", "the class 99999999999 is one of 1"),
        ("image,label,split\na.png,0,recipe.yaml\n", "recipe.yaml"),
        ("image,label,split\na.png,0,train \n", "'train '"),
    ],
)
def test_mistakes_in_a_list_are_told(tmp_path: Path, content: str, message: str | None) -> None:
    (tmp_path / "a.png").write_bytes(encoded(digits("train", 1)[0][0], "PNG"))
    (tmp_path / "l.csv").write_text(content)
    splits = ["--split-key", "split"] if "split" in content else []
    result = convert("list", tmp_path / "l.csv", "--out", tmp_path / "out", *splits)
    if message is None:  # names, of which one looks like a number
        assert {label for _, label in stored(tmp_path / "out")} == {0, 1}
        return
    assert result.exit_code == 1 and message in told(result)


@pytest.mark.usefixtures("hugging_face")
def test_a_split_without_labels_is_told(tmp_path: Path) -> None:
    rows = hugging_face_rows(5)
    unlabelled = rows.map(lambda row: {**row, "kind": -1})
    datasets.DatasetDict({"train": rows, "test": unlabelled}).save_to_disk(str(tmp_path / "set"))
    keys = ["--image-key", "picture", "--label-key", "kind", "--out", tmp_path / "out"]
    result = convert("huggingface", tmp_path / "set", *keys)
    assert result.exit_code == 1 and "has the label -1, which is none of 10" in told(result)
    assert converted("huggingface", tmp_path / "set", "--split", "train", *keys)


@pytest.mark.usefixtures("hugging_face")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "has no column 'image' but ['picture', 'kind']: name yours with --image-key"),
        (["--image-key", "kind", "--label-key", "kind"], "there is no image in 'kind'"),
        (["--split", "train"], "has no splits"),
    ],
)
def test_mistakes_about_tables_are_told(tmp_path: Path, arguments: list[str], message: str) -> None:
    hugging_face_rows(5).save_to_disk(str(tmp_path / "set"))
    result = convert("huggingface", tmp_path / "set", *arguments, "--out", tmp_path / "out")
    assert result.exit_code in (1, 2) and message in told(result)


@pytest.mark.parametrize("samples", [1, 2, 20, 100, 255, 256, 5000, 1_000_000])
def test_a_recipe_has_steps_enough_of_few_samples(samples: int) -> None:
    of_class = Counter({0: samples, 1: 1})
    counts = ImageCounts(samples=samples, of_class=of_class, widths=[8, 8], heights=[8, 8])
    recipe = yaml.safe_load(recipe_of(Path("x"), {None: counts}, None, None, True))
    batch_size = recipe["train_loader"]["batch_size"]
    epochs = int(recipe["trainer"]["max_duration"].removesuffix("ep"))
    chosen = max(1, samples // 2)
    assert 1 <= batch_size <= min(128, chosen)
    assert epochs == 100 or epochs * (chosen // batch_size) >= 400
