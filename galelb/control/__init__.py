# SPDX-License-Identifier: Apache-2.0
"""Decides what a balancer's maps shall hold, and remembers it; galelb.datapath carries it out."""
