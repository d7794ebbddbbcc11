# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: `./dev bench [NAME...]`. Figures of one run are comparable, machines are noisy."""
