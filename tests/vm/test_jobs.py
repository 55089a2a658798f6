"""Jobs of sites under an enforcing kernel: the units and labels of the blueprints, the module of this repository.

What is put in place here by hand, the agent does on a node; its own way of doing it has other tests.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.vm import Machine
from reconciler import blueprint
from reconciler.blueprint.model import Section, Step
from reconciler.selinux.audit import Denial
from reconciler.selinux.explain import explain
from tests.blueprint import by_hand
from tests.blueprint.fleets import fleet_of, only_server, system_users
from tests.selinux import policy
from tests.vm import denials

WHO = "grep -ao 'system_u[a-z0-9_:,]*' /proc/self/attr/current"
TOOL = r"""printf '#!/bin/sh\necho ran\n' > tool; chmod +x tool; ./tool > ~/storage/tool"""
BUILD = f"""{WHO} > ~/storage/who; pwd > ~/storage/where; seq 3 | sort -r > ~/storage/sorted; cat ~/.env > ~/storage/env
php -r "echo 6*7;" > ~/storage/php; {TOOL}; mkdir -p vendor/a && ln -sf a vendor/b && mv vendor/a vendor/c
echo x > "$(mktemp)"; kill -0 $$; sleep 60 & kill $!; wait; logger done; rm -r vendor; php -r '$s = stream_socket_server("unix://$argv[1]"); echo $s ? "bound" : "not";' ~/storage/app.sock > ~/storage/socket; rm -f ~/storage/app.sock; curl -s http://127.0.0.1/ > ~/storage/page
for port in 3306 22; do php -r "echo @fsockopen('127.0.0.1', $port) ? 'open ' : 'shut ';"; done > ~/storage/ports""".replace(
    "\n", "; "
)
# under another name first, so that nobody reads it half written
BEAT = f"while :; do {WHO} > ~/storage/next; mv ~/storage/next ~/storage/worker; sleep 1; done"
LOOK = "cat /home/web1/.env; ls /home/web1; cat /home/web1/storage/who; echo x > /home/web1/storage/x"
BREAK = (
    "cp /bin/true ~/storage/prog; chmod +x ~/storage/prog; ~/storage/prog && echo ran; su -c id; sudo -n id; crontab -l; "
    "cat /etc/shadow; cat /var/log/audit/audit.log; echo x >> ~/.env; systemctl stop nginx; semodule -l"
)
FLEET = f"""
kind: Server
metadata: {{name: web1}}
spec: {{address: 203.0.113.10, os: debian_12, sshKey: admin, software: {{php: ["8.2"]}}, selinux: {{mode: enforcing}}}}
---
kind: Site
metadata: {{name: blog}}
spec:
  server: web1
  domain: blog.test
  phpVersion: "8.2"
  env: {{WORD: of-the-blog}}
  cron:
    - {{name: build, schedule: "@daily", command: {json.dumps(BUILD)}}}
    - {{name: break, schedule: "@daily", command: {json.dumps(BREAK)}}}
  workers:
    - {{name: queue, command: {json.dumps(BEAT)}}}
---
kind: Site
metadata: {{name: shop}}
spec:
  server: web1
  domain: shop.test
  phpVersion: "8.2"
  cron:
    - {{name: look, schedule: "@daily", command: {json.dumps(LOOK)}}}
