# SPDX-License-Identifier: Apache-2.0
"""Members on real sockets: they meet, tell, die, return and leave."""

from functools import partial

from members import formed, group, until


async def test_all_meet_and_hear_what_each_writes(tmp_path):
    async with group(3, tmp_path) as (members, _):
        members[0].transport.write("early", b"1")
        await formed(members)
        for one in members:
            one.transport.write("key", one.name.encode())

        said = {("m1", "early"): b"1"} | {(one.name, "key"): one.name.encode() for one in members}
        for one in members:
            await until(partial(one.knows, said))
