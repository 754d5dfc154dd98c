# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/convert_text.py``: no token is lost or made up."""

from __future__ import annotations

import cProfile
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conversion.documents import parts_of
from conversion_folders import files_of
from conversions import END, convert, converted, lines_file, samples
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from write_topics import texts

from composer_dataagent.recipes import RecipeError
from composer_dataagent.recipes.data import DATASETS
from composer_dataagent.recipes.tokens import SequenceClassification, TokenSequences

TOPICS = texts()["eval"]


def topics_file(path: Path) -> Path:
    return lines_file(path, [{"text": text} for text in TOPICS])


# ---------------------------------------------------------------------- what is written


def test_packed_documents_are_one_stream(tmp_path: Path) -> None:
    told = converted(topics_file(tmp_path / "a.jsonl"), "--out", tmp_path / "out", "--length", 64)
    stream = [token for text in TOPICS for token in [*text.encode(), END]]
    rows = samples(tmp_path / "out")
    assert all(row["tokens"].dtype == np.uint16 for row in rows)
    written = np.concatenate([row["tokens"] for row in rows]).tolist()
    assert written == stream[: len(stream) // 64 * 64]
    assert told["documents"] == len(TOPICS) and told["tokens"] == len(stream)
    assert told["samples"] == len(rows) and told["tokens_written"] == len(written)


@pytest.mark.parametrize("part_mb", [0.005, 1])
def test_parts_of_any_size_lose_less_than_a_sequence_each(tmp_path: Path, part_mb: float) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    arguments = ["--length", 32, "--part-mb", part_mb, "--jobs", 1]
    told = converted(path, "--out", tmp_path / "out", *arguments)
    parts = len(list((tmp_path / "out").glob("part_*")))
    assert told["documents"] == len(TOPICS)
    assert told["tokens"] == sum(len(text.encode()) + 1 for text in TOPICS)
    assert 0 <= told["tokens"] - told["tokens_written"] < 32 * parts


def test_plain_text_is_one_document_in_however_many_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(TOPICS))
    arguments = ["--length", 16, "--part-mb", 0.005, "--jobs", 1]
    told = converted(path, "--out", tmp_path / "out", *arguments)
    assert told["documents"] == 1
    assert told["tokens"] == len(path.read_bytes()) + 1
    whole = converted(path, "--out", tmp_path / "padded", "--pad", *arguments)
    assert (whole["documents"], whole["samples"], whole["documents_cut"]) == (1, 1, 1)
    row = samples(tmp_path / "padded")[0]
    assert bytes(row["tokens"].astype(np.uint8)) == path.read_bytes()[:16]


def test_padded_documents_are_a_sequence_each(tmp_path: Path) -> None:
    told_texts = ["short", "a text that is too long for one", ""]
    path = lines_file(tmp_path / "a.jsonl", [{"body": text} for text in told_texts])
    told = converted(path, "--out", tmp_path / "out", "--pad", "--length", 12, "--text-key", "body")
    rows = [row["tokens"].tolist() for row in samples(tmp_path / "out")]
    assert rows == [[*b"short", END], [*b"a text that "]]
    assert told["documents_cut"] == 1 and told["tokens_written"] == 6 + 12
    assert (told["dropped_empty"], told["dropped_long_prompt"]) == (1, 0)


def test_a_response_is_learned_and_its_prompt_is_not(tmp_path: Path) -> None:
    rows = [
        {"q": "What?", "a": "That."},
        {"q": "", "a": "Without."},
        {"q": "A prompt that is too long", "a": "for any answer"},
    ]
    told = converted(
        lines_file(tmp_path / "a.jsonl", rows),
        *("--out", tmp_path / "out", "--length", 16),
        *("--prompt-key", "q", "--response-key", "a"),
    )
    assert (told["samples"], told["dropped_empty"], told["dropped_long_prompt"]) == (2, 0, 1)
    dataset = TokenSequences(local=str(tmp_path / "out"), length=16, batch_size=1, shuffle=False)
    first, second = dataset[0], dataset[1]
    answer = [*b"That.", END]
    assert first["input_ids"].tolist() == [*b"What?", *answer, *[0] * 5]
    assert first["labels"].tolist() == [-100] * 5 + answer + [-100] * 5
    assert first["attention_mask"].tolist() == [1] * 11 + [0] * 5
    assert second["labels"].tolist() == [*b"Without.", END] + [-100] * 7
    dataset = TokenSequences(local=str(tmp_path / "out"), length=8, pad_id=9, batch_size=1)
    assert dataset[0]["labels"].tolist() == [-100] * 5 + answer[:3]


