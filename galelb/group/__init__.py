# SPDX-License-Identifier: Apache-2.0
"""What balancers of a group agree on; sans-IO, time comes as a number of seconds."""
