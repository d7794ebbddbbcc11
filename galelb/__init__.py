# SPDX-License-Identifier: Apache-2.0
"""galelb: a multi-node, fault-tolerant, kernel-level load balancer."""
