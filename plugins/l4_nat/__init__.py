# SPDX-License-Identifier: Apache-2.0
"""l4_nat: stateful NAT with connection tracking."""
