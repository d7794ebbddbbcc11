# SPDX-License-Identifier: Apache-2.0
"""`galelb plan`: what another configuration would change, said before it is in force."""
