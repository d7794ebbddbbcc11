# SPDX-License-Identifier: Apache-2.0
"""SWIM membership and records between balancers: the protocol, without sockets and clocks yet."""
