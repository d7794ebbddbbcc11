# SPDX-License-Identifier: Apache-2.0
"""Next hops: by which interface and to which MAC address frames leave for nodes and clients."""
