# SPDX-License-Identifier: Apache-2.0
"""The public test kit for plugin authors.

`contract.ForwarderContract` are the tests that every forwarder inherits, `model` says in Python
what forwarders do to packets. For tests of your own: `packets` builds frames,
`runner.PacketRunner` runs them through compiled programs in a `kernel.Sandbox` with a `world`,
`cases` are tables of packets with what must become of them, `corpus` draws packets of all kinds,
`differential` compares program and model, `wires` sends real ones, `storm`, `lives`,
`contention` and `ready` find races, `schedulers` is the contract of schedulers.
"""
