# SPDX-License-Identifier: Apache-2.0
"""Live traffic as the programs see it, before and after, in pcapng."""
