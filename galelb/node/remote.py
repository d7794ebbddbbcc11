# SPDX-License-Identifier: Apache-2.0
"""Speak to the API of a running agent; imports little, because commands should answer at once."""

from __future__ import annotations

from pathlib import Path

from galelb.client import ApiClient, Kind, read_token
from galelb.config.toml_file import find_config, read_toml
from galelb.errors import ConfigError

__all__ = ["AGENT", "agent_socket", "open_agent"]

DEFAULT_STATE_FILE = Path("/run/galelb/node.json")  # of NodeSettings; a test compares

AGENT = Kind(
    name="node agent",
    start="start one with `galelb node`, or name another with --config FILE or --api URL",
    restart="(balancers take the node out of service); `galelb node` starts it again",
    port="[api] port in node.toml",
)


def open_agent(
    api: str | None = None, *, config: Path | None = None, token_file: Path | None = None
) -> ApiClient:
    """Return a client for `api` (http://HOST:PORT, HOST:PORT or unix:PATH), else for this machine.

    The caller closes it. Raises ApiError or ConfigError.
    """
    token = None if token_file is None else read_token(token_file)
    if api is None:
        return ApiClient(agent_socket(config), token=token, kind=AGENT)
    if api.startswith("unix:"):
        return ApiClient(Path(api.removeprefix("unix:")), token=token, kind=AGENT)
    return ApiClient(api if "://" in api else f"http://{api}", token=token, kind=AGENT)


def agent_socket(config: Path | None = None) -> Path:
    """Return the socket of the agent of a node.toml; only what says so is looked at.

    A machine without any node.toml means the default. Raises ConfigError.
    """
    try:
        path = find_config("node.toml", config)
    except ConfigError:
        return DEFAULT_STATE_FILE.with_suffix(".sock")
    data = read_toml(path).data
    for section, key in (("api", "socket"), ("node", "state_file")):
        inner = data.get(section, {})
        value = inner.get(key, "") if isinstance(inner, dict) else None
        if not isinstance(value, str):
            text = f"[{section}] is not usable; `galelb check --node` says why"
            raise ConfigError([f"{path}: {text}"])
        if value:
            return Path(value) if key == "socket" else Path(value).with_suffix(".sock")
    return DEFAULT_STATE_FILE.with_suffix(".sock")
