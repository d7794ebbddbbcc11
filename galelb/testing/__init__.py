# SPDX-License-Identifier: Apache-2.0
"""The public test kit for plugin authors.

Import what you need from the modules: `packets` builds frames, `runner.PacketRunner` runs them
through a forwarder's compiled program in a `kernel.Sandbox` with a `world`, `cases` are tables of
packets with what must become of them, `storm` and `contention` find races. What every scheduler
promises is `schedulers.SchedulerContract`, a test class to inherit.
"""
