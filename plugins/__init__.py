# SPDX-License-Identifier: Apache-2.0
"""The plugins that galelb ships."""
