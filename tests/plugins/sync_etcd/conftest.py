# SPDX-License-Identifier: Apache-2.0
"""Makes etcd_server.py importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
