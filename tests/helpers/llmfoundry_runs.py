# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""llm-foundry's own commands on real texts and tiny models, without a hub or a GPU."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from markdown_pages import blocks
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, PreTrainedTokenizerFast
from write_topics import texts

VOCABULARY, LENGTH, GLOBAL_BATCH = 512, 64, 16
WATCH = Path(__file__).with_name("llmfoundry_watch.py")
# Modules whose documentation is asked about.
DOCUMENTED = ("json", "textwrap", "shutil", "statistics", "random", "os.path", "functools", "heapq")


@dataclass(frozen=True)
class Inputs:
    """What training needs, each a folder or file on this machine.

    Attributes:
        tokenizer: As ``AutoTokenizer`` reads it, and the configuration of a GPT-2 beside it.
        text: Shards of ``llmfoundry data_prep convert_text_to_mds``.
        prompts: Shards of ``llmfoundry data_prep convert_finetuning_dataset``.
        lines: What these were made of, one JSON object a line.
    """

    tokenizer: Path
    text: Path
    prompts: Path
    lines: Path


def questions() -> list[dict[str, str]]:
    """Questions about Python, and their answers from its documentation strings."""
    rows = []
    for name in DOCUMENTED:
        module: Any = pydoc.locate(name)
        for part in sorted(module.__all__):
            answer = inspect.getdoc(getattr(module, part))
            if answer:
                question = f"What is {name}.{part} for?"
                rows.append({"prompt": question, "response": answer.split("\n\n")[0]})
    return rows


def write_inputs(folder: Path) -> Inputs:
    """Write all of it."""
    inputs = Inputs(
        folder / "tokenizer", folder / "text", folder / "prompts" / "train", folder / "lines.jsonl"
    )
    documents = texts()["eval"]
    _tokenizer(documents).save_pretrained(inputs.tokenizer)
    GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    ).save_pretrained(inputs.tokenizer)
    documents_folder = folder / "documents"
    documents_folder.mkdir()
    for number, document in enumerate(documents):
        documents_folder.joinpath(f"{number}.txt").write_text(document)
    inputs.lines.write_text("".join(json.dumps(row) + "\n" for row in questions()))
    command(
        *("data_prep", "convert_text_to_mds", "--use-tokenizer-eos", "--processes=1"),
        *(f"--input-folder={documents_folder}", f"--output-folder={inputs.text}"),
        *(f"--tokenizer={inputs.tokenizer}", f"--concat-tokens={LENGTH}"),
    )
    command(
        *("data_prep", "convert_finetuning_dataset", "--dataset=json", "--splits=train"),
        *("--skip-preprocessing", "--num-workers=1", f"--data-files={inputs.lines}"),
        f"--out-root={inputs.prompts.parent}",
    )
    return inputs


def _tokenizer(documents: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>"
    )


MPT: dict[str, Any] = {
    "name": "mpt_causal_lm",
    "init_device": "cpu",
    "d_model": 32,
    "n_heads": 2,
    "n_layers": 2,
    "expansion_ratio": 2,
    "max_seq_len": LENGTH,
    "vocab_size": VOCABULARY,
    "resid_pdrop": 0.1,  # so that random states count
    "attn_config": {"attn_impl": "torch"},
    "loss_fn": "torch_crossentropy",
}


def gpt2(inputs: Inputs) -> dict[str, Any]:
    """A model of Hugging Face with random weights."""
    return {
        "name": "hf_causal_lm",
        "pretrained_model_name_or_path": str(inputs.tokenizer),
        "pretrained": False,
        "init_device": "cpu",
    }


def text_loader(inputs: Inputs) -> dict[str, Any]:
    """Packed text of token shards."""
    dataset = {"local": str(inputs.text), "shuffle": True, "max_seq_len": LENGTH}
    return {"name": "text", "dataset": dataset, "drop_last": False, "num_workers": 2}


def prompts_loader(inputs: Inputs, folder: Path) -> dict[str, Any]:
    """Prompts and responses, from shards."""
    dataset = {
        "remote": str(inputs.prompts),
        "local": str(folder / "cache"),
        "shuffle": True,
        "max_seq_len": LENGTH,
        "decoder_only_format": True,
    }
    return {"name": "finetuning", "dataset": dataset, "drop_last": False, "num_workers": 2}


def lines_loader(inputs: Inputs) -> dict[str, Any]:
    """Prompts and responses, as a data set of Hugging Face."""
    dataset = {
        "hf_name": "json",
        "hf_kwargs": {"data_files": {"train": str(inputs.lines)}},
        "split": "train",
        "shuffle": True,
        "max_seq_len": LENGTH,
        "decoder_only_format": True,
    }
    return {"name": "finetuning", "dataset": dataset, "drop_last": False, "num_workers": 2}


