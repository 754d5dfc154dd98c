# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run will fetch, epoch by epoch, simulated on the sizes that an index gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.streaming.costs import REQUESTS_OF_SHARD, Costs
from composer_dataagent.streaming.egress import Reads, ShardSizes, forget, hold, map_reads

# How samples are chosen and fetched: everything; random samples, of which shards come whole, as in
# stock streaming, or ranges; random shards.
MODES = ("full", "shards", "samples", "whole_shards")
# Of more, a random part of the shards is simulated.
MOST_SAMPLES = 1 << 21
MOST_SHARDS = 1 << 12
_LEAST_SHARDS = 16


def draw_ids(
    num_samples: int,
    ratio: float,
    seed: int,
    epoch: int,
    seen: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """A random selection, as rules make it: samples that no epoch has served yet come first.

    Args:
        num_samples (int): Of the data set.
        ratio (float): Share of them that is selected, in (0, 1]; rounded to samples as
            ``DataAgent`` does.
        seed (int): Of the run.
        epoch (int): Which.
        seen (NDArray[np.bool_] | None): ``[N]`` which were served before. Default: no matter which.

    Returns:
        NDArray[np.int64]: ``[K]`` sorted ids.
    """
    count = max(1, int(ratio * num_samples + 0.5))
    if count == num_samples:
        return np.arange(num_samples)
    rng = np.random.default_rng([seed, epoch])
    if seen is None:
        return np.sort(rng.choice(num_samples, count, replace=False, shuffle=False))
    new, old = np.flatnonzero(~seen), np.flatnonzero(seen)
    if len(new) > count:
        return np.sort(rng.choice(new, count, replace=False, shuffle=False))
    more = rng.choice(old, count - len(new), replace=False, shuffle=False)
    return np.sort(np.concatenate([new, more]))


def draw_shards(
    sizes: ShardSizes,
    ratio: float,
    seed: int,
    epoch: int,
    seen: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Random shards that together have as many samples; only a part of the last one is needed.

    Args:
        sizes (ShardSizes): Of the shards.
        ratio (float): See :func:`draw_ids`.
        seed (int): Of the run.
        epoch (int): Which.
        seen (NDArray[np.bool_] | None): ``[S]`` shards of which all was served before, which come
            last. Default: no matter which.

    Returns:
        NDArray[np.int64]: ``[S]`` selected samples of each.
    """
    count = max(1, int(ratio * sizes.num_samples + 0.5))
    order = np.random.default_rng([seed, epoch]).permutation(len(sizes.samples))
    if seen is not None:
        order = order[np.argsort(seen[order], kind="stable")]
    before = np.cumsum(sizes.samples[order]) - sizes.samples[order]
    selected = np.zeros_like(sizes.samples)
    selected[order] = np.clip(count - before, 0, sizes.samples[order])
    return selected


def some_shards(sizes: ShardSizes, seed: int) -> NDArray[np.int64]:
    """Numbers of the shards that are simulated: all, or a random part of very many.

    Args:
        sizes (ShardSizes): Of all.
        seed (int): Draws them.
    """
    shards = len(sizes.samples)
    fitting = int(MOST_SAMPLES * shards / max(sizes.num_samples, 1))
    count = min(shards, max(min(fitting, MOST_SHARDS), _LEAST_SHARDS))
    if count == shards:
        return np.arange(shards)
    return np.sort(np.random.default_rng(seed).choice(shards, count, replace=False))


def forecast(
    sizes: ShardSizes,
    ratios: Sequence[float],
    costs: Costs | None = None,
    *,
    cache_limit: float | None = None,
    nodes: int = 1,
    seed: int = 0,
    unseen_first: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, NDArray[np.int64]]:
    """Simulate the epochs of a run with random selections.

    Each node keeps what it fetched. Where that is limited it gives up the shard that was used
    longest ago, with all that it holds of it, before it fetches another; it uses the epoch's shards
    one after the other, in a random order that is new in each epoch. Shards are dealt to nodes as
    ``py1e`` does, each to one.

    Args:
        sizes (ShardSizes): Of the shards.
        ratios (Sequence[float]): ``[E]`` ratio of each epoch, in (0, 1].
        costs (Costs | None): See :func:`map_reads`. Default: ``Costs()``.
        cache_limit (float | None): Bytes that a node keeps; 0: nothing. Default: everything.
        nodes (int): How many nodes there are. Default: ``1``.
        seed (int): Draws selections and orders. Default: ``0``.
        unseen_first (bool): What no epoch has served yet is selected before all else. Default:
            ``False``, as if each epoch was the first.
        tick (Callable): Is called after each epoch. Default: nothing.

    Returns:
        dict[str, NDArray[np.int64]]: For each of ``MODES`` ``[E, 2]``: bytes and requests of each
        epoch, over all nodes.
    """
    costs = Costs() if costs is None else costs
    limit = np.inf if cache_limit is None else cache_limit
    fetchers: dict[str, _WholeShards | _Samples] = {
        mode: (_Samples if mode == "samples" else _WholeShards)(sizes, costs, limit, nodes, seed)
        for mode in MODES
    }
    fetched = {mode: np.zeros((len(ratios), 2), np.int64) for mode in MODES}
    everything = np.arange(sizes.num_samples)
    seen = np.zeros(sizes.num_samples, bool) if unseen_first else None
    seen_shards = np.zeros(len(sizes.samples), bool) if unseen_first else None
    for epoch, ratio in enumerate(ratios):
        ids = draw_ids(sizes.num_samples, ratio, seed, epoch, seen)
        of_shards = draw_shards(sizes, ratio, seed, epoch, seen_shards)
        if seen is not None and seen_shards is not None:
            seen[ids] = True
            seen_shards |= of_shards == sizes.samples
        counts = np.diff(np.searchsorted(ids, sizes.starts))
        order = np.random.default_rng([seed, epoch, 1]).permutation(len(sizes.samples))
        chosen = {
            "full": (everything, sizes.samples),
            "shards": (ids, counts),
            "samples": (ids, counts),
            "whole_shards": (ids, of_shards),
        }
        for mode, fetcher in fetchers.items():
            which, of_shard = chosen[mode]
            fetched[mode][epoch] = fetcher.fetch(which, of_shard, order)
        tick()
    return fetched


def by_ratio(
    sizes: ShardSizes,
    ratios: Sequence[float],
    costs: Costs | None = None,
    seed: int = 0,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """What one epoch fetches at different ratios if nothing is there.

    Args:
        sizes (ShardSizes): Of the shards.
        ratios (Sequence[float]): ``[R]``, each in (0, 1].
        costs (Costs | None): See :func:`map_reads`. Default: ``Costs()``.
        seed (int): Draws selections. Default: ``0``.
        tick (Callable): Is called after each ratio. Default: nothing.

    Returns:
        dict[str, list[float]]: For each of ``MODES`` ``[R]`` shares of the data set's bytes.
    """
    epochs = [
        forecast(sizes, [ratio], costs, cache_limit=0, seed=seed, tick=tick) for ratio in ratios
    ]
    total = max(int(sizes.stored.sum()), 1)
    return {mode: [float(each[mode][0, 0]) / total for each in epochs] for mode in MODES}


class _Caches:
    """Which shards the nodes keep: the one that was used longest ago goes first.

    Args:
        limit (float): Bytes of each node.
        nodes (int): How many there are.
    """

    def __init__(self, limit: float, nodes: int) -> None:
        self.limit = limit
        self.kept: list[dict[int, int]] = [{} for _ in range(nodes)]  # shard to bytes, in order
        self.used = [0] * nodes

    def has(self, node: int, shard: int) -> bool:
        return shard in self.kept[node]

    def use(self, node: int, shard: int, size: int) -> list[int]:
        """Keep a shard that has this size now; gives those that had to go."""
        kept, gone = self.kept[node], []
        self.used[node] -= kept.pop(shard, 0)
        while kept and self.used[node] + size > self.limit:
            oldest = next(iter(kept))
            self.used[node] -= kept.pop(oldest)
            gone.append(oldest)
        if size <= self.limit:
            kept[shard] = size
            self.used[node] += size
        else:
            gone.append(shard)
        return gone


class _WholeShards:
    """Nodes that fetch whole shards."""

    def __init__(
        self, sizes: ShardSizes, costs: Costs, limit: float, nodes: int, seed: int
    ) -> None:
        self.sizes = sizes
        self.costs = costs
        self.nodes = nodes
        self.seed = seed
        self.caches = _Caches(limit, nodes)

    def fetch(self, ids: NDArray, counts: NDArray, order: NDArray) -> tuple[int, int]:
        """Bytes and requests of an epoch.

        Args:
            ids (NDArray): ``[K]`` selected samples.
            counts (NDArray): ``[S]`` of each shard.
            order (NDArray): ``[S]`` the shards, as they are used.
        """
        del ids
        sizes, caches = self.sizes, self.caches
        node, raw = self._node_of(counts).tolist(), sizes.raw.tolist()
        missing = []
        for shard in order[counts[order] > 0].tolist():
            if not caches.has(node[shard], shard):
                missing.append(shard)
            caches.use(node[shard], shard, raw[shard])
        return int(sizes.stored[missing].sum()), REQUESTS_OF_SHARD * int(sizes.files[missing].sum())

    def _node_of(self, counts: NDArray) -> NDArray[np.int64]:
        """``[S]`` where each shard is used.

        ``py1e`` shuffles the shards that are used, by the run's seed alone, and gives each node an
        equal part of their samples: where the same shards are used again, by the same nodes.
        """
        node = np.zeros(len(counts), np.int64)
        if self.nodes == 1:
            return node
        used = np.flatnonzero(counts)
        np.random.default_rng(self.seed).shuffle(used)
        ends = np.cumsum(counts[used])
        node[used] = (ends - counts[used]) * self.nodes // ends[-1]
        return node


class _Samples(_WholeShards):
    """Nodes that fetch samples, or whole shards where that is cheaper."""

    def __init__(
        self, sizes: ShardSizes, costs: Costs, limit: float, nodes: int, seed: int
    ) -> None:
        super().__init__(sizes, costs, limit, nodes, seed)
        count = (sizes.num_samples + 7) // 8
        self.held = [np.zeros(count, np.uint8) for _ in range(nodes)]

    def fetch(self, ids: NDArray, counts: NDArray, order: NDArray) -> tuple[int, int]:
        """See :meth:`_WholeShards.fetch`."""
        node = self._node_of(counts)
        anew = map_reads(ids, self.sizes, self.costs)
        more = map_reads(ids, self.sizes, self.costs, self._held_at(node))
        is_new = self._use(node, order[counts[order] > 0], anew, more, ids)
        total = [
            int(np.where(is_new, fresh, topped_up).sum())
            for fresh, topped_up in (
                (anew.bytes_by_shard("samples"), more.bytes_by_shard("samples")),
                (anew.requests_by_shard("samples"), more.requests_by_shard("samples")),
            )
        ]
        return total[0], total[1]

    def _held_at(self, node: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Of each shard, what the node holds that uses it."""
        if self.nodes == 1:
            return self.held[0]
        at = np.repeat(node, self.sizes.samples)
        mask = np.zeros(len(at), bool)
        for each, held in enumerate(self.held):
            mask |= np.unpackbits(held, count=len(at)).view(bool) & (at == each)
        return np.packbits(mask)

    def _use(
        self, node: NDArray[np.int64], order: NDArray, anew: Reads, more: Reads, ids: NDArray
    ) -> NDArray[np.bool_]:
        """Use the shards in this order; gives ``[S]`` which of them were not there by then."""
        caches, raw = self.caches, self.sizes.raw.tolist()
        is_new = np.zeros(len(raw), bool)
        gone: list[set[int]] = [set() for _ in self.held]
        at = node.tolist()
        added = [reads.bytes_by_shard("samples").tolist() for reads in (more, anew)]
        whole = [reads.whole.tolist() for reads in (more, anew)]
        for shard in order.tolist():
            where, kept = at[shard], caches.kept[at[shard]]
            new = shard not in kept
            is_new[shard] = new
            size = raw[shard] if whole[new][shard] else kept.get(shard, 0) + added[new][shard]
            gone[where].update(caches.use(where, shard, min(size, raw[shard])))
        is_whole = np.where(is_new, anew.whole, more.whole)
        shard_of = np.repeat(np.arange(len(raw)), np.diff(np.searchsorted(ids, self.sizes.starts)))
        for each, held in enumerate(self.held):
            forget(held, self.sizes, sorted(gone[each]))
            kept = np.zeros(len(raw), bool)
            kept[[shard for shard in caches.kept[each] if at[shard] == each]] = True
            hold(held, ids[kept[shard_of]], self.sizes, kept & is_whole)
        return is_new
