# SPDX-License-Identifier: Apache-2.0
"""The public test kit for plugin authors."""
