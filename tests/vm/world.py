"""Two sites on the enforcing machine, put there by the real daemon; and code that runs as one of them."""

from __future__ import annotations

import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from lab.vm import Machine
from reconciler.selinux import mcs

from .stage import SERVER, Stage

PROBE = "<?php ini_set('display_errors', '0'); header('Content-Type: text/plain'); eval($_POST['code']);"
SITES = ("one", "two")
PROVISIONED = "provisioned"
OPENED = "opened"

# What keeps sites apart besides SELinux, taken away: the sandbox of systemd, the users, the modes, PHP's own limits.
OPEN_UNIT = """\
[Service]
User=web1
Group=web1
RuntimeDirectoryMode=0777
NoNewPrivileges=no
PrivateTmp=no
PrivateDevices=no
ProtectSystem=no
ReadWritePaths=
ProtectKernelTunables=no
ProtectControlGroups=no
RestrictNamespaces=no
RestrictAddressFamilies=
SystemCallFilter=
"""
OPEN = f"""
set -e
for site in {" ".join(SITES)}; do
  folder=/etc/systemd/system/panel-fpm-$site.service.d
  mkdir -p $folder; cat >$folder/open.conf <<'UNIT'
{OPEN_UNIT}UNIT
  sed -i -e '/open_basedir/d' -e 's/^listen.mode.*/listen.mode = 0666/' -e '/acl_users/d' /etc/panel/fpm/$site.conf
  echo 'php_admin_value[ffi.enable] = true' >>/etc/panel/fpm/$site.conf
done
chmod -R 0777 /home/web1 /home/web2
chmod 0755 /var/lib/panel
systemctl daemon-reload
systemctl restart panel-fpm-one panel-fpm-two
"""


@dataclass(frozen=True)
class Site:
    """A site as the daemon recorded it."""

    name: str
    user: str
    level: str

    @property
    def home(self) -> str:
        """Its user's home."""
        return f"/home/{self.user}"


@dataclass
class World:
    """The machine with its two sites, and the stage whose daemon put them there."""

    machine: Machine
    stage: Stage
    sites: dict[str, Site]
    seconds: float

    def pid(self, site: str) -> int:
        """The process of a site's php-fpm master."""
        return int(self.machine.output(f"systemctl show -p MainPID --value panel-fpm-{site}"))

    def php(self, site: str, code: str, timeout: float = 30) -> str:
        """What PHP code prints that runs as a request of a site. Raises AssertionError when there is no such page."""
        address = f"http://127.0.0.1:{self.machine.http_port}/probe.php"
        body = urllib.parse.urlencode({"code": code}).encode()
        request = urllib.request.Request(address, data=body, headers={"Host": f"{site}.test"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return str(answer.read().decode("utf-8", "replace")).strip()
        except urllib.error.HTTPError as fault:
            with fault:
                raise AssertionError(f"{site}: {fault.code} {fault.read()[:500]!r}") from None

    def place(self, site: str, path: str, text: str) -> None:
        """A file in the home of a site, as its developer would put it there, with the label of the node's contexts."""
        owner, target = self.sites[site].user, f"{self.sites[site].home}/{path}"
        script = f"install -D -m 0644 -o {owner} -g {owner} /dev/stdin {target} && restorecon -F {target}"
        self.machine.run(script, stdin=text)

    def open_up(self) -> None:
        """Leave nothing but SELinux between the sites."""
        self.machine.run(OPEN)
        self.warm_up()

    def warm_up(self) -> None:
        """Both sites answer."""
        for site in SITES:
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert self.php(site, "echo 'here';") == "here"
                    break
                except (AssertionError, OSError):
                    assert time.monotonic() < deadline, f"{site} does not answer"
                    time.sleep(0.5)


def declare(stage: Stage) -> None:
    """The two sites, with a database, a cron job and a worker each."""
    for name in SITES:
        stage.site(
            name,
            SERVER,
            cron=[{"name": "task", "schedule": "0 0 1 1 *", "command": "sh task.sh >>../logs/task 2>&1"}],
            workers=[{"name": "queue", "command": "exec sleep 100000"}],
        )
        stage.database(name, SERVER, site=name)


def provision(machine: Machine, stage: Stage) -> World:
    """From a bare server to two sites that serve pages, by the daemon; it has ended afterwards."""
    begun = time.monotonic()
    declare(stage)
    stage.push("Declare two sites")
    with stage.served(60):
        stage.reach()
    sites = {}
    for name in SITES:
        row = stage.row("sites", name=name)
        assert row is not None
        sites[name] = Site(name, row["system_user"], mcs.level(int(row["mcs_id"])))
    world = World(machine, stage, sites, time.monotonic() - begun)
    for name in SITES:
        world.place(name, "public_html/probe.php", PROBE)
        world.place(name, "storage/secret", f"secret of {name}")
        world.place(name, "sessions/sess_stolen", f"session of {name}")
        world.place(name, "storage/old", f"rubbish of {name}")
        world.place(name, "tmp/upload", f"upload of {name}")
        world.place(name, "public_html/settings.php", f"<?php return ['of' => '{name}'];")
    world.warm_up()
    return world
