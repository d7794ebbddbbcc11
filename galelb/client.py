# SPDX-License-Identifier: Apache-2.0
"""Speak to the API of a running balancer; what goes wrong says what to do next."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
import httpx

from galelb.config.toml_file import find_config, read_toml
from galelb.errors import ApiError, ConfigError

__all__ = [
    "BALANCER",
    "ApiClient",
    "Kind",
    "RefusedError",
    "default_socket",
    "open_client",
    "read_token",
]

TIMEOUT_S = 25.0
"""A little more than the server gives itself."""
_CAPTURE_TIMEOUT = httpx.Timeout(TIMEOUT_S, read=90.0)
"""Programs may have to be compiled first; then something comes at least every ten seconds."""
_EVENTS_TIMEOUT = httpx.Timeout(TIMEOUT_S, read=35.0)
"""Something comes at least every ten seconds."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
DEFAULT_DIRECTORY = Path("/run/galelb")
SOCKET_FILE = "api.sock"


@attrs.frozen(kw_only=True)
class Kind:
    """What is spoken to, in messages for people."""

    name: str
    start: str
    """What to do when none runs."""
    restart: str
    """What to know when one has ended."""
    port: str
    """Where it is configured."""


BALANCER = Kind(
    name="balancer",
    start="start one with `galelb run`, or name another with --config FILE or --api URL",
    restart="(packets may still be forwarded); `galelb run` starts it again and takes over",
    port="api_port, 5555 unless configured",
)


