# SPDX-License-Identifier: Apache-2.0
"""gRPC over h2 and trio: just what nodes and balancers need to talk; messages are bytes."""
