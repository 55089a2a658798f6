"""Manifests come back from what they were rendered to, for every kind of site that the golden cases have."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import blueprint
from reconciler.agent.steps import firewall, sshd
from reconciler.blueprint.firewall import rules
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Database, Kind, Server, Site, User
from reconciler.desired.kinds.host import Firewall
from reconciler.desired.kinds.selinux import SELinux
from reconciler.desired.kinds.server import Software
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
TEXTS = ("file", "sshd", "firewall")
PLACES = {"sshd": sshd.PATH, **{name: place.path for name, place in firewall.PLACES.items()}}
PLAIN = (
    "wordpress", "laravel", "generic", "static", "proxy", "jobs", "suspended", "answers", "tls", "redis",
)  # fmt: skip


def _imported(
    text: str,
    folder: Path,
    known: Fleet | None = None,
    change: Callable[[Here], None] = lambda _: None,
) -> tuple[Fleet, Import]:
    """What a fleet declares, and what an import makes of a node that has its files and the kept bundle.

    `known` is the fleet that the import has, and `change` what somebody did on the node.
    """
    folder.mkdir(exist_ok=True)
    fleet = fleet_of(text)
    server = only_server(fleet)
    made = blueprint.bundle(
        server, fleet, system_users(fleet), lambda key, field: Secret("x" * passwords.LENGTH)
    )
    program = folder / "panel-ssh-manager"
    program.write_bytes(agentzip.build().data)
    here = Here(folder / "node", program, sys.executable)
    for step in (step for section in made.sections for step in section.steps):
        place = PLACES.get(str(step.params.get("backend", step.type)), step.target)
        if step.type in TEXTS and step.body is not None and step.body.content is not None:
            here.write(place, step.body.content)
        elif step.type == "symlink" and "target" in step.params:
            here.path(step.target).parent.mkdir(parents=True, exist_ok=True)
            here.path(step.target).symlink_to(str(step.params["target"]))
    platform = for_os(server.spec.os.value)
    here.write("/etc/os-release", f"ID={platform.os_id}\nVERSION_ID={platform.os_version}\n")
    here.write("/etc/nginx/nginx.conf", NGINX)
    here.write("/var/lib/panel/bundle.json", canonical.dumps(json.loads(json.dumps(made.to_json()))))
    change(here)
    done = here.call("inventory")
    assert done.returncode == 0, done.stderr
    found = inventory.read(json.loads(done.stdout))
    return fleet, take(
        found, Wish(server.name, server.spec.address, server.spec.port, server.spec.ssh_key), known or Fleet()
    )


def _same(found: Site, declared: Site) -> bool:
    """Whether two sites mean the same: aliases have no order, and `www` has its other name anyway."""
    hosts = {"aliases": ()}
    return set(found.spec.hosts) == set(declared.spec.hosts) and (
        found.spec.model_copy(update=hosts) == declared.spec.model_copy(update=hosts)
    )


@pytest.mark.parametrize(
    "case",
    [
        *(f"{platform}-{what}" for platform in ("debian12", "el9") for what in PLAIN),
        *(f"debian12-caddy-{what}" for what in ("answers", "proxy", "tls", "suspended")),
    ],
)
def test_a_site_comes_back_as_it_was_declared(case: str, tmp_path: Path) -> None:
    fleet, made = _imported((CASES / case / "fleet.yaml").read_text(), tmp_path)
    drafts = {draft.address: draft for draft in made.drafts}
    told = [str(note) for note in made.notes]
    assert made.managed
    assert only_server(fleet).address in made.adopted, told
    for site in fleet.sites():
        assert site.address in drafts, told
        site_told = [line for line in told if line.startswith(f"{site.address}: ")]
        if site.spec.app_type == "proxy" and site.spec.state == "suspended":
            assert any("its upstream is not on the node" in line for line in site_told)
        elif site.spec.env:
            assert any("its .env is not read" in line for line in site_told)
        elif site.spec.tls.mode == "provided":
            assert any("its certificate was provided" in line for line in site_told)
        else:
            assert site.address in made.adopted, (drafts[site.address].spec, told)
            again = fit.parse(drafts[site.address])
            assert isinstance(again, Site)
            if site.spec.state == "suspended":
                assert any("is suspended: " in line for line in site_told)
            else:
                assert _same(again, site)
            assert "suspend" not in drafts[site.address].spec
            mine = system_users(fleet)[Key(Kind.SITE, site.name)]["system_user"]
            assert drafts[site.address].identity["system_user"] == mine
            continue
        # what no step tells: nothing is written over until somebody has written it
        assert site.address not in made.adopted
        assert drafts[site.address].spec["suspend"] is True
    for database in fleet.databases():
        found = fit.parse(drafts[database.address])
        assert isinstance(found, Database)
        # the prefix is in the .env alone
        prefix = {"env_prefix": database.spec.env_prefix}
        assert found.spec.model_copy(update=prefix) == database.spec


@pytest.mark.parametrize(
    "case", ["debian12-host", "el8-host", "el9-host", "debian12-databases", "el9-databases", "el9-server"]
)
def test_a_server_comes_back_as_it_was_declared(case: str, tmp_path: Path) -> None:
    fleet, made = _imported((CASES / case / "fleet.yaml").read_text(), tmp_path)
    declared = only_server(fleet)
    told = [str(note) for note in made.notes]
    assert declared.address in made.adopted, told
    drafts = {draft.address: draft for draft in made.drafts}
    again = fit.parse(drafts[declared.address])
    assert isinstance(again, Server)
    assert set(again.spec.software.php) == set(declared.spec.software.php)
    # a service by name comes back as its ports; so that they are compared as what they open
    aside = {"firewall": Firewall(), "software": Software(), "selinux": SELinux()}
    assert again.spec.model_copy(update=aside) == declared.spec.model_copy(update=aside)
    assert rules(again, fleet, (22,)) == rules(declared, fleet, (22,))
    assert again.spec.firewall.ssh_from == declared.spec.firewall.ssh_from
    for login in declared.spec.logins:
        person, user = fit.parse(drafts[f"User/{login.user}"]), fleet.get(Kind.USER, login.user)
        assert isinstance(person, User)
        assert isinstance(user, User)
        assert person.spec.ssh_keys == user.spec.ssh_keys
        assert person.spec.email.endswith(".invalid")
        assert any(f"User/{login.user}" in line and "e-mail" in line for line in told)


@pytest.mark.parametrize("platform", ["el9", "debian12-caddy"])
def test_a_site_of_a_repository_is_suspended_until_its_address_is_written(
    platform: str, tmp_path: Path
) -> None:
    fleet, made = _imported((CASES / f"{platform}-source" / "fleet.yaml").read_text(), tmp_path)
    told = [str(note) for note in made.notes]
    shop = next(draft for draft in made.drafts if draft.address == "Site/shop")
    assert shop.spec["suspend"] is True
    assert "source" not in shop.spec
    assert shop.address not in made.adopted
    assert any("Site/shop: it is deployed from a git repository" in line for line in told)
    assert not any("does not explain" in line for line in told), told
    comments = "\n".join(shop.comments)
    for words in ("npm ci && npm run build", "php artisan migrate --force", "path: /up", "contains: ok"):
        assert words in comments
    # written by hand, it is known again; the commit is the one that the node serves
    site = fleet.get(Kind.SITE, "shop")
    assert isinstance(site, Site)
    assert site.spec.source is not None
    assert site.spec.source.revision is not None
    followed = site.spec.source.model_copy(update={"revision": None})
    bare = site.model_copy(update={"spec": site.spec.model_copy(update={"source": followed})})
    declared = fit.fleet([bare, *(e.manifest for k, e in fleet.entries.items() if k.name != "shop")])
    _, again = _imported((CASES / f"{platform}-source" / "fleet.yaml").read_text(), tmp_path / "2", declared)
    assert "Site/shop" in again.adopted, [str(note) for note in again.notes]
    known = next(draft for draft in again.known if draft.address == "Site/shop")
    assert isinstance(known.spec["source"], dict)
    assert known.spec["source"]["revision"] == site.spec.source.revision.model_dump()


@pytest.mark.parametrize("platform", ["debian12", "debian12-caddy"])
def test_a_virtual_host_that_was_changed_by_hand_is_named(platform: str, tmp_path: Path) -> None:
    text = (CASES / f"{platform}-answers" / "fleet.yaml").read_text()

    def by_hand(here: Here) -> None:
        for path in (
            *here.path("/etc").glob("nginx/sites-available/docs*"),
            here.path("/etc/panel/caddy/docs.caddy"),
        ):
            if path.exists():
                path.write_text(path.read_text() + "# secret-canary\n")

    _, made = _imported(text, tmp_path, change=by_hand)
    told = "\n".join(str(note) for note in made.notes)
    assert "changed since it was applied; it is not read back" in told
    assert "secret-canary" not in told
    assert "Site/docs" not in made.adopted
    assert "Site/blog" in made.adopted
    assert "Site/docs: " in told


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
