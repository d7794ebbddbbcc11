# SPDX-License-Identifier: Apache-2.0
"""A group of two balancers and two nodes on machines of their own, and the inventory of them."""

import json
import sys
from pathlib import Path

from galelb.group.key_file import create_keys, write_keys
from tests.machines.group import Machines
from tests.machines.machine import Machine

__all__ = ["BALANCERS", "NODES", "SYSCTLS", "deploy", "write_inventory"]

ROOT = Path(__file__).parents[2]
BALANCERS, NODES = ("lb-0", "lb-1"), ("node-0", "node-1")
SYSCTLS = {"net.ipv4.ip_forward": "1"}
_FIRST_SOURCE = 200
_VIP = "10.77.0.100"
_SSH = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"

# Answers its host's name; connections live on after an answer.
_SERVER = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def do_GET(self):
        body = socket.gethostname().encode() + b"\\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", int(sys.argv[1])), Handler).serve_forever()
"""


def deploy(found: Machines) -> None:
    """Configure machines on which galelb is installed, and start it."""
    key = found.work / "group.key"
    write_keys(key, create_keys(), new=True)
    for name in BALANCERS:
        machine = found[name]
        machine.put(key, "/etc/galelb/group.key", 0o600)
        machine.write("/etc/galelb/lb.toml", _lb_toml(found, machine))
        # What it keeps for itself instead of forwarding it would be answered by itself.
        _serve(machine, 80)
        _start(machine, "galelb")
    for name in NODES:
        found[name].write("/etc/galelb/node.toml", _node_toml(found))
        _serve(found[name], 8080)
        _start(found[name], "galelb-node")


def write_inventory(found: Machines, file: Path) -> Path:
    """Write an inventory of the machines; it is for who is on their network."""

    def hosts(names: tuple[str, ...]) -> dict[str, object]:
        return {"hosts": {name: {"ansible_host": found[name].address} for name in names}}

    common = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(found.key),
        "ansible_ssh_common_args": _SSH,
        "ansible_python_interpreter": sys.executable,
    }
    children = {"lb": hosts(BALANCERS), "node": hosts(NODES)}
    # JSON is YAML, too.
    file.write_text(json.dumps({"all": {"vars": common, "children": children}}))
    return file


def _serve(machine: Machine, port: int) -> None:
    command = ["systemd-run", "--quiet", "--unit=web", "python3", "-c", _SERVER, str(port)]
    machine.run(*command)


def _start(machine: Machine, unit: str) -> None:
    machine.put(ROOT / "systemd", "/etc/systemd/system")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "--no-block", unit)


def _lb_toml(found: Machines, machine: Machine) -> str:
    peers = ", ".join(f'{{ ip = "{found[name].address}" }}' for name in BALANCERS)
    source = found.network.address(_FIRST_SOURCE + machine.number)
    return f"""
[private_interface]
net_interface_private = "eth0"
[public_interface]
net_interface_public = "eth0"
[node_health]
checks_timeout = "2s"
black_list_after_fails = 2
black_list_expiry = "30s"
[load_balancer_quorum]
transport = "sync_gossip"
name = "{machine.name}"
enforce_single_configuration = true
addresses = [ {peers} ]
[announce]
plugin = "announce_arp"
[plugins.sync_gossip]
key_file = "/etc/galelb/group.key"
[plugins.l4_nat]
source_addresses = ["{source}"]
[[services]]
name = "web"
vip = "{_VIP}"
port = 80
target_port = 8080
"""


def _node_toml(found: Machines) -> str:
    balancers = ", ".join(f'{{ ip = "{found[name].address}" }}' for name in BALANCERS)
    return f"""
[load_balancer]
addresses = [ {balancers} ]
[[checks]]
name = "web"
type = "http"
url = "http://127.0.0.1:8080/"
interval = "500ms"
"""