def guide() -> dict[str, Any]:
    """The lines that the guide has for a YAML of llm-foundry's."""
    (lines,) = blocks("docs/guides/llm_foundry.md", "yaml")
    return yaml.safe_load(lines)


def recipe(
    inputs: Inputs, folder: Path, model: dict[str, Any], loader: dict[str, Any]
) -> dict[str, Any]:
    """What ``llmfoundry train`` is given: the guide's lines, and what is small here."""
    settings = guide()
    settings["algorithms"]["data_agent"] |= {
        "update_interval": 4,
        "run_dir": str(folder / "history"),
    }
    return settings | {
        "seed": 17,
        "max_seq_len": LENGTH,
        "model": model,
        "tokenizer": {
            "name": str(inputs.tokenizer),
            "kwargs": {"model_max_length": LENGTH},
        },
        "train_loader": loader,
        "optimizer": {"name": "decoupled_adamw", "lr": 3.0e-3},
        "scheduler": {"name": "cosine_with_warmup", "t_warmup": "0.1dur", "alpha_f": 0.1},
        "eval_interval": 0,
        "global_train_batch_size": GLOBAL_BATCH,
        "device_train_microbatch_size": GLOBAL_BATCH // 4,
        "device_eval_batch_size": GLOBAL_BATCH,
        "precision": "fp32",
        "progress_bar": False,
        "save_folder": str(folder / "checkpoints"),
        "save_interval": "3ba",
        "save_num_checkpoints_to_keep": 1,
        "code_paths": [str(WATCH)],
        "callbacks": {"watch": {"folder": str(folder)}},
    }


@dataclass
class Outcome:
    """What a run left behind.

    Attributes:
        exit_code: Of the command.
        output: What it printed.
        batches: The ids of each batch, of all ranks in order.
        final: Of a finished run: its last checkpoint.
    """

    exit_code: int
    output: str
    batches: dict[int, list[int]] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)


def command(
    *arguments: str, ranks: int = 1, kill_after: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``llmfoundry`` with these arguments."""
    programs = Path(sys.executable).parent
    launcher = [str(programs / "composer"), "-n", str(ranks), "-c"] if ranks > 1 else []
    ours = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["FSDP_VERSION"] = "2"  # Composer's first wants a GPU
    if kill_after is not None:
        environment["KILL_AFTER_BATCH"] = str(kill_after)
    return subprocess.run(
        [*launcher, str(programs / "llmfoundry"), *arguments],
        env=environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def train(
    settings: dict[str, Any], folder: Path, *, ranks: int = 1, kill_after: int | None = None
) -> Outcome:
    """``llmfoundry train``, started or gone on with, until the end or its death."""
    import torch
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    folder.mkdir(exist_ok=True)
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    done = command("train", str(path), ranks=ranks, kill_after=kill_after)
    outcome = Outcome(done.returncode, done.stdout)
    logs = sorted(folder.glob("batches-*.jsonl"))
    of_ranks = [dict(map(json.loads, log.read_text().splitlines())) for log in logs]
    for batch in of_ranks[0] if of_ranks else []:
        outcome.batches[batch] = [i for ids in of_ranks for i in ids.get(batch, [])]
    if done.returncode == 0:
        latest = folder / "checkpoints" / "latest-rank0.pt"
        if latest.is_dir():  # of shards
            dcp_to_torch_save(latest, folder / "whole.pt")
            latest = folder / "whole.pt"
        outcome.final = torch.load(latest, weights_only=False)["state"]
    return outcome


def _tokenizer_of(inputs: Inputs, **arguments: Any) -> Any:
    from llmfoundry.utils.builders import build_tokenizer  # pyright: ignore[reportMissingImports]

    return build_tokenizer(str(inputs.tokenizer), {"model_max_length": LENGTH, **arguments})


def build_loader(
    inputs: Inputs, settings: dict[str, Any], *, padding_side: str = "right", **more: Any
) -> Any:
    """The DataLoader that llm-foundry makes of a loader's settings."""
    from llmfoundry.data.dataloader import build_dataloader  # pyright: ignore[reportMissingImports]

    tokenizer = _tokenizer_of(inputs, padding_side=padding_side)
    settings = settings | {"pin_memory": False, "prefetch_factor": None} | more
    settings["persistent_workers"] = settings["num_workers"] > 0
    return build_dataloader(settings, tokenizer, GLOBAL_BATCH).dataloader


def build_model(inputs: Inputs, settings: dict[str, Any]) -> Any:
    """The model that llm-foundry makes of a model's settings."""
    from llmfoundry.utils.builders import (  # pyright: ignore[reportMissingImports]
        build_composer_model,
    )

    arguments = dict(settings)
    name = arguments.pop("name")
    return build_composer_model(name=name, tokenizer=_tokenizer_of(inputs), cfg=arguments)
