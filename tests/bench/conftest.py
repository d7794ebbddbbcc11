# SPDX-License-Identifier: Apache-2.0
"""Makes `bench` importable, which is not installed, whichever way pytest was started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
