"""What the kept steps and files of a node tell of its Server, and of the people who log in there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.blueprint import selinux
from reconciler.blueprint.host import PANEL_USER
from reconciler.blueprint.tls import DEPLOY, TRUST
from reconciler.desired import relay
from reconciler.desired.kinds import Kind
from reconciler.desired.kinds.tls import LETS_ENCRYPT
from reconciler.importing.draft import Draft, Note
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import Inventory, KeptSection, KeptStep
from reconciler.platforms import Platform
from reconciler.selinux import rules

_WEB = ((80, "tcp"), (443, "tcp"))
_GIB, _MIB = 1024**3, 1024**2
_SSH_PORT = 22
_NFT = re.compile(r"\s*(?:ip6? saddr (\S+) )?(tcp|udp) dport ([0-9]+) accept\Z")
_ZONE = re.compile(
    r'\s*(?:<rule family="ipv[46]"><source address="([^"]+)"/>)?<port port="([0-9]+)" protocol="(tcp|udp)"/>'
)
_DROP_IN = "/etc/ssh/sshd_config.d/01-panel.conf"
_SUDOERS = "/etc/sudoers.d/panel-logins"
_UPDATES = {
    "apt": "/etc/apt/apt.conf.d/52panel-updates",
    "dnf": "/etc/panel/dnf-automatic.conf",
}


@dataclass
class Host:
    """Fields of a Server's spec, the Users of its logins, and what is to be said."""

    spec: dict[str, Json] = field(default_factory=dict)
    users: list[Draft] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def read(
    head: Draft, found: Inventory, kept: KeptSection, platform: Platform, remote: Sequence[tuple[int, str]]
) -> Host:
    """The fields that come from steps; `head` is the Server's draft with its port. `remote`: ports and networks that
    databases open by themselves."""
    about = head.address
    steps = {step.key: step for step in kept.steps}
    files = found.managed.files
    made = Host(spec=_software(steps, platform))
    if (acme := _acme(found, files)) is not None:
        made.spec["acme"] = acme
    elif f"file:{DEPLOY}" in steps:
        told = "it has an account at a CA, whose e-mail address is not on the node, as no site has a certificate of it: write spec.acme"
        made.notes.append(Note(about, told))
    if (zone := _value(steps, "timezone:node", "zone")) is not None:
        made.spec["timezone"] = zone
    if isinstance(size := _value(steps, "swap:node", "size"), int):
        made.spec["swap"] = f"{size // _GIB}G" if size % _GIB == 0 else f"{size // _MIB}M"
    if (updates := _updates(steps, files, platform)) is not None:
        made.spec["updates"] = updates
    if "file:/etc/fail2ban/jail.d/panel.local" in steps:
        made.spec["fail2ban"] = True
    ssh = _ssh(steps, files)
    if ssh:
        made.spec["ssh"] = ssh
    _logins(steps, files, made)
    if "firewall:node" in steps:
        ports = ssh.get("ports") or [head.spec.get("port", _SSH_PORT)]
        listening = [port for port in ports if isinstance(port, int)] if isinstance(ports, list) else []
        made.spec["firewall"] = _firewall(files, remote, listening)
    return made


def switches(kept: KeptSection, files: Mapping[str, str]) -> dict[str, Json]:
    """`selinux.booleans` and `selinux.rules`, less what is on anyway and what the sites' applications ask for."""
    spec: dict[str, Json] = {}
    step = next((one for one in kept.steps if one.key == "selinux_booleans:node"), None)
    listed = step.values.get("booleans") if step is not None else None
    if isinstance(listed, Mapping):
        usual = dict.fromkeys(selinux.BOOLEANS, True)
        given = {k: v for k, v in listed.items() if k != relay.BOOLEAN and usual.get(k) != v}
        if given:
            spec["booleans"] = given
    source = files.get(f"{selinux.FOLDER}/{rules.LOCAL}.te", "")
    lines: list[Json] = [
        line for line in source.splitlines() if line.startswith(("allow ", "dontaudit ")) and line[-1:] == ";"
    ]
    if lines:
        spec["rules"] = lines
    return spec


def _value(steps: Mapping[str, KeptStep], key: str, name: str) -> Json:
    return steps[key].values.get(name) if key in steps else None


def _software(steps: Mapping[str, KeptStep], platform: Platform) -> dict[str, Json]:
    versions = [v for v in platform.php_versions if f"package:{platform.php.packages_of(v)[0]}" in steps]
    engines = [("mariadb", platform.mariadb.unit), ("postgresql", platform.postgresql.unit)]
    software: dict[str, Json] = {"php": list(versions)}
    if "directory:/etc/panel/redis" in steps:
        software["redis"] = True
    spec: dict[str, Json] = {
        "databaseEngines": [engine for engine, unit in engines if f"unit:{unit}" in steps],
        "software": software,
    }
    if "package:caddy" in steps and "package:nginx" not in steps:
        spec["webServer"] = "caddy"
    if (name := _value(steps, "hostname:node", "name")) is not None:
        spec["hostname"] = name
    return spec


