# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""What bench_egress.py is made of: a fast object store on the loopback, samples, and ranks."""
