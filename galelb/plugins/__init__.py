# SPDX-License-Identifier: Apache-2.0
"""Finds, validates and calls plugins.

Lazy: help looks for foreign plugins (galelb.plugins.loading) without pluggy and pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.lazy import lazily

if TYPE_CHECKING:
    from galelb.plugins.infos import PluginInfo
    from galelb.plugins.manager import Plugins
else:
    __getattr__ = lazily(__name__, {"PluginInfo": "infos", "Plugins": "manager"})

__all__ = ["PluginInfo", "Plugins"]
