"""Commits and what they set in motion on real nodes of both families."""

from __future__ import annotations

import pytest

from lab import Node

from .harness import Stage, fetch, upload

PAGE = """<?php
$env = parse_ini_file('/home/'.get_current_user().'/.env', false, INI_SCANNER_RAW);
echo getenv('GREETING') ?: ($env['GREETING'] ?? '-');
"""


def home_of(node: Node, site: str) -> str:
    return node.output(f"stat -c %U /run/panel-fpm/{site}")


def test_only_what_a_commit_changes_is_touched(stage: Stage) -> None:
    stage.site("quiet", "el")
    stage.site("loud", "el")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["el"]
    pid = node.output("systemctl show -P MainPID panel-fpm-quiet.service")
    before = {address: found["lastDeployment"] for address, found in stage.status().items()}
    stage.fleet.change("Site", "loud", php={"memoryLimit": "320M"})
    commit = stage.fleet.commit()

    assert stage.planned() == {"Site/loud": ["update"]}
    assert list(stage.applied()) == ["Site/loud"]

    after = {address: found["lastDeployment"] for address, found in stage.status().items()}
    assert {address for address in after if after[address] != before[address]} == {"Site/loud"}
    assert "320M" in node.read("/etc/panel/fpm/loud.conf")
    assert node.output("systemctl show -P MainPID panel-fpm-quiet.service") == pid
    assert stage.status()["Site/loud"]["revision"] == commit
    stage.in_sync()


def test_a_deployment_tells_who_what_and_how(stage: Stage) -> None:
    stage.site("told", "deb")
    commit = stage.fleet.commit()
    stage.apply()
    row = stage.row("sites", name="told")
    newest = stage.deployments("Site/told")[0]
    found = stage.deployment(newest["id"])
    assert row is not None
    assert (found["status"], found["trigger"], found["branch"]) == ("success", "cli", "main")
    assert (found["commit"], found["actor"]) == (commit, "Ada L.")
    assert len(found["plan"]) == 64
    assert found["started"] < found["finished"]
    assert "create user:web" in found["stdout"]
    assert "validate nginx -t: valid" in found["stdout"]
    assert "reload nginx.service" in found["stdout"]
    assert found["stderr"] == ""
    stored = stage.row("deployments", id=newest["id"])
    assert stored is not None
    assert stored["site_id"] == row["id"]


def test_a_commit_of_somebody_unknown_has_no_actor(stage: Stage) -> None:
    stage.site("anonymous", "deb")
    stage.fleet.commit(author=("Nobody", "nobody@example.test"))
    stage.apply()
    assert stage.deployments("Site/anonymous")[0]["actor"] is None


def test_a_suspended_site_answers_503_and_comes_back(stage: Stage) -> None:
    stage.site("shut", "deb")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["deb"]
    upload(node, stage.user("shut"), "<?php echo 'open';")
    assert fetch(node, "shut.test") == (200, "open")
    assert stage.status()["Site/shut"]["state"] == "active"

    stage.fleet.change("Site", "shut", state="suspended")
    stage.fleet.commit()
    stage.apply()
    assert fetch(node, "shut.test")[0] == 503
    assert stage.status()["Site/shut"]["state"] == "suspended"
    assert node.run("systemctl is-active panel-fpm-shut.service", check=False).stdout.strip() == "inactive"

    stage.fleet.change("Site", "shut", state="active")
    stage.fleet.commit()
    stage.apply()
    assert fetch(node, "shut.test") == (200, "open")
    stage.in_sync()


