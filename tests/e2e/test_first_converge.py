"""From a freshly installed server to pages that PHP serves from its database, by one apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab

from .harness import ROOT, Stage, boot, fetch, upload

PAGE = (ROOT / "demo/page.php").read_text()
FAMILIES = {
    "el9": ("mariadb", "wordpress", ""),
    "debian12": ("postgresql", "laravel", "public"),
}


@pytest.mark.parametrize("image", FAMILIES)
def test_one_apply_leads_from_a_bare_server_to_served_pages(lab: Lab, tmp_path: Path, image: str) -> None:
    engine, app_type, folder = FAMILIES[image]
    node = boot(lab, fresh=image)["fresh"]
    try:
        stage = Stage.build(tmp_path)
        stage.enroll("fresh", node)
        stage.fleet.change("Server", "fresh", databaseEngines=[engine], software={"php": ["8.2"]})
        stage.site("shop", "fresh", appType=app_type, env={"APP_MODE": "live"})
        stage.site("plain", "fresh")
        stage.database("shop", "fresh", site="shop", engine=engine)
        commit = stage.fleet.commit()
        assert stage.status() == {}
        assert stage.planned() == {
            address: ["create"]
            for address in (
                "User/ada",
                "SSHKey/fleet",
                "Server/fresh",
                "Database/shop",
                "Site/plain",
                "Site/shop",
            )
        }
        done = stage.apply()
        assert "Resources: 6 added, 0 changed, 0 destroyed." in done.out
        told = [line for line in done.out.splitlines() if "Creation complete" in line]
        assert len(told) == 6

        user = stage.user("shop")
        public = "public_html" + (f"/{folder}" if folder else "")
        modes = node.output(f"cd /home/{user} && stat -c '%a %U %G %n' public_html storage .env").splitlines()
        assert modes == [
            f"755 {user} {user} public_html",
            f"755 {user} {user} storage",
            f"600 {user} {user} .env",
        ]
        assert node.output(f"getent passwd {user} | cut -d: -f6,7") in (
            f"/home/{user}:/sbin/nologin",
            f"/home/{user}:/usr/sbin/nologin",
        )
        assert node.output("systemctl show -P User panel-fpm-shop.service") == user
        assert (
            node.output("systemctl is-active panel-fpm-shop.service panel-fpm-plain.service nginx").split()
            == ["active"] * 3
        )
        upload(node, user, PAGE, public)
        status, page = fetch(node, "shop.test")
        assert (
            status,
            f"as {user}" in page,
            f"visit 1 in {'mysql' if engine == 'mariadb' else 'pgsql'}" in page,
        ) == (
            200,
            True,
            True,
        ), page
        assert "This site is ready" in fetch(node, "plain.test")[1]

        found = stage.status()
        assert {address: one["state"] for address, one in found.items()} == {
            "Server/fresh": "active",
            "Site/plain": "active",
            "Site/shop": "active",
            "Database/shop": "active",
            "SSHKey/fleet": None,
            "User/ada": None,
        }
        assert {one["ready"] for one in found.values()} == {"True"}
        assert {one["revision"] for one in found.values()} == {commit}
        assert stage.count("software_installations", "status = 'installed' AND action = 'install'") == 3
        assert stage.count("software_installations") == 3
        assert stage.count("revisions", f"status = 'applied' AND [commit] = '{commit}'") == 1
        assert {d["status"] for d in stage.deployments()} == {"success"}
        assert {d["actor"] for d in stage.deployments()} == {"Ada L."}

        second = stage.apply()
        assert "No changes. Your infrastructure matches the configuration." in second.out
        assert len(stage.deployments()) == 6
    finally:
        node.remove()
