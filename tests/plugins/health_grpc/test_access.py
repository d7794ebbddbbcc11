# SPDX-License-Identifier: Apache-2.0
"""Who may join: certificates and tokens over real sockets, and what both sides say about it."""

import socket
import ssl

import pytest
import trio
from galelb_plugins.health_grpc.access import load_access
from galelb_plugins.health_grpc.plugin import Options
from galelb_plugins.health_grpc.protocol import GET_CONFIG, REPORT
from structlog.testing import capture_logs

from galelb.config.node import BalancerAddress, LoadBalancerSection, NodeSettings
from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError
from galelb.grpc.limits import LinkLimits
from galelb.grpc.pipes import TlsPipe
from galelb.grpc.server import ServerLimits
from galelb.grpc.tls import FileProblemError
from galelb.node.client import BalancerClient
from galelb.node.health import LocalHealth
from galelb.node.identity import Identity

TOKEN = "correct-horse-battery"


@pytest.fixture
def authority(make_authority):
    return make_authority()


@pytest.fixture
def tls(authority):
    """The balancer's options for TLS."""
    cert, key = authority.issue("balancer", "127.0.0.1")
    return {"tls_cert": cert, "tls_key": key, "tls_client_ca": authority.ca}


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def serve(make_core, free_port, nursery):
    async def start(**options):
        core = make_core(free_port)
        core.source = core.source(**options)
        await nursery.start(core.source.run)
        return core

    yield start
    nursery.cancel_scope.cancel()


@pytest.fixture
def node(free_port, nursery):
    """Start a node's client with these files; it reports until the test ends."""

    def start(host="127.0.0.1", **files):
        address = BalancerAddress(hostname=host, port=free_port)
        section = LoadBalancerSection.model_construct(addresses=(address,), **_all(files))
        client = BalancerClient(
            address, NodeSettings(), LocalHealth(()), identity=Identity(section)
        )
        nursery.start_soon(client.run)
        return client

    return start


def _all(files):
    names = ("tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file")
    return dict.fromkeys(names) | files


async def answered(client):
    with trio.fail_after(30):
        while client.answer is None:
            await client.answered.wait()


async def told(logs, event):
    """Return the reason of the first entry of this kind."""
    with trio.fail_after(30):
        while True:
            for entry in logs:
                if entry["event"] == event:
                    return entry["reason"]
            await trio.sleep(0.01)


