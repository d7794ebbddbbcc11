# SPDX-License-Identifier: Apache-2.0
"""Programs and maps in the kernel: loaded, filled, attached to interfaces, listened to."""
