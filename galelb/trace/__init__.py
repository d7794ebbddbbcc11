# SPDX-License-Identifier: Apache-2.0
"""`galelb trace`: runs the packets of a capture file through the real programs, step by step."""