def test_each_sequence_has_a_token_to_learn(tmp_path: Path) -> None:
    rows = [{"q": q, "a": a} for q in ("", "Q", "Q" * 7, "Q" * 8, "Q" * 9) for a in ("", "A")]
    path = lines_file(tmp_path / "a.jsonl", rows)
    result = convert(
        *(path, "--out", tmp_path / "out", "--length", 8),
        *("--prompt-key", "q", "--response-key", "a"),
    )
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["samples"], told["dropped_empty"], told["dropped_long_prompt"]) == (5, 1, 4)
    assert "dropped empty " in result.stdout and "dropped long prompt " in result.stdout
    dataset = TokenSequences(local=str(tmp_path / "out"), length=8, batch_size=1)
    for i in range(5):  # of the first token nothing tells what it will be
        assert (dataset[i]["labels"][1:] >= 0).any()


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"q": "Q" * 9, "a": "A"}, ["--prompt-key", "q", "--response-key", "a"], "larger --length"),
        ({"text": ""}, ["--pad"], "there is no text in the inputs"),
    ],
)
def test_why_nothing_is_written_is_told(
    tmp_path: Path, row: dict[str, str], options: list[str], message: str
) -> None:
    path = lines_file(tmp_path / "a.jsonl", [row])
    result = convert(path, "--out", tmp_path / "out", "--length", 8, *options)
    assert result.exit_code == 1 and message in " ".join(result.output.split())
    assert not list((tmp_path / "out").glob("part_*"))


@pytest.mark.parametrize(
    ("labels", "classes"), [([0, 1, 1, 2, 2, 2, 0], (3, 2, 3)), ([0, 0, 2], (3, 0, 2))]
)
def test_classes_are_counted(
    tmp_path: Path, labels: list[int], classes: tuple[int, int, int]
) -> None:
    path = lines_file(tmp_path / "a.jsonl", [{"text": "a", "label": label} for label in labels])
    arguments = ["--label-key", "label", "--part-mb", 0.001, "--jobs", 1]
    result = convert(path, "--out", tmp_path / "out", *arguments)
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["classes"], told["smallest_class"], told["largest_class"]) == classes
    assert "smallest class" in result.stdout
    dataset = SequenceClassification(local=str(tmp_path / "out"), length=8, batch_size=1)
    assert dataset.classes == 3


def test_packed_sequences_are_learned_whole(tmp_path: Path) -> None:
    converted(topics_file(tmp_path / "a.jsonl"), "--out", tmp_path / "out", "--length", 24)
    dataset = TokenSequences(local=str(tmp_path / "out"), length=24, batch_size=1)
    sample = dataset[3]
    assert sample["labels"].tolist() == sample["input_ids"].tolist()
    assert sample["attention_mask"].all()


@pytest.mark.parametrize("saved_as", ["file", "folder"])
def test_a_tokenizer_of_ones_own(tmp_path: Path, saved_as: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<other>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TOPICS, trainer)
    place = tmp_path / "tokenizer.json"
    tokenizer.save(str(place))
    if saved_as == "folder":
        place = tmp_path / "folder"
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|endoftext|>"
        ).save_pretrained(str(place))
    path = topics_file(tmp_path / "a.jsonl")
    told = converted(path, "--out", tmp_path / "out", "--tokenizer", place, "--length", 32)
    assert told["vocabulary"] == 400
    stream = [token for text in TOPICS for token in [*tokenizer.encode(text).ids, 0]]
    written = np.concatenate([row["tokens"] for row in samples(tmp_path / "out")]).tolist()
    assert written == stream[: len(written)] and len(stream) - len(written) < 32
    end = converted(
        *(path, "--out", tmp_path / "end", "--tokenizer", place, "--end-token", "<other>"),
        *("--pad", "--length", 10**6),
    )
    assert end["samples"] == len(TOPICS)
    assert samples(tmp_path / "end")[0]["tokens"][-1] == 1
    result = convert(
        *(path, "--out", tmp_path / "no", "--tokenizer", place, "--end-token", "<none>")
    )
    assert "has not the token '<none>': name one of its own with --end-token" in result.output


