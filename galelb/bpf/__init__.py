# SPDX-License-Identifier: Apache-2.0
"""The kernel side: compose, compile, load, attach and talk to BPF programs and maps."""
