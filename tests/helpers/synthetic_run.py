# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A run folder as training writes it, made up in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.report import History, Run, choose_samples, group_shards, read_run

METRIC = "eval/MulticlassAccuracy"
ACTION_BINS = 20


def write_run(
    folder: Path,
    selector: str = "data_agent",
    *,
    seed: int = 0,
    epochs: int = 8,
    num_samples: int = 400,
    classes: int = 10,
    shards: int = 8,
    ratio: float = 0.5,
    evaluated: bool = True,
    samples: bool = True,
    **meta: Any,
) -> Run:
    """Write a run whose numbers have the shape of a real one; the same arguments, the same run.

    Args:
        folder (Path): Where runs are put; this one gets a folder of its own in it.
        selector (str): ``data_agent`` has actions and PPO diagnostics, the others have not.
        seed (int): Seeds all numbers.
        epochs (int): Finished epochs, the first of them on all samples.
        num_samples (int): Size of the data set.
        classes (int): Number of classes.
        shards (int): Number of shards, of nearly equal size; 0: the data are map-style.
        ratio (float): Share of the samples in pruned epochs.
        evaluated (bool): Whether rows have metrics.
        samples (bool): Whether thumbnails are written.
        **meta (Any): More settings, or others.

    Returns:
        Run: As read back.
    """
    rng = np.random.default_rng(seed)
    name = f"{selector}-{seed}"
    history = History(folder / name)
    history.begin(
        {
            "run_name": name,
            "selector": selector,
            "ratio": ratio,
            "preset": "default",
            "state": "signals",
            "seed": seed,
            "num_samples": num_samples,
            "num_epochs": epochs,
            "class_names": [f"digit {i}" for i in range(classes)],
            "version": "0.1.0",
            **meta,
        },
        epoch=0,
    )
    label = rng.integers(0, classes, num_samples)
    hardness = rng.beta(2, 5, num_samples) + 0.05 * label
    visits = np.zeros(num_samples, np.int16)
    last_seen = np.full(num_samples, -1, np.int16)
    seen = 0
    for epoch in range(epochs):
        everything = selector == "full" or epoch == 0
        size = num_samples if everything else round(ratio * num_samples)
        wish = rng.gumbel(size=num_samples) + (0 if selector == "random" else 4 * hardness)
        chosen = np.argsort(-wish)[:size]
        visits[chosen] += 1
        last_seen[chosen] = epoch
        seen += size
        row = _row(rng, selector, epoch, epochs, size, seen, num_samples)
        row["class_selected"] = _counts(label[chosen], classes)
        row["class_total"] = _counts(label, classes)
        if shards:
            mask = np.isin(np.arange(num_samples), chosen)
            parts = np.array_split(mask, shards)
            row["shard_selected"] = group_shards(np.array([part.sum() for part in parts]))
            row["shard_total"] = group_shards(np.array([len(part) for part in parts]))
        row["coverage"] = float((visits > 0).mean())
        if evaluated:
            gain = {"full": 0.0, "data_agent": 0.002}.get(selector, -0.01)
            accuracy = 0.97 + gain - 0.5 * np.exp(-1.2 * (epoch + 1)) + rng.normal(0, 0.002)
            row["metrics"] = {"eval/CrossEntropy": 1.1 - accuracy, METRIC: accuracy}
        history.append(row)
    ledger = {
        "loss": np.where(visits > 0, hardness * rng.exponential(1, num_samples), np.nan),
        "max_prob": np.where(visits > 0, rng.uniform(0.5, 1, num_samples), np.nan),
        "label": label.astype(np.int32),
        "predicted": np.where(hardness > 0.6, (label + 1) % classes, label).astype(np.int32),
        "flagged": (hardness > 0.6) & (visits > 0),
        "last_seen": last_seen,
        "visits": visits,
        "score": np.where(visits > 0, hardness, np.nan).astype(np.float32),
    }
    history.write_ledger(ledger)
    if samples:
        ids = [i for some in choose_samples(ledger).values() for i in some]
        history.write_samples(
            {i: {"x": _image(rng, int(label[i])), "y": int(label[i])} for i in ids}
        )
    history.end()
    return read_run(folder / name)


def _row(
    rng: np.random.Generator,
    selector: str,
    epoch: int,
    epochs: int,
    size: int,
    seen: int,
    num_samples: int,
) -> dict[str, Any]:
    done = epoch / max(epochs, 1)
    actions = rng.beta(2 - done, 2 + done, size)
    learns = selector == "data_agent"
    return {
        "epoch": epoch,
        "epochs": epoch + 1.0,
        "streaming_epoch": epoch,
        "selector": selector,
        "ratio": size / num_samples,
        "selected": size,
        "samples_seen": seen,
        "share_of_full": seen / ((epoch + 1) * num_samples),
        "batches": (epoch + 1) * 7,
        "seconds": 2.0 + 6.0 * size / num_samples,
        "agent_seconds": 0.05 if learns else 0.01,
        "learning_rate": 0.05 * (1 + np.cos(np.pi * done)),
        "mean_loss": 2.0 * np.exp(-3 * done),
        "mean_entropy": 0.8 * np.exp(-2 * done),
        "difficulty": 0.35 + 0.1 * done + rng.normal(0, 0.01),
        "uncertainty": 0.7 * np.exp(-2 * done) + rng.normal(0, 0.01),
        "reward_weight": 0.4 + 0.3 * done,
        "reward": -0.1 * np.exp(-2 * done) if learns else None,
        "flagged": int(7 * done),
        "coverage": 1.0,
        "churn": None if epoch == 0 else 0.4,
        "action_mean": actions.mean() if learns else None,
        "action_std": actions.std() if learns else None,
        "action_histogram": (
            np.histogram(actions, ACTION_BINS, (0, 1))[0].tolist() if learns else None
        ),
        "ppo": (
            {
                "policy_loss": -0.02,
                "value_loss": 0.03,
                "approx_kl": 0.02 * np.exp(-done) + abs(rng.normal(0, 0.002)),
                "clip_fraction": 0.1 * np.exp(-done),
                "explained_variance": 0.8 - 0.6 * np.exp(-4 * done),
                "entropy": -0.1 - 0.5 * done,
            }
            if learns
            else {}
        ),
    }


def _counts(labels: NDArray, classes: int) -> dict[str, int]:
    return {str(c): int(n) for c, n in enumerate(np.bincount(labels, minlength=classes))}


def _image(rng: np.random.Generator, label: int) -> NDArray[np.float32]:
    """8 x 8 values, flat as scikit-learn's digits are."""
    image = 0.15 * rng.random((8, 8))
    image[1:7, 1 + label % 6] = 1.0
    image[1 + label % 5, 1:7] = 0.8
    return image.astype(np.float32).reshape(64)
