# SPDX-License-Identifier: Apache-2.0
"""The REST API of a balancer, on the private interface only."""
