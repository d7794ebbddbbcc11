# SPDX-License-Identifier: Apache-2.0
"""A whole network of clients, balancers and nodes on one machine."""
