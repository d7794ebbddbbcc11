# SPDX-License-Identifier: Apache-2.0
"""The node agent: reports a node's health to every balancer."""
