"""A second caddy on ports of its own that gets every new connection while ports 80 and 443 change hands.

A table of nftables sends new connections to it; those of before stay where they are (nft(8): a nat chain sees the first
packet of a connection only). The table is of the bridge's unit: it goes when the bridge ends, however that comes about, and
neither outlives a boot. When it is no longer needed for new connections its rules are passed by, not taken out: without one
that redirects, the kernel stops to translate for the connections that are still open (nf_ct_netns_get).

Each change tracks its connections in a zone of its own. What the kernel keeps of an earlier one (a closed connection for two
minutes, one that was open when the table went for five days) would else be found again when a visitor's next connection is
from the same port: it would be led to a port where nobody listens any more, or its answer sent from another one.
"""

import http.client
import json
import os
import socket
import time
from typing import Any, Dict, List, Optional

from . import atomic, places, process, selinux
from .faults import StepFault
from .steps import units

UNIT = "panel-handover.service"
_UNIT_FILE = "/run/systemd/system/" + UNIT
CONFIG = "/run/panel/handover.json"
_ADMIN = "/run/caddy/admin.sock"
_TABLE = "panel_handover"
_CHAINS = ("incoming", "local")
_CADDYFILE = "/etc/caddy/Caddyfile"
_SETTLE_SECONDS = 0.3
"""Until connections that were being made when a rule changed have been accepted."""
_DRAIN_SECONDS = 60

# the domain of web servers in selinux/panel.te
_CONTEXT = "SELinuxContext=system_u:system_r:laravel_nginx_t:s0\n"
_UNIT_TEXT = """[Unit]
Description=Answers while another web server takes over
[Service]
Type=notify
User=caddy
Group=caddy
{context}StandardInput=file:{config}
ExecStart=/usr/bin/caddy run --config -
ExecStopPost=-+/bin/sleep 1
ExecStopPost=-+/usr/sbin/nft delete table inet {table}
TimeoutStopSec={drain}
LimitNOFILE=1048576
PrivateTmp=true
ProtectSystem=full
"""


def exists() -> bool:
    """True when one is up, or an interrupted apply has left one."""
    return os.path.exists(places.real(_UNIT_FILE))