class RefusedError(ApiError):
    """The balancer answered, with an error; `code` is the API's word for it."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ApiClient:
    """One connection to one balancer; use it as a context manager, which closes it.

    Every method raises ApiError when the balancer cannot be reached, and RefusedError when it
    says no.
    """

    def __init__(
        self, target: str | Path, *, token: str | None = None, kind: Kind = BALANCER
    ) -> None:
        """`target` is a URL (http://HOST:PORT), or the path of a unix socket."""
        self._target = str(target)
        self._kind = kind
        self._socket = target if isinstance(target, Path) else None
        url = "http://galelb" if isinstance(target, Path) else _checked_url(target)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=TIMEOUT_S,
            transport=httpx.HTTPTransport(uds=str(self._socket) if self._socket else None),
            # A proxy of the environment cannot reach a balancer's private side.
            trust_env=False,
        )

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, resource: str, **params: str | int | None) -> dict[str, Any]:
        """Return GET /v1/<resource> with the parameters that are not None."""
        given = {name: value for name, value in params.items() if value is not None}
        return self._request("GET", resource, params=given)

    def post(self, resource: str) -> dict[str, Any]:
        """Do POST /v1/<resource>, without a body; returns the answer."""
        return self._request("POST", resource)

    def node(self, node: str) -> dict[str, Any]:
        """Return a node, by address or name."""
        return self._request("GET", _node(node))

    def history(self, node: str) -> list[dict[str, Any]]:
        """Return what became of a node, oldest first."""
        return list(self._request("GET", f"{_node(node)}/history")["history"])

    def drain(self, node: str, *, on: bool) -> dict[str, Any]:
        """Drain or undrain a node, by address or name; returns the node."""
        return self._request("POST", f"{_node(node)}/{'drain' if on else 'undrain'}")

    def set_weight(self, node: str, weight: int | None) -> dict[str, Any]:
        """Set a node's weight, None for its own; returns the node."""
        return self._request("PUT", f"{_node(node)}/weight", body={"weight": weight})

    @contextlib.contextmanager
    def capture(self, **params: str | int | bool | None) -> Iterator[Iterator[bytes]]:
        """Start POST /v1/capture; gives the parts of its pcapng as they come.

        Leaving the context ends it. Whoever takes parts may get ApiError, when the balancer ends
        the capture early.
        """
        given = {name: _word(value) for name, value in params.items() if value is not None}
        with (
            self._errors(),
            self._checked().stream(
                "POST", "/v1/capture", params=given, timeout=_CAPTURE_TIMEOUT
            ) as response,
        ):
            if response.status_code != 200:
                self._answer(response.status_code, self._read(response))
                raise ApiError(f"what answers at {self._target} does not capture")
            yield self._parts(response)

    @contextlib.contextmanager
    def events(self, last_id: str | None = None) -> Iterator[Iterator[dict[str, Any]]]:
        """Read GET /v1/events; gives events as they happen, from after `last_id` on.

        They end when the balancer does, or cuts us off. Leaving the context ends it.
        """
        headers = {} if last_id is None else {"last-event-id": last_id}
        with (
            self._errors(),
            self._checked().stream(
                "GET", "/v1/events", headers=headers, timeout=_EVENTS_TIMEOUT
            ) as response,
        ):
            if response.status_code != 200:
                self._answer(response.status_code, self._read(response))
                raise ApiError(f"what answers at {self._target} tells no events")
            yield self._events(response)

    def _events(self, response: httpx.Response) -> Iterator[dict[str, Any]]:
        try:
            for line in response.iter_lines():
                # Each event has one line of data, which says all that the others do.
                if line.startswith("data: "):
                    yield dict(json.loads(line.removeprefix("data: ")))
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return
        except (ValueError, TypeError):
            raise ApiError(f"what {self._target} tells are no events of galelb") from None

    def _parts(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except httpx.RemoteProtocolError:
            raise ApiError(
                f"the {self._kind.name} at {self._target} ended the capture: it stops, or its log "
                "says why"
            ) from None

    def _request(
        self,
        method: str,
        resource: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        content = None if body is None else json.dumps(body)
        with (
            self._errors(),
            self._checked().stream(
                method, f"/v1/{resource}", params=params, content=content
            ) as response,
        ):
            return self._answer(response.status_code, self._read(response))

    def _checked(self) -> httpx.Client:
        if self._socket is not None:
            _check_socket(self._socket, self._kind)
        return self._http

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise ApiError(
                f"the {self._kind.name} at {self._target} did not answer within {TIMEOUT_S:.0f} s"
            ) from error
        except httpx.RequestError as error:
            raise ApiError(_unreachable(self._target, error, self._kind)) from error

    def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > MAX_ANSWER_BYTES:
                raise ApiError(f"the answer of {self._target} is too long")
        return bytes(content)

    def _answer(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(content)
            # /v1/health answers 503 with its own shape.
            error = answer.get("error")
            if error is None:
                return dict(answer)
            message, code = str(error["message"]), str(error["code"])
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise ApiError(
                f"what answers at {self._target} is not galelb's API (HTTP status {status}): "
                f"check the address and port ({self._kind.port})"
            ) from None
        raise RefusedError(message, status=status, code=code)


def open_client(
    api: str | None = None, *, config: Path | None = None, token_file: Path | None = None
) -> ApiClient:
    """Return a client for `api` (http://HOST:PORT, HOST:PORT or unix:PATH), else for this machine.

    Without `api` it is the unix socket of the instance that lb.toml names, or of `default`.
    The caller closes it. Raises ApiError or ConfigError.
    """
    token = None if token_file is None else read_token(token_file)
    if api is None:
        return ApiClient(default_socket(config), token=token)
    if api.startswith("unix:"):
        return ApiClient(Path(api.removeprefix("unix:")), token=token)
    return ApiClient(api if "://" in api else f"http://{api}", token=token)


def default_socket(config: Path | None = None) -> Path:
    """Return the socket of the instance in lb.toml; only its [instance] section is looked at.

    A machine without any lb.toml means the instance `default`. Raises ConfigError.
    """
    try:
        path = find_config("lb.toml", config)
    except ConfigError:
        return DEFAULT_DIRECTORY / "default" / SOCKET_FILE
    instance = read_toml(path).data.get("instance", {})
    instance = instance if isinstance(instance, dict) else {}
    name = instance.get("name", "default")
    run_dir = instance.get("run_dir", str(DEFAULT_DIRECTORY))
    if not (isinstance(name, str) and isinstance(run_dir, str)) or "/" in name:
        raise ConfigError([f"{path}: [instance] is not usable; `galelb check` says why"])
    return Path(run_dir) / name / SOCKET_FILE


def _word(value: str | int | bool) -> str | int:
    return str(value).lower() if isinstance(value, bool) else value


def _node(node: str) -> str:
    return f"nodes/{quote(node, safe='')}"


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and parts.hostname and parts.port != 0
        usable = usable and parts.path in ("", "/") and not parts.query
    except ValueError:
        usable = False
    if not usable:
        raise ApiError(f"{url!r} is not the address of an API: use http://HOST:PORT or unix:/PATH")
    return url


def _check_socket(path: Path, kind: Kind) -> None:
    """Try to connect: httpx reports too tersely why it cannot, and then leaves a socket open."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ApiError(f"no {kind.name} runs here: there is no {path}; {kind.start}") from None
    except OSError as error:
        raise ApiError(f"cannot reach {path}: {error.strerror}; {_HOW_TO_READ}") from error
    if not stat.S_ISSOCK(mode):
        raise ApiError(f"{path} is not a socket: name that of a {kind.name}")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(TIMEOUT_S)
            probe.connect(str(path))
    except OSError as error:
        raise ApiError(_unreachable(str(path), error, kind)) from error


_HOW_TO_READ = "run as root, or read over TCP with --api http://HOST:PORT"


def _unreachable(target: str, error: Exception, kind: Kind) -> str:
    number = _errno_of(error)
    if number in (errno.EACCES, errno.EPERM):
        return f"not allowed to use {target}: {_HOW_TO_READ}"
    if number == errno.ECONNREFUSED:
        return f"no {kind.name} listens at {target}: it has stopped or crashed {kind.restart}"
    return f"cannot reach {target}: {error or type(error).__name__}"


def _errno_of(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def read_token(path: Path) -> str:
    """Return what a file says; raises ApiError when that is no token."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ApiError(f"cannot read the token file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    # A line break in a header would be refused with a message that shows the token.
    if not token or not token.isprintable() or len(token) > 1024:
        raise ApiError(f"{path} holds no token: it should be one line, as in api.token")
    return token
