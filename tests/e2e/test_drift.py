"""What people change by hand on nodes: shown, put back, or left alone."""

from __future__ import annotations

import pytest

from lab import faults

from .harness import Stage, fetch

BROKEN = {
    "el": {
        "rm /etc/panel/fpm/{site}.conf": "file:/etc/panel/fpm/{site}.conf",
        "chmod 0644 /home/{user}/.env": "file:/home/{user}/.env",
        "systemctl stop panel-fpm-{site}.service": "unit:panel-fpm-{site}.service",
        "usermod -s /bin/bash {user}": "user:{user}",
        "mysql -e \"REVOKE ALL ON {site}.* FROM '{site}'@'localhost'\"": "mariadb_grant:{site}/{site}",
    },
    "deb": {
        "rm /etc/nginx/sites-enabled/{site}.test.conf": "symlink:/etc/nginx/sites-enabled/{site}.test.conf",
        "chown root /home/{user}/public_html": "directory:/home/{user}/public_html",
        "systemctl disable panel-fpm-{site}.service": "unit:panel-fpm-{site}.service",
        "usermod -s /bin/bash {user}": "user:{user}",
        'runuser -u postgres -- psql -qc "ALTER DATABASE {site} OWNER TO postgres"': "postgresql_database:{site}",
    },
}


@pytest.mark.parametrize("server", ["el", "deb"])
def test_what_was_broken_by_hand_is_shown_and_put_back(stage: Stage, server: str) -> None:
    site = f"worn{server}"
    engine = "mariadb" if server == "el" else "postgresql"
    stage.site(site, server)
    stage.database(site, server, site=site, engine=engine)
    stage.fleet.commit()
    stage.apply()
    assert stage.run("drift", "--detailed-exitcode").out.startswith("No drift: 2 nodes asked.")
    node, user = stage.nodes[server], stage.user(site)
    wanted = set()
    for command, step in BROKEN[server].items():
        node.run(command.format(site=site, user=user))
        wanted.add(step.format(site=site, user=user))

    shown = stage.run("drift", "--detailed-exitcode", "--output", "json", code=2).json
    assert {item["step"] for item in shown["drift"]} == wanted
    assert {item["server"] for item in shown["drift"]} == {server}
    said = stage.run("drift", "--detailed-exitcode", code=2).out
    assert (
        "applied /usr/sbin/nologin, now /bin/bash" in said or "applied /sbin/nologin, now /bin/bash" in said
    )
    assert stage.condition(f"Site/{site}", "Drifted") == "True/NodeDiffers"
    assert stage.run("plan", "--refresh", "--detailed-exitcode", code=2).out.count("changed outside") == 1

    done = stage.applied()
    assert {address: found["action"] for address, found in done.items()} == {
        f"Site/{site}": "repair",
        f"Database/{site}": "repair",
    }
    newest = stage.deployments(f"Site/{site}")[0]
    assert (newest["corrective"], newest["status"], newest["actor"]) == (True, "success", None)
    assert stage.condition(f"Site/{site}", "Drifted") == "False/InSync"
    assert fetch(node, f"{site}.test")[0] == 200
    stage.in_sync()


def test_healing_puts_back_without_applying_a_new_commit(stage: Stage) -> None:
    stage.site("healed", "el")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["el"]
    node.run("rm /etc/panel/fpm/healed.conf")
    stage.fleet.drop("Site", "healed")
    stage.site("renamed", "el", domain="healed.test", moved_from="healed")
    stage.fleet.commit("Rename it, unapplied")

    said = stage.run("drift", "--heal")
    assert "1 repaired" in said.out
    node.run("test -e /etc/panel/fpm/healed.conf")
    assert "Site/healed" in stage.status()
    stage.apply()
    stage.in_sync()


def test_drift_beside_a_change_of_the_same_site_goes_with_it(stage: Stage) -> None:
    stage.site("both", "el")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["el"]
    node.run("chmod 0600 /etc/panel/fpm/both.conf")
    stage.fleet.change("Site", "both", php={"memoryLimit": "99M"})
    stage.fleet.commit()
    assert {address: found["action"] for address, found in stage.applied().items()} == {"Site/both": "update"}
    assert "99M" in node.read("/etc/panel/fpm/both.conf")
    stage.in_sync()


def test_drift_of_something_that_is_forgotten_is_nobodys(stage: Stage) -> None:
    stage.database("letgo", "el")
    stage.fleet.commit()
    stage.apply()
    stage.nodes["el"].run("mysql -e \"REVOKE ALL ON letgo.* FROM 'letgo'@'localhost'\"")
    stage.fleet.drop("Database", "letgo")
    stage.fleet.commit()
    assert {a: f["action"] for a, f in stage.applied().items()} == {"Database/letgo": "forget"}
    assert "Database/letgo" not in stage.status()
    assert all(d["status"] == "success" for d in stage.deployments("Database/letgo"))


def test_a_node_that_cannot_be_asked_is_named_while_others_are_looked_at(stage: Stage) -> None:
    stage.site("seen", "el")
    stage.fleet.commit()
    stage.apply()
    stage.nodes["el"].run("rm /etc/panel/fpm/seen.conf")
    with faults.refused_port(stage.nodes["deb"]):
        drift = stage.run("drift", code=1)
        assert "deb could not be asked: deb: cannot connect to 198.18.0." in drift.err
        assert "file:/etc/panel/fpm/seen.conf is missing" in drift.out
        asked = stage.run("drift", "--output", "json", code=1).json
        assert asked["asked"] == ["el"]
        assert list(asked["unreachable"]) == ["deb"]
        healed = stage.apply(code=1)
    assert "Warning: deb could not be asked for drift" in healed.out
    assert "1 repaired" in healed.out
    stage.nodes["el"].run("test -e /etc/panel/fpm/seen.conf")
    stage.in_sync()


def test_only_the_named_server_is_asked(stage: Stage) -> None:
    shown = stage.run("drift", "--server", "deb", "--output", "json").json
    assert shown["asked"] == ["deb"]
    unknown = stage.run("drift", "--server", "dbe", code=1)
    assert "no server 'dbe' is recorded" in unknown.err
    assert "did you mean 'deb'?" in unknown.err
