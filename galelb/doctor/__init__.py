# SPDX-License-Identifier: Apache-2.0
"""`galelb doctor`: gathers facts of a machine, judges them, and names the command that mends."""
