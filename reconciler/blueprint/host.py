"""The host beneath a server: clock, swap, updates, people's accounts, fail2ban, and last what could lock us out."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.blueprint import firewall, selinux, steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.templates import Templates
from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind, Server, User
from reconciler.kit.canonical import Json
from reconciler.platforms import Platform, Repository

LOGIN_COMMENT = "Reconciler login"
"""The comment by which the agent knows an account that is ours; any other account is left alone."""
PANEL_USER = "panel"
_SSH_PORT = 22
"""The only port that every policy gives to sshd."""
_SUDOERS = "/etc/sudoers.d/panel-logins"
_JAIL = "/etc/fail2ban/jail.d/panel.local"
_DNF = "/etc/systemd/system/dnf-automatic.service.d"
_UNITS = {"M": 1024**2, "G": 1024**3}


def repositories(server: Server, platform: Platform) -> tuple[Repository, ...]:
    """Repositories beyond the distribution's that the host's packages come from."""
    if not (server.spec.fail2ban and platform.host.fail2ban_epel):
        return ()
    return tuple(found for found in platform.php_repositories if found.package == "epel-release")


def packages(server: Server, platform: Platform) -> tuple[str, ...]:
    """What is installed for the host."""
    spec, host = server.spec, platform.host
    names: list[str] = []
    if spec.firewall.mode == "managed":
        names += host.firewall_packages
    if spec.updates in ("security", "all"):
        names += host.update_packages
    if spec.fail2ban:
        names += host.fail2ban_packages
    return tuple(names)


def base(server: Server, fleet: Fleet, platform: Platform, templates: Templates) -> Iterator[Step]:
    """All steps of the host. Raises ValueError for a login whose User the fleet has not."""
    spec = server.spec
    if spec.timezone is not None:
        yield Step("timezone", "node", {"zone": spec.timezone})
    if spec.swap is not None:
        yield Step("swap", "node", {"size": int(spec.swap[:-1]) * _UNITS[spec.swap[-1]]})
    if spec.updates is not None:
        yield from _updates(spec.updates, platform, templates)
    yield from _logins(server, fleet)
    if spec.fail2ban:
        values = {"ports": ssh_ports(server), "unit": platform.host.sshd_unit}
        yield steps.file(_JAIL, Body.of(templates.render("fail2ban/panel.local.j2", values)))
        yield steps.unit("fail2ban.service", restart_on=(f"file:{_JAIL}",))
    if spec.firewall.mode == "managed":
        yield from firewall.base(server, fleet, platform, templates, ssh_ports(server))
    yield from _sshd(server, platform, templates)


def ssh_ports(server: Server) -> tuple[int, ...]:
    """The ports that sshd is taken to listen on."""
    return server.spec.ssh.ports or (server.spec.port,)


def _updates(what: str, platform: Platform, templates: Templates) -> Iterator[Step]:
    values = {"what": what}
    if platform.host.updates == "unattended-upgrades":
        body = Body.of(templates.render("updates/52panel-updates.j2", values))
        yield steps.file("/etc/apt/apt.conf.d/52panel-updates", body)
        return
    if what != "off":
        body = Body.of(templates.render("updates/dnf-automatic.conf.j2", values))
        yield steps.file("/etc/panel/dnf-automatic.conf", body)
        yield steps.directory(_DNF)
        body = Body.of(templates.render("updates/dnf-automatic.service.j2", {}))
        yield steps.file(f"{_DNF}/panel-settings.conf", body)
    yield steps.unit(platform.host.update_timer, running=what != "off")


def _logins(server: Server, fleet: Fleet) -> Iterator[Step]:
    trusted = []
    for login in sorted(server.spec.logins, key=lambda found: found.user):
        person = fleet.get(Kind.USER, login.user)
        if not isinstance(person, User):
            raise ValueError(f"{server.address}: there is no User/{login.user}")  # noqa: TRY004 - a value is wrong
        name = login.user
        home = f"/home/{name}"
        yield steps.login(name, home=home, comment=LOGIN_COMMENT)
        yield steps.directory(f"{home}/.ssh", owner=name, group=name, mode="0700")
        keys = "".join(f"{key}\n" for key in person.spec.ssh_keys)
        yield steps.file(f"{home}/.ssh/authorized_keys", Body.of(keys), owner=name, group=name, mode="0600")
        if login.sudo:
            trusted.append(name)
    if trusted:
        lines = "".join(f"{name} ALL=(ALL:ALL) NOPASSWD: ALL\n" for name in trusted)
        body = Body.of(f"# Made by the panel: changes are undone.\n{lines}")
        yield steps.file(_SUDOERS, body, mode="0440", validate={"type": "sudoers"})


def _sshd(server: Server, platform: Platform, templates: Templates) -> Iterator[Step]:
    ssh = server.spec.ssh
    settings: list[tuple[str, str]] = []
    if ssh.password_authentication is not None:
        word = "yes" if ssh.password_authentication else "no"
        settings += [("PasswordAuthentication", word), ("KbdInteractiveAuthentication", word)]
    if ssh.permit_root_login is not None:
        settings.append(("PermitRootLogin", "prohibit-password" if ssh.permit_root_login else "no"))
    users: list[str] = []
    if ssh.allow_users:
        users = sorted({PANEL_USER, *ssh.allow_users, *(login.user for login in server.spec.logins)})
    if not (settings or users or ssh.ports):
        return
    if selinux.in_use(server, platform):
        for port in sorted(set(ssh.ports) - {_SSH_PORT}):
            yield Step("selinux_port", str(port), {"port": port, "label": "ssh_port_t"})
    values = {"ports": ssh.ports, "settings": settings, "users": users}
    body = Body.of(templates.render("ssh/panel.conf.j2", values))
    expect: dict[str, Json] = {word.lower(): [value] for word, value in settings}
    if ssh.ports:
        expect["port"] = [str(port) for port in ssh.ports]
    if users:
        expect["allowusers"] = list(users)
    params: dict[str, Json] = {
        "unit": platform.host.sshd_unit,
        "sha256": body.sha256,
        "size": body.size,
        "expect": expect,
    }
    yield Step("sshd", "node", params, body)
