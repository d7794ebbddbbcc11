# SPDX-License-Identifier: Apache-2.0
"""The commands of `galelb`, one module per group; imported only when called."""