class TestCertificates:
    async def test_a_node_with_a_certificate_of_the_authority_joins(
        self, serve, node, tls, authority
    ):
        core = await serve(**tls)
        cert, key = authority.issue("node")

        await answered(node(tls_ca=authority.ca, tls_cert=cert, tls_key=key))

        assert ["127.0.0.1"] == [str(one.node.address) for one in core.health.records()]

    async def test_the_name_of_the_certificate_may_be_configured(self, serve, node, authority):
        cert, key = authority.issue("balancer", "lb.example")
        await serve(tls_cert=cert, tls_key=key, tls_client_ca=authority.ca)
        cert, key = authority.issue("node")

        await answered(
            node(tls_ca=authority.ca, tls_cert=cert, tls_key=key, tls_server_name="lb.example")
        )

    @pytest.mark.parametrize("what", ["none", "foreign"])
    async def test_other_nodes_are_refused_and_both_sides_say_why(
        self, serve, node, tls, authority, make_authority, what
    ):
        core = await serve(**tls)
        files = {"tls_ca": authority.ca}
        if what == "foreign":
            files["tls_cert"], files["tls_key"] = make_authority("other").issue("node")
        with capture_logs() as logs:
            node(**files)
            reasons = await told(logs, "balancer_unreachable"), await told(logs, "grpc_refused")

        node_says, balancer_says = {
            "none": ("it wants a certificate of ours (tls_cert, tls_key)", "showed no certificate"),
            "foreign": ("does not know the authority that signed our certificate", "unable to get"),
        }[what]
        assert node_says in reasons[0]
        assert balancer_says in reasons[1]
        assert () == core.health.records()

    async def test_a_node_refuses_a_balancer_of_another_authority(
        self, serve, node, tls, authority, make_authority
    ):
        await serve(**tls)
        cert, key = authority.issue("node")
        with capture_logs() as logs:
            node(tls_ca=make_authority("other").ca, tls_cert=cert, tls_key=key)
            reasons = await told(logs, "balancer_unreachable"), await told(logs, "grpc_refused")

        assert "its certificate is refused: " in reasons[0]
        assert "it does not know the authority that signed our certificate" == reasons[1]

    async def test_a_node_refuses_a_balancer_of_another_name(self, serve, node, authority):
        cert, key = authority.issue("balancer", "lb.example")
        await serve(tls_cert=cert, tls_key=key, tls_client_ca=authority.ca)
        cert, key = authority.issue("node")
        with capture_logs() as logs:
            node(tls_ca=authority.ca, tls_cert=cert, tls_key=key)
            reason = await told(logs, "balancer_unreachable")

        assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in reason

    async def test_a_node_without_tls_at_a_balancer_with_it(self, serve, node, tls):
        await serve(**tls)
        with capture_logs() as logs:
            node()
            reasons = await told(logs, "balancer_unreachable"), await told(logs, "grpc_refused")

        assert "does it want TLS?" in reasons[0]
        assert "it does not speak TLS" == reasons[1]

    async def test_a_node_with_tls_at_a_balancer_without(self, serve, node, authority):
        await serve()
        cert, key = authority.issue("node")
        with capture_logs() as logs:
            node(tls_ca=authority.ca, tls_cert=cert, tls_key=key)
            reason = await told(logs, "balancer_unreachable")

        assert "cannot connect: it does not speak TLS" == reason

    async def test_a_node_whose_certificate_has_expired(self, serve, tls, authority, free_port):
        """The agent would not even try: another client does."""
        await serve(**tls)
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(*authority.issue("node", days=-1))
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("127.0.0.1", free_port)) as sock, capture_logs() as logs:
            pipe = TlsPipe(sock, context, server_name="127.0.0.1")
            with trio.fail_after(30):
                await pipe.handshake()  # in TLS 1.3 the server looks at the certificate later
                with pytest.raises(trio.BrokenResourceError, match="our certificate has expired"):
                    await pipe.receive_some(100)
            reason = await told(logs, "grpc_refused")

        assert "its certificate is refused: certificate has expired" == reason

    async def test_a_client_that_stops_within_the_handshake_is_closed(self, serve, tls, free_port):
        core = await serve(**tls)
        core.source.server.limits = ServerLimits(link=LinkLimits(handshake_timeout=0.1))
        stream = await trio.open_tcp_stream("127.0.0.1", free_port)
        with capture_logs() as logs, trio.fail_after(30):
            await stream.send_all(b"\x16\x03\x01\x02\x00")  # a record that never ends
            assert b"" == await stream.receive_some(1)
        await stream.aclose()

        assert ["no TLS handshake in time"] == [entry["reason"] for entry in logs]

    async def test_tls_without_http2_is_refused(self, serve, tls, authority, free_port):
        await serve(**tls)
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(*authority.issue("node"))
        with socket.create_connection(("127.0.0.1", free_port)) as sock, capture_logs() as logs:
            pipe = TlsPipe(sock, context, server_name="127.0.0.1")
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError, match="ALPN"):
                await pipe.handshake()
            reason = await told(logs, "grpc_refused")

        assert "the other side does not offer HTTP/2 (ALPN h2)" == reason