def test_a_removed_site_goes_and_its_home_is_archived_and_its_database_is_kept(stage: Stage) -> None:
    stage.site("gone", "el")
    stage.database("gone", "el", site="gone")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["el"]
    user = stage.user("gone")
    upload(node, user, "<?php echo 'precious';")
    node.run("mysql gone -e \"CREATE TABLE kept (word TEXT); INSERT INTO kept VALUES ('still here')\"")
    password = node.output(f"grep ^DB_PASSWORD= /home/{user}/.env")

    stage.fleet.drop("Site", "gone")
    stage.fleet.drop("Database", "gone")
    stage.fleet.commit()
    done = stage.applied()
    assert {address: found["action"] for address, found in done.items()} == {
        "Site/gone": "delete",
        "Database/gone": "forget",
    }
    for trace in (
        "/etc/nginx/conf.d/panel-gone.conf",
        "/etc/systemd/system/panel-fpm-gone.service",
        "/etc/panel/fpm/gone.conf",
        f"/home/{user}",
    ):
        assert node.run(f"test -e {trace}", check=False).returncode == 1, trace
    assert node.run(f"id {user}", check=False).returncode == 1
    archive = node.output(f"ls /var/lib/panel/archive/{user}-*.tar.gz")
    assert "precious" in node.output(f"tar -xzOf {archive} --wildcards '*/index.php'")
    row = stage.row("databases", manifest_name="gone")
    assert row is not None
    assert row["status"] == "retained"
    assert stage.row("sites", name="gone") is None
    assert not stage.status().keys() & {"Site/gone", "Database/gone"}
    assert node.output("mysql gone -Ne 'SELECT word FROM kept'") == "still here"

    # declared again, it finds its data, its login and its password
    stage.site("again", "el")
    stage.database("gone", "el", site="again")
    stage.fleet.commit()
    stage.apply()
    new = stage.user("again")
    assert new != user
    assert node.output(f"grep ^DB_PASSWORD= /home/{new}/.env") == password
    word = password.partition("=")[2].strip("'\"")
    login = f"mysql -ugone -p'{word}' -h localhost gone -Ne 'SELECT word FROM kept'"
    assert node.output(login) == "still here"
    row = stage.row("databases", manifest_name="gone")
    assert row is not None
    assert row["status"] == "active"
    stage.in_sync()


def test_a_database_is_dropped_only_with_approval_and_after_a_dump(stage: Stage) -> None:
    stage.database("doomed", "el", deletionPolicy="delete")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["el"]
    node.run('mysql doomed -e "CREATE TABLE t (word TEXT)"')
    stage.fleet.drop("Database", "doomed")
    stage.fleet.commit()

    refused = stage.apply(code=3)
    assert "data-loss" in refused.err
    assert "--approve data-loss" in refused.err
    assert node.output("mysql -Ne \"SHOW DATABASES LIKE 'doomed'\"") == "doomed"
    assert "Database/doomed" in stage.status()

    stage.apply("--approve", "data-loss")
    assert node.output("mysql -Ne \"SHOW DATABASES LIKE 'doomed'\"") == ""
    assert node.output("mysql -Ne \"SELECT user FROM mysql.user WHERE user = 'doomed'\"") == ""
    assert "CREATE TABLE" in node.output("zcat -f /var/lib/panel/archive/*doomed*")
    assert stage.row("databases", manifest_name="doomed") is None


@pytest.mark.parametrize("server", ["el", "deb"])
def test_a_renamed_site_keeps_its_user_and_its_data(stage: Stage, server: str) -> None:
    old, new = f"old-{server}", f"new-{server}"
    stage.site(old, server)
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes[server]
    user = stage.user(old)
    upload(node, user, "<?php echo 'mine';")

    stage.fleet.drop("Site", old)
    stage.site(new, server, domain=f"{old}.test", moved_from=old)
    stage.fleet.commit()
    assert stage.planned() == {f"Site/{new}": ["update"]}
    stage.apply()

    assert stage.user(new) == user
    assert fetch(node, f"{old}.test") == (200, "mine")
    assert home_of(node, new) == user
    assert node.run(f"systemctl cat panel-fpm-{old}.service", check=False).returncode
    assert f"Site/{old}" not in stage.status()
    stage.in_sync()