class _Unix(http.client.HTTPConnection):
    """HTTP over the socket of caddy's administration."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(places.real(_ADMIN))


def running_config() -> Dict[str, Any]:
    """What the caddy that runs is serving, whatever its files say by now. Raises StepFault."""
    link = _Unix("localhost")
    try:
        link.request("GET", "/config/", headers={"Host": ""})  # what caddy expects on a socket of this kind
        answer = link.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise StepFault("caddy does not tell what it serves: {}".format(answer.status))
        return _object(body.decode("utf-8"))
    except (OSError, http.client.HTTPException) as error:
        raise StepFault("caddy does not tell what it serves: {}".format(error)) from None
    finally:
        link.close()


def written_config() -> Dict[str, Any]:
    """What caddy is to serve by its files. Raises StepFault."""
    argv = ["caddy", "adapt", "--config", places.real(_CADDYFILE), "--adapter", "caddyfile"]
    done = process.run(process.as_user("caddy", argv), timeout=60)
    if not done.ok():
        raise StepFault(done.reason("caddy adapt"))
    return _object(done.out)


def _object(text: str) -> Dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise StepFault("caddy's configuration cannot be read")
    return value


def raise_up(config: Dict[str, Any]) -> None:
    """Start the bridge with what caddy serves, then send every new connection there. Raises StepFault, OSError."""
    ports = _free_ports(2)
    moved = _on_ports(config, {80: ports[0], 443: ports[1]})
    atomic.save_json(CONFIG, {"ports": ports, "zone": 1 + int(time.time()) % 65535, **moved})
    _write_unit(moved)
    message = units.daemon_reload() or units.control("start", UNIT)
    if message:
        raise StepFault("no second web server can be started for the change: {}".format(message))


def _write_unit(config: Dict[str, Any]) -> None:
    atomic.save_json(CONFIG + ".caddy", config)
    os.makedirs(os.path.dirname(places.real(_UNIT_FILE)), 0o755, exist_ok=True)
    confined = selinux.enabled() and selinux.installed_module("panel")
    text = _UNIT_TEXT.format(
        context=_CONTEXT if confined else "",
        config=places.real(CONFIG + ".caddy"),
        table=_TABLE,
        drain=_DRAIN_SECONDS,
    )
    with open(places.real(_UNIT_FILE), "w", encoding="utf-8") as target:
        target.write(text)


def _on_ports(config: Dict[str, Any], ports: Dict[int, int]) -> Dict[str, Any]:
    """The same configuration on other ports and without administration. Other listeners are left out."""
    moved: Dict[str, Any] = json.loads(json.dumps(config))
    moved["admin"] = {"disabled": True}
    app = moved.get("apps", {}).get("http", {})
    app["http_port"], app["https_port"] = ports[80], ports[443]
    servers: Dict[str, Any] = app.get("servers", {})
    for name in list(servers):
        listen = [_moved(address, ports) for address in servers[name].get("listen", [])]
        servers[name]["listen"] = [address for address in listen if address]
        if not servers[name]["listen"]:
            del servers[name]
    return moved


def _moved(address: str, ports: Dict[int, int]) -> Optional[str]:
    host, _, port = address.rpartition(":")
    return "{}:{}".format(host, ports[int(port)]) if port.isdigit() and int(port) in ports else None


def _free_ports(count: int) -> List[int]:
    held = [socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) for _ in range(count)]
    try:
        for one in held:
            one.bind(("", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def redirect() -> None:
    """Send new connections to the bridge. Raises StepFault."""
    kept = atomic.load_json(CONFIG)
    ports = kept.get("ports") if isinstance(kept, dict) else None
    if not isinstance(ports, list):
        raise StepFault("the ports of {} are not known any more".format(UNIT))
    _nft(_table(ports, int(kept.get("zone", 1))))
    time.sleep(_SETTLE_SECONDS)


def _table(ports: List[int], zone: int) -> str:
    """The rules, instead of those that are there. A connection's zone must be known before it is tracked, at priority -200."""
    rules = "\n".join(
        "tcp flags & (fin|syn|rst|ack) == syn tcp dport {} redirect to :{}".format(port, own)
        for port, own in zip((80, 443), ports)  # noqa: B905 (Python 3.6)
    )
    local = "\n".join('oifname "lo" ' + rule for rule in rules.splitlines())
    hook = "chain {} {{\ntype nat hook {} priority -110; policy accept;\n{}\n}}"
    chains = [hook.format(_CHAINS[0], "prerouting", rules), hook.format(_CHAINS[1], "output", local)]
    coming = "tcp dport {{ 80, 443 }} ct zone set {}".format(zone)
    going = "tcp sport {{ 80, 443, {}, {} }} ct zone set {}".format(ports[0], ports[1], zone)
    early = "chain {} {{\ntype filter hook {} priority -300; policy accept;\n{}\n}}"
    chains.append(early.format("zone_incoming", "prerouting", coming))
    chains.append(early.format("zone_local", "output", 'oifname "lo" {}\n{}'.format(coming, going)))
    return "table inet {0} {{}}\ndelete table inet {0}\ntable inet {0} {{\n{1}\n}}\n".format(
        _TABLE, "\n".join(chains)
    )


def release() -> None:
    """Send new connections to the ports as they are; end the bridge when it has answered what it has. Raises StepFault."""
    if not exists():
        return
    if process.run(["nft", "list", "table", "inet", _TABLE], timeout=20).ok():
        # what follows is not reached any more, but while it is there the kernel translates for the connections it has
        _nft("".join("insert rule inet {} {} accept\n".format(_TABLE, chain) for chain in _CHAINS))
        time.sleep(_SETTLE_SECONDS)
    units.control("stop", UNIT)
    process.run(["nft", "delete", "table", "inet", _TABLE], timeout=20)  # if the bridge had not come up
    units.control("reset-failed", UNIT)
    for path in (_UNIT_FILE, CONFIG, CONFIG + ".caddy"):
        atomic.forget(path)
    units.daemon_reload()


def _nft(script: str) -> None:
    done = process.run(["nft", "-f", "-"], stdin=script.encode("ascii"), timeout=20)
    if not done.ok():
        raise StepFault("new connections cannot be sent elsewhere: {}".format(done.reason("nft")))
