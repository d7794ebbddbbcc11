# SPDX-License-Identifier: Apache-2.0
"""A control socket like bird's, over a file like the one that bird includes."""

import re

import trio

NAME = re.compile(r"^protocol direct (galelb_\w+) ", re.MULTILINE)
ADDRESS = re.compile(r" interface ([0-9a-f.:]+)/\d+; }$", re.MULTILINE)


class FakeBird:
    """Answers as BIRD 2.0.12 does; what it has read is in `text`."""

    def __init__(self, folder):
        self.file = folder / "galelb.conf"
        self.socket = folder / "bird.ctl"
        self.text = ""
        self.configured = 0
        self.included = True
        self.established = True
        self.answer = None
        """Bytes to say instead of anything; None = as bird does."""

    @property
    def announced(self):
        return frozenset(ADDRESS.findall(self.text))

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        """Serve until cancelled."""
        self._read()
        self.socket.unlink(missing_ok=True)
        with trio.socket.socket(trio.socket.AF_UNIX) as made:
            await made.bind(str(self.socket))
            made.listen()
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(made)])

    def _read(self):
        self.text = self.file.read_text() if self.included and self.file.exists() else ""

    async def _serve(self, stream):
        try:
            await stream.send_all(self.answer or b"0001 BIRD 2.0.12 ready.\n")
            left = b""
            async for part in stream:
                *commands, left = (left + part).split(b"\n")
                for command in commands:
                    await stream.send_all(self.answer or self._do(command.decode()))
        except trio.BrokenResourceError:
            pass

    def _do(self, command):
        if command == "configure":
            self.configured += 1
            self._read()
            return b"0002-Reading configuration from bird.conf\n0003 Reconfigured\n"
        if command == "show protocols":
            return self._protocols().encode()
        return b"9001 syntax error, unexpected CF_SYM_UNDEFINED\n"

    def _protocols(self):
        rows = ["device1    Device     ---        up     02:02:45.637  "]
        rows += [f"{name}   Direct     ---        up     02:02:46.135  " for name in self._names()]
        state = "up     02:02:45.637  Established" if self.established else "start  02:02:45  Idle"
        rows.append(f"router     BGP        ---        {state}   ")
        head = "2002-Name       Proto      Table      State  Since         Info\n1002-"
        return head + "\n ".join(rows) + "\n0000 \n"

    def _names(self):
        return NAME.findall(self.text)
