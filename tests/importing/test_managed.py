"""Manifests come back from what they were rendered to, for every kind of site that the golden cases have."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from reconciler import blueprint
from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind
from reconciler.importing import Import, Wish, fit, take
from reconciler.kit import canonical
from reconciler.kit.secret import Secret
from reconciler.nodes import agentzip, inventory
from reconciler.platforms import for_os
from reconciler.secrets import passwords
from tests.agent.talking import Here
from tests.blueprint.fleets import fleet_of, only_server, system_users

CASES = Path(__file__).resolve().parents[1] / "cases" / "blueprint"
NGINX = "http { include /etc/nginx/conf.d/*.conf; include /etc/nginx/sites-enabled/*; }\n"
PLAIN = ("wordpress", "laravel", "generic", "static", "proxy", "jobs", "suspended")


def _imported(text: str, folder: Path) -> tuple[Fleet, Import]:
    """What a fleet declares, and what an import makes of a node that has its files and the kept bundle."""
    fleet = fleet_of(text)
    server = only_server(fleet)
    made = blueprint.bundle(
        server, fleet, system_users(fleet), lambda key, field: Secret("x" * passwords.LENGTH)
    )
    program = folder / "panel-ssh-manager"
    program.write_bytes(agentzip.build().data)
    here = Here(folder / "node", program, sys.executable)
    for step in (step for section in made.sections for step in section.steps):
        if step.type == "file" and step.body is not None and step.body.content is not None:
            here.write(step.target, step.body.content)
        elif step.type == "symlink" and "target" in step.params:
            here.path(step.target).parent.mkdir(parents=True, exist_ok=True)
            here.path(step.target).symlink_to(str(step.params["target"]))
    platform = for_os(server.spec.os.value)
    here.write("/etc/os-release", f"ID={platform.os_id}\nVERSION_ID={platform.os_version}\n")
    here.write("/etc/nginx/nginx.conf", NGINX)
    here.write("/var/lib/panel/bundle.json", canonical.dumps(json.loads(json.dumps(made.to_json()))))
    done = here.call("inventory")
    assert done.returncode == 0, done.stderr
    found = inventory.read(json.loads(done.stdout))
    return fleet, take(
        found, Wish(server.name, server.spec.address, server.spec.port, server.spec.ssh_key), Fleet()
    )


@pytest.mark.parametrize("what", PLAIN)
@pytest.mark.parametrize("platform", ["debian12", "el9"])
def test_a_site_comes_back_as_it_was_declared(platform: str, what: str, tmp_path: Path) -> None:
    fleet, made = _imported((CASES / f"{platform}-{what}" / "fleet.yaml").read_text(), tmp_path)
    drafts = {draft.address: draft for draft in made.drafts}
    assert made.managed
    for site in fleet.sites():
        told = [str(note) for note in made.notes]
        assert site.address in drafts, told
        if site.spec.app_type == "proxy" and site.spec.state == "suspended":
            assert any(site.address in line for line in told)  # nothing on the node says what it led to
            continue
        if site.spec.env or site.spec.redirects or site.spec.headers:
            # what no step tells: the report says so, and nothing is written over
            assert site.address not in made.adopted
            assert any(site.address in line for line in told)
            continue
        assert site.address in made.adopted, (drafts[site.address].spec, told)
        again = fit.parse(drafts[site.address])
        assert again is not None
        assert (
            drafts[site.address].identity["system_user"]
            == system_users(fleet)[next(key for key in fleet.entries if key == (Kind.SITE, site.name))][
                "system_user"
            ]
        )
    for database in fleet.databases():
        assert drafts[database.address].spec["site"] == database.spec.site


SECURED = """
kind: Server
metadata: {name: web1}
spec: {address: 203.0.113.10, os: OS, sshKey: admin, software: {php: ["8.2"]}}
---
kind: Site
metadata: {name: shop}
spec: {server: web1, domain: shop.test, www: strip, phpVersion: "8.2", tls: {mode: selfSigned}, limits: {disk: 10G}}
---
kind: Site
metadata: {name: blog}
spec: {server: web1, domain: blog.test, aliases: [b.test], appType: static, tls: {mode: selfSigned}}
"""


@pytest.mark.parametrize("os", ["debian_12", "alma_9"])
def test_a_certificate_of_the_node_and_a_quota_come_back(os: str, tmp_path: Path) -> None:
    fleet, made = _imported(SECURED.replace("OS", os), tmp_path)
    told = [str(note) for note in made.notes]
    assert {site.address for site in fleet.sites()} <= made.adopted, ([d.spec for d in made.drafts], told)
    for draft in made.drafts:
        if draft.kind is Kind.SITE:
            assert fit.parse(draft) == fleet.get(Kind.SITE, draft.name)
