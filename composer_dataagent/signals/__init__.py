# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a forward pass that happens anyway says about each of its samples."""

from __future__ import annotations

from composer_dataagent.signals.classification import Signals, classification_signals
from composer_dataagent.signals.dense import dense_signals
from composer_dataagent.signals.detect import SignalsFn, checked, detect_signals
from composer_dataagent.signals.features import FeatureHook, find_head
from composer_dataagent.signals.huggingface import has_decoder_of_its_own
from composer_dataagent.signals.mixing import Mixer, Mixing, find_mixer, own_shares
from composer_dataagent.signals.reader import BatchReader
from composer_dataagent.signals.tokens import TokenOptions, token_signals
from composer_dataagent.signals.weights import scale_gradient

__all__ = [
    "BatchReader",
    "FeatureHook",
    "Mixer",
    "Mixing",
    "Signals",
    "SignalsFn",
    "TokenOptions",
    "checked",
    "classification_signals",
    "dense_signals",
    "detect_signals",
    "find_head",
    "find_mixer",
    "has_decoder_of_its_own",
    "own_shares",
    "scale_gradient",
    "token_signals",
]
