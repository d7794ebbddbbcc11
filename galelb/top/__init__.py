# SPDX-License-Identifier: Apache-2.0
"""`galelb top`: rates made from samples of the API, and their live picture."""
