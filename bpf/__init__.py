# SPDX-License-Identifier: Apache-2.0
"""BPF C headers and entry programs, as package data."""
