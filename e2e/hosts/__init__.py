# SPDX-License-Identifier: Apache-2.0
"""Scenarios that run in a lab or on real machines, and what they need for that."""
