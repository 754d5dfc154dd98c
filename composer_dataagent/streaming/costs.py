# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What it costs to read from an object store: by which it is decided how a shard is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer_dataagent.checks import is_number

# Streaming's clients ask for an object's size before they fetch it.
REQUESTS_OF_SHARD = 2
_MOST = 1e15  # of any number


@dataclass(frozen=True)
class Costs:
    """Prices of requests, of bytes and of waiting; the defaults are list prices of a large cloud.

    Attributes:
        dollars_per_gb (float): Of 10^9 bytes that leave the store; >= 0. Default: ``0.09``.
        dollars_per_million_requests (float): Of reading requests; >= 0. Default: ``0.4``.
        dollars_per_hour (float): What an hour costs in which training waits for data; >= 0.
            Default: ``0.0``, as if it never had to.
        latency (float): Seconds until a request is answered; >= 0. Counts only in
            ``dollars_per_hour``. Default: ``0.02``.
        bandwidth (float): Bytes per second that one loader worker gets; > 0. Likewise. Default:
            ``100e6``.
        concurrency (int): Requests that one loader worker has under way at once; >= 1. Default:
            ``64``.

    Raises:
        ValueError: A number is out of its range; the message names it.

    Example:
        >>> costs = Costs(dollars_per_gb=0.05)
        >>> round(costs.charged(requests=1_000_000, size=10**9), 3)
        0.45
        >>> costs.gap  # so many bytes are cheaper than another request
        8000
    """

    dollars_per_gb: float = 0.09
    dollars_per_million_requests: float = 0.4
    dollars_per_hour: float = 0.0
    latency: float = 0.02
    bandwidth: float = 100e6
    concurrency: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (is_number(value) and 0 <= value <= _MOST):
                raise ValueError(
                    f"{field.name}={value!r} is not accepted; it must be a number >= 0, and "
                    f"{_MOST:g} at most"
                )
        if self.bandwidth == 0:
            raise ValueError("bandwidth=0 is not accepted; it must be a number > 0")
        if not (isinstance(self.concurrency, int) and self.concurrency >= 1):
            raise ValueError(
                f"concurrency={self.concurrency!r} is not accepted; it must be an integer >= 1"
            )

    @classmethod
    def of(cls, spec: Costs | Mapping[str, Any] | None) -> Costs:
        """Costs as a recipe gives them: a mapping, or nothing for the defaults.

        Raises:
            ValueError: An unknown name, or a number that is not accepted.
            TypeError: Something else than costs or a mapping.
        """
        if isinstance(spec, Costs):
            return spec
        if not isinstance(spec, Mapping | None):
            raise TypeError(f"costs={spec!r} is not accepted; it must be a mapping or Costs")
        names = [field.name for field in fields(cls)]
        for name in spec or {}:
            if name not in names:
                raise ValueError(f"costs has no {name!r}; it accepts {names}")
        return cls(**(spec or {}))

    def given(self) -> dict[str, Any]:
        """Those that are not the defaults."""
        defaults = asdict(Costs())
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}

    def charged(self, requests: float, size: float) -> float:
        """Dollars that the store asks for requests and the bytes that they brought.

        What it costs to wait for them is not among it: whether training waited is not known.
        """
        return self.dollars_per_million_requests * requests / 1e6 + self.dollars_per_gb * size / 1e9

    def seconds(self, requests: float, size: float) -> float:
        """How long one loader worker needs for requests and the bytes that they bring."""
        return requests * self.latency / self.concurrency + size / self.bandwidth

    @property
    def per_request(self) -> float:
        """Dollars of a request, without its bytes, but with the time that it takes."""
        return self.charged(1, 0) + self.dollars_per_hour / 3600 * self.seconds(1, 0)

    @property
    def per_byte(self) -> float:
        """Dollars of a byte, with the time that it takes."""
        return self.charged(0, 1) + self.dollars_per_hour / 3600 * self.seconds(0, 1)

    @property
    def gap(self) -> int:
        """Bytes between two samples that are cheaper to read than another request is."""
        if self.per_byte == 0:
            return 1 << 62 if self.per_request else 0
        return int(min(self.per_request / self.per_byte, 1 << 62))

    def whole_is_cheaper(
        self,
        requests: NDArray[np.int64] | int,
        read: NDArray[np.int64] | int,
        shard: NDArray[np.int64] | int,
    ) -> Any:
        """Whether shards are better fetched whole than by ranges.

        Args:
            requests (NDArray[np.int64] | int): Ranges, and one for a header that is not there.
            read (NDArray[np.int64] | int): Bytes that they hold.
            shard (NDArray[np.int64] | int): Bytes of the whole shard.

        Returns:
            NDArray[np.bool_] | bool: For each shard; also where both cost the same.
        """
        whole = REQUESTS_OF_SHARD * self.per_request + shard * self.per_byte
        return whole <= requests * self.per_request + read * self.per_byte
