# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""A repair of Composer's: nodes that share the run folder do not remove one another's files."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

from composer.utils import dist


@contextlib.contextmanager
def signal_files_of_each_node() -> Iterator[None]:
    """Within it, the file by which ranks of a node wait for its first has a name of the node's own.

    ``dist.get_node_signal_file_name`` of Composer 0.32 gives all nodes the name that the first one
    has. Each makes that file in the folder of checkpoints when it looks for one to go on from, and
    removes it: where the folder is shared, as it must be to go on, all but one fail with
    ``FileNotFoundError`` (llm-foundry #1736).
    """
    of_all_nodes = dist.get_node_signal_file_name

    def of_this_node(rng: random.Random | None = None) -> str:
        return f"{of_all_nodes(rng)}_{dist.get_node_rank()}"

    dist.get_node_signal_file_name = of_this_node
    try:
        yield
    finally:
        dist.get_node_signal_file_name = of_all_nodes