def test_a_site_moves_to_another_server(stage: Stage) -> None:
    stage.site("nomad", "el")
    stage.fleet.commit()
    stage.apply()
    old, new = stage.nodes["el"], stage.nodes["deb"]
    user = stage.user("nomad")
    upload(old, user, "<?php echo 'on el';")

    stage.fleet.change("Site", "nomad", server="deb")
    stage.fleet.commit()
    assert stage.planned() == {"Site/nomad": ["delete", "create"]}
    done = stage.apply()

    assert "1 added, 0 changed, 1 destroyed" in done.out
    assert fetch(new, "nomad.test")[0] == 200
    assert stage.row("sites", name="nomad", server_id=str((stage.row("servers", name="deb") or {})["id"]))
    assert old.run(f"id {user}", check=False).returncode == 1
    assert old.run("test -e /etc/nginx/conf.d/panel-nomad.conf", check=False).returncode == 1
    assert old.output(f"ls /var/lib/panel/archive/{user}-*.tar.gz")
    assert stage.condition("Server/el", "Ready").startswith("True/")
    stage.in_sync()


def test_sites_swap_their_domains_in_one_commit(stage: Stage) -> None:
    stage.site("left", "deb")
    stage.site("right", "deb")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["deb"]
    for site in ("left", "right"):
        upload(node, stage.user(site), f"<?php echo '{site}';")
    stage.fleet.change("Site", "left", domain="right.test")
    stage.fleet.change("Site", "right", domain="left.test")
    stage.fleet.commit()
    stage.apply()
    assert fetch(node, "left.test") == (200, "right")
    assert fetch(node, "right.test") == (200, "left")
    stage.in_sync()


def test_a_domain_passes_from_a_removed_site_to_a_new_one(stage: Stage) -> None:
    stage.site("heir-old", "deb", domain="estate.test")
    stage.fleet.commit()
    stage.apply()
    stage.fleet.drop("Site", "heir-old")
    stage.site("heir-new", "deb", domain="estate.test")
    stage.fleet.commit()
    stage.apply()
    row = stage.row("sites", domain="estate.test")
    assert row is not None
    assert row["name"] == "heir-new"
    assert fetch(stage.nodes["deb"], "estate.test")[0] == 200
    stage.in_sync()


def test_what_is_suspended_is_left_alone_until_it_is_not(stage: Stage) -> None:
    stage.site("asleep", "deb")
    stage.fleet.commit()
    stage.apply()
    node = stage.nodes["deb"]
    stage.fleet.change("Site", "asleep", suspend=True)
    stage.fleet.commit()
    stage.apply()
    node.run("rm /etc/panel/fpm/asleep.conf")
    stage.in_sync()
    assert stage.condition("Site/asleep", "Drifted") != "True/NodeDiffers"
    stage.fleet.change("Site", "asleep", suspend=None, php={"memoryLimit": "64M"})
    stage.fleet.commit()
    stage.apply()
    assert "64M" in node.read("/etc/panel/fpm/asleep.conf")
    stage.in_sync()


def test_a_server_is_given_up_with_approval_and_left_as_it_is(stage: Stage) -> None:
    node = stage.nodes["deb"]
    stage.site("orphan", "deb")
    stage.fleet.commit()
    stage.apply()
    there = [address for address, found in stage.status().items() if found["server"] == "deb"]
    stage.fleet.drop("Server", "deb")
    for address in there:
        kind, _, name = address.partition("/")
        if kind != "Server":
            stage.fleet.drop(kind, name)
    stage.fleet.commit()
    refused = stage.apply(code=3)
    assert "server-with-sites" in refused.err
    assert stage.status()["Server/deb"]["state"] == "active"

    stage.apply("--approve", "server-with-sites", "--approve", "mass-deletion")
    assert "Server/deb" not in stage.status()
    assert stage.row("servers", name="deb") is None
    assert node.run("test -d /home/web1", check=False).returncode == 1
    assert node.output("systemctl is-active nginx") == "active"
    assert node.run("test -x /usr/bin/panel-ssh-manager").returncode == 0
    stage.in_sync()

    # and taken in again
    stage.enroll("deb", node)
    stage.apply()
    stage.in_sync()