def test_ids_that_stand_for_no_token_count(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 900, "</s>": 3}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(
        str(tmp_path / "folder")
    )
    path = lines_file(tmp_path / "a.jsonl", [{"text": "a b"}])
    for name in ("tokenizer.json", "folder"):
        out = tmp_path / f"out_{name}"
        told = converted(path, "--out", out, "--tokenizer", tmp_path / name, "--pad")
        assert told["vocabulary"] == 901 and samples(out)[0]["tokens"].tolist() == [0, 900, 3]
        assert TokenSequences(local=str(out), length=8, batch_size=1).vocabulary == 901


def test_many_small_files_take_no_longer_each(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(2000)]
    for path in paths:
        path.write_text("a")

    def calls(files: list[Path]) -> int:
        profile = cProfile.Profile()
        parts = profile.runcall(parts_of, files, 10**6, True, ["text"])
        assert sum(map(len, parts)) == len(files)
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(paths) < 2.1 * calls(paths[:1000])


def test_small_files_are_packed_together(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:02}.txt" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_text(TOPICS[0][:300] + str(i))
    told = converted(*paths, "--out", tmp_path / "out", "--length", 512)
    stream = [token for path in paths for token in [*path.read_bytes(), END]]
    written = np.concatenate([row["tokens"] for row in samples(tmp_path / "out")]).tolist()
    assert written == stream[: len(stream) // 512 * 512]
    assert told["documents"] == 20 and len(list((tmp_path / "out").glob("part_*"))) == 1


def test_what_fills_no_sequence_is_told(tmp_path: Path) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    arguments = ["--length", 5000, "--part-mb", 0.01, "--jobs", 1]
    result = convert(path, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 0 and "parts of the inputs fill no sequence" in result.stderr


def test_what_a_tokenizer_was_saved_with_does_not_cut_texts(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "[PAD]": 2}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    place = tmp_path / "tokenizer.json"
    tokenizer.save(str(place))
    path = lines_file(tmp_path / "a.jsonl", [{"text": "a a a a a"}, {"text": "a"}])
    converted(path, "--out", tmp_path / "out", "--tokenizer", place, "--pad")
    assert [row["tokens"].tolist() for row in samples(tmp_path / "out")] == [[0] * 5 + [1], [0, 1]]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfHello")
    converted(tmp_path / "a.txt", "--out", tmp_path / "out", "--pad")
    assert samples(tmp_path / "out")[0]["tokens"].tolist() == [*b"Hello", END]


# ---------------------------------------------------------------------- again


def test_given_again_it_has_nothing_to_do(tmp_path: Path) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    first = converted(path, "--out", tmp_path / "out")
    before = (tmp_path / "out" / "index.json").stat().st_mtime_ns
    assert converted(path, "--out", tmp_path / "out") == first
    assert (tmp_path / "out" / "index.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (["--length", "100"], "length=512, and now it is 100"),
        (["--pad"], "pad=False, and now it is True"),
        (["--shard-mb", "1"], "shard_bytes=67108864, and now it is 1048576"),
    ],
)
def test_another_conversion_does_not_go_into_the_same_folder(
    tmp_path: Path, other: list[str], message: str
) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    converted(path, "--out", tmp_path / "out")
    before = files_of(tmp_path / "out")
    result = convert(path, "--out", tmp_path / "out", *other)
    assert result.exit_code == 1
    assert f"was begun with {message}: give another --out" in result.output.replace("\n", " ")
    assert files_of(tmp_path / "out") == before


def test_inputs_that_changed_are_noticed(tmp_path: Path) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    converted(path, "--out", tmp_path / "out")
    path.write_text(path.read_text() + '{"text": "more"}\n')
    result = convert(path, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "was begun with inputs=" in result.output


def test_a_part_that_is_gone_is_made_again(tmp_path: Path) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    converted(path, "--out", tmp_path / "out", "--part-mb", "0.01", "--jobs", "1")
    before = files_of(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "part_00001")
    converted(path, "--out", tmp_path / "out", "--part-mb", "0.01", "--jobs", "1")
    assert files_of(tmp_path / "out") == before


def test_damaged_settings_are_told(tmp_path: Path) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    converted(path, "--out", tmp_path / "out")
    (tmp_path / "out" / "conversion.json").write_text("{")
    result = convert(path, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "conversion.json is damaged" in result.output


def test_what_another_version_began_is_not_taken_up(tmp_path: Path) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    converted(path, "--out", tmp_path / "out")
    kept = tmp_path / "out" / "conversion.json"
    kept.write_text(kept.read_text().replace('"format": 2', '"format": 1'))
    result = convert(path, "--out", tmp_path / "out")
    assert "was begun with format=1, and now it is 2: give another" in " ".join(
        result.output.split()
    )


def test_after_an_error_its_advice_can_be_followed(tmp_path: Path) -> None:
    path = lines_file(tmp_path / "a.jsonl", [{"text": "a short one"}])
    out = tmp_path / "out"
    assert "give a smaller --length" in convert(path, "--out", out).output
    assert "'body' should be a text" in convert(path, "--out", out, "--text-key", "body").output
    assert converted(path, "--out", out, "--length", 4)["samples"] == 3


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = convert(topics_file(tmp_path / "a.jsonl"), "--out", tmp_path)
    assert result.exit_code == 1 and "holds something else" in result.output
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["a.jsonl", "notes.txt"]


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "fine"}\n{"text": ', "the line at byte 17: it is not JSON"),
        (b'["a"]\n', "the line at byte 0: it is a list, not an object"),
        (b'{"txt": "a"}\n', "'text' should be a text but is not there; it has ['txt']"),
        (b'{"text": 3}\n', "'text' should be a text but is a int"),
        (b'{"text": "\\ud800"}\n', "the line at byte 0: 'text' has half of a surrogate pair"),
        (b'{"text": "\xff"}\n', "the line at byte 0: it is not UTF-8"),
        (b"", "the inputs are empty"),
        (b'{"text": "a"}\n', "not one whole sequence in the inputs: give a smaller --length"),
    ],
)
def test_bad_inputs_are_told(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    result = convert(tmp_path / "a.jsonl", "--out", tmp_path / "out")
    assert result.exit_code in (1, 2)
    assert message in result.output.replace("\n", " ")
    assert not (tmp_path / "out" / "index.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokenizer", "gpt2"], "'gpt2' cannot be read"),
        (["--prompt-key", "q"], "--prompt-key needs --response-key"),
        (["--compression", "foo"], "--compression 'foo' is not one of"),
        (["--end-token", "x"], "--end-token is about other tokenizers"),
        (["--length", "1"], "1 is not in the range x>=2"),
    ],
)
def test_bad_arguments_are_told(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = convert(topics_file(tmp_path / "a.jsonl"), "--out", tmp_path / "out", *arguments)
    assert result.exit_code in (1, 2) and message in result.output
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_refused(tmp_path: Path) -> None:
    path = topics_file(tmp_path / "a.jsonl")
    assert "given twice" in convert(path, path, "--out", tmp_path / "out").output


@pytest.mark.parametrize("options", [[], ["--label-key", "label"]])
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.json", "give JSON lines (.jsonl)"),
        ("a.CSV", "convert it to .parquet or .jsonl"),
        ("a.tsv", "convert it to .parquet or .jsonl"),
        ("a.jsonl.gz", "unpack it, and give what is in it"),
        ("a.txt.zst", "unpack it, and give what is in it"),
        ("a.zip", "unpack it, and give what is in it"),
    ],
)
def test_files_that_are_no_text_are_refused_by_name(
    tmp_path: Path, name: str, advice: str, options: list[str]
) -> None:
    path = topics_file(tmp_path / name)
    result = convert(path, "--out", tmp_path / "out", *options)
    told = " ".join(result.output.split())
    assert result.exit_code == 2 and f"{name}: " in told and advice in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["array.npy", "noname"])
def test_other_files_that_are_no_text_are_told_where(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / name, "w") as archive:  # which happens to be UTF-8
        archive.add(topics_file(tmp_path / "a.jsonl"), "a.jsonl")
    result = convert(tmp_path / name, "--out", tmp_path / "out")
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert f"{name}, the line at byte 0: it is no text" in told


def test_responses_come_from_lines_of_json(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    result = convert(tmp_path / "a.txt", "--out", tmp_path / "out", "--response-key", "a")
    assert "read from .jsonl files and tables only" in result.output.replace("\n", " ")


@pytest.mark.parametrize(("name", "value"), [("length", 1), ("pad_id", -1)])
def test_sequences_of_a_recipe_check_their_numbers(tmp_path: Path, name: str, value: int) -> None:
    arguments = {"local": str(tmp_path), "length": 8, name: value}
    with pytest.raises(RecipeError, match=f"{name}={value} is too small"):
        DATASETS.build("dataset", "token_sequences", arguments)
