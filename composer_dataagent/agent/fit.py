# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""Has the agent learned what it is rewarded for?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fit(mean_action: NDArray, aim: NDArray) -> float:
    """Correlation of what the policy would do on average with what it is rewarded for.

    To be asked of actions before the policy has learned from them: 1 is an agent that knows what
    its next samples are worth, 0 one that has learned nothing, below is one that errs.

    Args:
        mean_action (NDArray): ``[M]``, see :class:`~composer_dataagent.agent.Action`.
        aim (NDArray): ``[M]``, see :class:`~composer_dataagent.agent.Reward`.

    Returns:
        float: In [-1, 1]; 0 where either does not vary.
    """
    if len(aim) < 2:
        return 0.0
    action, aim = (values - values.mean() for values in (np.float64(mean_action), np.float64(aim)))
    norm = np.sqrt((action**2).sum() * (aim**2).sum())
    return float(np.clip((action * aim).sum() / norm, -1, 1)) if norm > 0 else 0.0