class TestRotation:
    async def test_a_reload_uses_new_certificates_for_new_connections(
        self, serve, node, tls, authority, make_authority
    ):
        core = await serve(**tls)
        cert, key = authority.issue("node")
        before = node(tls_ca=authority.ca, tls_cert=cert, tls_key=key)
        await answered(before)
        other = make_authority("other")
        for path, new in zip(
            (tls["tls_cert"], tls["tls_key"]), other.issue("balancer", "127.0.0.1"), strict=True
        ):
            path.write_bytes(new.read_bytes())
        tls["tls_client_ca"].write_bytes(other.ca.read_bytes())

        core.source.reload(Options(**tls), core.context.config)
        cert, key = other.issue("node")
        await answered(node(tls_ca=other.ca, tls_cert=cert, tls_key=key))

        assert before.answer is not None
        assert before.reporting

    async def test_files_that_broke_meanwhile_change_nothing(self, serve, node, tls, authority):
        core = await serve(**tls)
        options = Options(**tls)
        tls["tls_cert"].write_text("gone")
        with capture_logs() as logs:
            core.source.reload(options, core.context.config)
        cert, key = authority.issue("node")
        await answered(node(tls_ca=authority.ca, tls_cert=cert, tls_key=key))

        assert ["health_grpc_keeps_old_secrets"] == [
            entry["event"] for entry in logs if entry["log_level"] == "error"
        ]

    async def test_a_node_reads_its_files_for_each_connection(
        self, serve, node, tls, authority, tmp_path
    ):
        await serve(**tls)
        cert, key = tmp_path / "node.crt", tmp_path / "node.key"
        with capture_logs() as logs:
            client = node(tls_ca=authority.ca, tls_cert=cert, tls_key=key)
            reason = await told(logs, "balancer_unreachable")
        for path, new in zip((key, cert), reversed(authority.issue("node")), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(new.read_bytes())
        await answered(client)

        assert f"cannot connect: {cert}: cannot be read: No such file or directory" == reason


class TestToken:
    async def test_a_node_with_the_token_joins(self, serve, node, token_file):
        core = await serve(token_file=token_file)

        await answered(node(token_file=token_file))

        assert 1 == len(core.health.records())

    @pytest.mark.parametrize("shown", [None, "wrong-horse-battery", TOKEN + "x", TOKEN[:-1]])
    @pytest.mark.parametrize("path", [GET_CONFIG, REPORT])
    async def test_without_it_every_call_is_refused(
        self, serve, token_file, free_port, shown, path
    ):
        core = await serve(token_file=token_file)
        metadata = [] if shown is None else [(b"authorization", b"Bearer " + shown.encode())]
        async with trio.open_nursery() as inner:
            stream = await trio.open_tcp_stream("127.0.0.1", free_port)
            channel = Channel(stream, "test", metadata=metadata)
            await channel.start(inner)
            with trio.fail_after(30), pytest.raises(CallError, match="UNAUTHENTICATED"):
                await channel.unary(path, b"")
            inner.cancel_scope.cancel()

        assert () == core.health.records()

    async def test_a_refused_node_and_the_balancer_say_why_but_not_the_token(
        self, serve, node, token_file, tmp_path
    ):
        other = tmp_path / "other"
        other.write_text("wrong-horse-battery")
        other.chmod(0o600)
        with capture_logs() as logs:
            await serve(token_file=token_file)
            node(token_file=other)
            reasons = await told(logs, "balancer_unreachable"), await told(logs, "grpc_refused")

        assert "UNAUTHENTICATED: the token is not the balancer's" == reasons[0]
        assert "the token is not the balancer's" == reasons[1]
        assert TOKEN not in repr(logs)
        assert "wrong-horse" not in repr(logs)

    async def test_a_reload_changes_it(self, serve, node, token_file):
        core = await serve(token_file=token_file)
        token_file.write_text("another-horse-battery")

        core.source.reload(Options(token_file=token_file), core.context.config)

        await answered(node(token_file=token_file))


class TestOpen:
    async def test_no_protection_is_warned_of(self, serve):
        with capture_logs() as logs:
            core = await serve()

        warnings = [entry["text"] for entry in logs if entry["log_level"] == "warning"]
        assert core.source.notes() == warnings
        assert "whoever can connect to node_port can join" in warnings[0]

    async def test_a_token_is_protection(self, serve, token_file):
        with capture_logs() as logs:
            core = await serve(token_file=token_file)

        assert [] == [entry for entry in logs if entry["log_level"] == "warning"]
        assert [] == core.source.notes()

    async def test_an_early_end_of_the_certificate_is_warned_of(self, serve, tls):
        core = await serve(**tls)

        assert ["expires on"] == [
            "expires on" for note in core.source.notes() if str(tls["tls_cert"]) in note
        ]


class TestFiles:
    """What is wrong with files is said before anything starts, at the key that names them."""

    def problem(self, **options):
        with pytest.raises(FileProblemError) as caught:
            load_access(*(options.get(k) for k in KEYS))
        return caught.value.key, str(caught.value)

    def test_missing(self, tls, tmp_path):
        assert ("tls_key", f"{tmp_path / 'x'}: cannot be read: No such file or directory") == (
            self.problem(**tls | {"tls_key": tmp_path / "x"})
        )

    def test_a_folder(self, tls, tmp_path):
        assert "tls_client_ca" == self.problem(**tls | {"tls_client_ca": tmp_path})[0]

    @pytest.mark.parametrize("key", ["tls_cert", "tls_client_ca"])
    @pytest.mark.parametrize(
        "content", [b"", b"hello", b"\xff\xfe\0", b"-----BEGIN CERTIFICATE-----"]
    )
    def test_no_certificate(self, tls, tmp_path, key, content):
        path = tmp_path / "x"
        path.write_bytes(content)

        where, text = self.problem(**tls | {key: path})

        assert key == where
        assert str(path) in text

    def test_a_damaged_certificate(self, tls):
        path = tls["tls_cert"]
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], lines[1][:20], lines[-1]]))

        assert ("tls_cert", f"{path}: holds no certificate in PEM form") == self.problem(**tls)

    def test_the_key_of_another_certificate(self, tls, authority):
        _, key = authority.issue("other")

        assert (
            "tls_key",
            f"{key}: is not the key of the certificate in {tls['tls_cert']}",
        ) == self.problem(**tls | {"tls_key": key})

    def test_certificate_and_key_confused(self, tls):
        swapped = tls | {"tls_cert": tls["tls_key"], "tls_key": tls["tls_cert"]}

        assert "tls_cert" == self.problem(**swapped)[0]

    def test_an_expired_certificate(self, authority):
        cert, key = authority.issue("balancer", days=-1)

        where, text = self.problem(tls_cert=cert, tls_key=key, tls_client_ca=authority.ca)

        assert "tls_cert" == where
        assert "its certificate expired on" in text

    def test_a_key_that_everybody_can_read(self, authority):
        cert, key = authority.issue("balancer", mode=0o644)

        assert (
            "tls_key",
            f"{key}: everybody can read this secret: chmod o= {key}",
        ) == self.problem(tls_cert=cert, tls_key=key, tls_client_ca=authority.ca)

    @pytest.mark.parametrize(
        "content", ["", "short", "two\nlines of a token", "ünicode-token-long"]
    )
    def test_a_token_that_is_none(self, token_file, content):
        token_file.write_text(content)

        assert "token_file" == self.problem(token_file=token_file)[0]

    @pytest.mark.parametrize(
        ("given", "key", "text"),
        [
            (("tls_cert",), "tls_key", "go together"),
            (("tls_cert", "tls_key"), "tls_client_ca", "go together"),
            (("tls_cert", "tls_key", "tls_client_ca", "token_file"), "token_file", "not beside"),
        ],
    )
    def test_settings_that_do_not_go_together(self, tls, token_file, given, key, text):
        every = tls | {"token_file": token_file}
        with pytest.raises(ValueError, match=text) as caught:
            Options(**{name: every[name] for name in given})

        assert key in {error["ctx"]["error"].path[0] for error in caught.value.errors()}


KEYS = ("tls_cert", "tls_key", "tls_client_ca", "token_file")
