# SPDX-License-Identifier: Apache-2.0
"""A throw-away corner of the kernel for tests: a bpffs and network namespaces, no leftovers."""

from galelb.datapath.sandbox import NsThread, Sandbox

__all__ = ["NsThread", "Sandbox"]