"""
STORAGE = "/home/web1/storage"


def _script(section: Section) -> Iterator[str]:
    for step in section.steps:
        if step.type in ("user", "directory", "file", "symlink") and "/fpm/" not in step.target:
            yield from by_hand.lines(step)


def _labels(step: Step) -> Iterator[str]:
    listed = step.params["labels"]
    assert isinstance(listed, list)
    for label in listed:
        assert isinstance(label, dict)
        path = shlex.quote(str(label["pattern"]).replace("(/.*)?", "").replace("\\", ""))
        yield (f"test ! -e {path} || chcon -R -h -u system_u -t {label['type']} -l {label['level']} {path}")


@dataclass(frozen=True)
class Sites:
    """The machine with two sites, `blog` of web1 and `shop` of web2; their levels."""

    machine: Machine
    levels: dict[str, str]

    def start(self, unit: str) -> list[Denial]:
        """Start a unit, whatever comes of it: what was refused to jobs meanwhile."""
        marked = denials.mark(self.machine)
        self.machine.run(f"systemctl start {unit}", check=False, timeout=120)
        found = denials.since(self.machine, marked)
        return [one for one in found if one.source is not None and one.source.type == "laravel_job_t"]

    def heard(self, job: str) -> list[str]:
        """What a cron job said, line by line."""
        return self.machine.output(f"journalctl -t panel-cron-{job} -o cat --no-pager").splitlines()


@pytest.fixture(scope="module")
def sites(running: Machine, tmp_path_factory: pytest.TempPathFactory) -> Sites:
    """All files of the sites are 0777, so that nothing but SELinux keeps them apart."""
    machine, folder = running, tmp_path_factory.mktemp("policy")
    machine.reset()
    package = policy.compiled((policy.SOURCE / "panel.te").read_text(), folder)
    machine.run("base64 -d > /root/panel.pp", stdin=policy.run("base64", str(package), cwd=folder))
    machine.run("semodule -i /root/panel.pp", timeout=300)
    fleet = fleet_of(FLEET)
    levels = {}
    for section in blueprint.sections(only_server(fleet), fleet, system_users(fleet), blueprint.masked)[1:]:
        machine.run("set -e\n" + "\n".join(_script(section)), timeout=120)
        labels = next(step for step in section.steps if step.type == "selinux_labels")
        home = f"/home/{next(step.target for step in section.steps if step.type == 'user')}"
        machine.run(f"set -e; chmod -R 0777 {home}\n" + "\n".join(_labels(labels)))
        levels[section.id.removeprefix("Site/")] = machine.output(f"stat -c %C {home}").split(":", 3)[3]
    machine.run("restorecon -RF /etc/systemd/system && systemctl daemon-reload")
    return Sites(machine, levels)


def test_jobs_do_their_work_in_their_domain_and_level(sites: Sites) -> None:
    machine, level = sites.machine, sites.levels["blog"]
    worker = "panel-worker-blog_queue@1.service"
    assert sites.start(worker) == []
    refused = sites.start("panel-cron-blog_build.service")
    # all but what was asked for in vain
    assert [denials.refusal(one) for one in refused] == [
        ("laravel_job_t", "ssh_port_t", "tcp_socket", "name_connect")
    ]
    machine.run(f"for n in $(seq 100); do test -s {STORAGE}/worker && break; sleep 0.2; done")
    said = {
        name: machine.output(f"cat {STORAGE}/{name}")
        for name in ("who", "worker", "where", "sorted", "env", "php", "tool", "ports", "page", "socket")
    }
    assert said["who"] == said["worker"] == f"system_u:system_r:laravel_job_t:{level}"
    assert said["where"] == "/home/web1/public_html"
    assert said["sorted"].split() == ["3", "2", "1"]
    assert 'WORD="of-the-blog"' in said["env"]
    assert (said["php"], said["tool"], said["ports"]) == ("42", "ran", "open shut")
    assert "nginx" in said["page"]
    assert said["socket"] == "bound"
    for path, kind in (
        (f"{STORAGE}/who", "laravel_app_rw_t"),
        ("/home/web1/public_html/tool", "site_content_t"),
    ):
        assert machine.output(f"stat -c %C {path}").endswith(f":{kind}:{level}")

    before = machine.output(f"systemctl show -P MainPID {worker}")
    machine.run(f"kill -9 {before}")
    machine.run(
        f"for n in $(seq 60); do systemctl is-active -q {worker} && exit; sleep 0.5; done; exit 1",
        timeout=120,
    )
    assert machine.output(f"systemctl show -P MainPID {worker}") not in (before, "0")


def test_a_job_reaches_no_other_site_and_would_without_the_level(sites: Sites) -> None:
    machine = sites.machine
    machine.run(
        f"echo a > {STORAGE}/found; chmod 0777 {STORAGE}/found; chcon -l {sites.levels['blog']} {STORAGE}/found"
    )
    refused = sites.start("panel-cron-shop_look.service")
    assert {explain(one).cause for one in refused} == {"isolation"}
    assert not {"of-the-blog", "found"} & set(" ".join(sites.heard("shop_look")).replace('"', " ").split())
    assert machine.run(f"ls {STORAGE}/x", check=False).returncode != 0

    machine.run("chcon -R -l s0 /home/web1")
    sites.start("panel-cron-shop_look.service")
    assert "of-the-blog" in " ".join(sites.heard("shop_look"))
    assert machine.output(f"cat {STORAGE}/x") == "x"
    machine.run(f"chcon -R -l {sites.levels['blog']} /home/web1")


def test_a_job_becomes_nothing_else(sites: Sites) -> None:
    refused = sites.start("panel-cron-blog_break.service")
    asked_for = {one.target.type for one in refused if one.target is not None}
    assert asked_for >= {"su_exec_t", "sudo_exec_t", "crontab_exec_t", "laravel_app_rw_t", "laravel_env_t"}
    heard = sites.heard("blog_break")
    assert sum("ermission denied" in line for line in heard) >= 6
    assert not any(line.startswith(("ran", "uid=", "root:", "type=AVC")) for line in heard)
    assert sites.machine.output("tail -n 1 /home/web1/.env") != "x"
    assert sites.machine.output("systemctl is-active nginx") == "active"