def _acme(found: Inventory, files: Mapping[str, str]) -> dict[str, Json] | None:
    """The account, as the certificates of sites were asked for with it."""
    for section in found.managed.sections:
        for step in section.steps:
            if step.key.startswith("certificate:") and step.values.get("issuer") == "acme":
                spec: dict[str, Json] = {"email": step.values.get("email")}
                if step.values.get("directory") != LETS_ENCRYPT:
                    spec["directory"] = step.values.get("directory")
                if TRUST in files:
                    spec["trust"] = files[TRUST]
                return spec
    return None


def _updates(steps: Mapping[str, KeptStep], files: Mapping[str, str], platform: Platform) -> str | None:
    timer = f"unit:{platform.host.update_timer}"
    text = next((files[path] for path in _UPDATES.values() if path in files), "")
    if not text:
        return "off" if timer in steps and _value(steps, timer, "active") is False else None
    if 'Periodic::Unattended-Upgrade "0"' in text:
        return "off"
    security = "upgrade_type = security" in text or "Debian-Security" in text
    return "security" if security else "all"


def _ssh(steps: Mapping[str, KeptStep], files: Mapping[str, str]) -> dict[str, Json]:
    if "sshd:node" not in steps:
        return {}
    logins = {key.partition(":")[2] for key in steps if key.startswith("user:")}
    spec: dict[str, Json] = {}
    ports: list[Json] = []
    for line in files.get(_DROP_IN, "").splitlines():
        match line.split():
            case ["Port", number]:
                ports.append(int(number))
            case ["PasswordAuthentication", word]:
                spec["passwordAuthentication"] = word == "yes"
            case ["PermitRootLogin", word]:
                spec["permitRootLogin"] = word != "no"
            case ["AllowUsers", *users]:
                spec["allowUsers"] = [user for user in users if user != PANEL_USER and user not in logins]
            case _:
                pass
    return spec | ({"ports": ports} if ports else {})


def _logins(steps: Mapping[str, KeptStep], files: Mapping[str, str], made: Host) -> None:
    trusted = {line.split()[0] for line in files.get(_SUDOERS, "").splitlines() if line[:1] not in ("", "#")}
    logins: list[Json] = []
    for key in steps:
        name = key.removeprefix("user:")
        if name == key:
            continue
        logins.append({"user": name, "sudo": True} if name in trusted else {"user": name})
        keys = files.get(f"/home/{name}/.ssh/authorized_keys", "").splitlines()
        spec: dict[str, Json] = {"email": f"{name}@email.invalid", "sshKeys": list(keys)}
        head = "The e-mail address is not on the node: write the one of this person's commits"
        made.users.append(Draft(Kind.USER, name, spec, comments=[head]))
        told = (
            "read back from its account on the node, whose keys it has; its e-mail address is to be written"
        )
        made.notes.append(Note(f"User/{name}", told))
    if logins:
        made.spec["logins"] = logins


def _firewall(
    files: Mapping[str, str], remote: Sequence[tuple[int, str]], ports: Sequence[int]
) -> dict[str, Json]:
    """The field `firewall`. What opens sshd's `ports` is `sshFrom`; a service by name comes back as its ports."""
    found: dict[tuple[int, str], set[str]] = {}
    text = files.get("/etc/panel/firewall.nft") or files.get("/etc/firewalld/zones/panel.xml") or ""
    for line in text.splitlines():
        if match := _NFT.match(line):
            found.setdefault((int(match[3]), match[2]), set()).add(match[1] or "")
        elif match := _ZONE.match(line):
            found.setdefault((int(match[2]), match[3]), set()).add(match[1] or "")
    for port, source in remote:
        found.get((port, "tcp"), set()).discard(source)
    spec: dict[str, Json] = {"mode": "managed"}
    reached = [found.pop((port, "tcp"), set()) for port in ports]
    common = set.intersection(*reached) if reached else set()
    if common and "" not in common:
        spec["sshFrom"] = sorted(common)
    found |= {(port, "tcp"): sources - common for port, sources in zip(ports, reached, strict=True)}
    allow: list[Json] = []
    for (port, protocol), sources in sorted(found.items()):
        head: dict[str, Json] = {"port": port} if protocol == "tcp" else {"port": port, "protocol": protocol}
        if "" in sources and (port, protocol) not in _WEB:
            allow.append(head)
        if listed := sorted(sources - {""}):
            allow.append({**head, "from": list(listed)})
    return {**spec, "allow": allow} if allow else spec
