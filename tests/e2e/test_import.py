"""Importing nodes: one that somebody made by hand, and one that we made and whose manifests or state were lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Lab, Node

from .harness import Fleet, Said, Stage, boot, fetch, upload

FAMILIES = pytest.mark.parametrize("server", ["el", "deb"])
CANARY = "canary-5ecret"
PRINT = r"find /etc /srv /home /usr/bin /tmp -xdev -printf '%p %s %m %U\n' | sort | sha256sum"
POOL = r"""
[shop]
user = keeper
group = keeper
listen = @socket@
listen.mode = 0666
pm = ondemand
pm.max_children = 7
env[API_TOKEN] = @canary@
php_admin_value[memory_limit] = 256M
php_value[upload_max_filesize] = 33554432
php_admin_value[sendmail_from] = "@canary@"
"""
SHOP = r"""
# a site { of the "old" days ;
server {
    listen 80;
    server_name shop-@name@.test "alias-@name@.test" *.wild.test ~^re(?<x>.+)\.test$;
    root '/srv/shop/web;1';
    set $token "@canary@; } server {";
    client_max_body_size 20m;
    include /etc/nginx/parts/*.part;
    location ~ "\.php$" {
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME "$document_root$fastcgi_script_name";
        fastcgi_param DB_PASSWORD "@canary@";
        fastcgi_pass php_@name@;
    }
}
server { listen 80; server_name www.shop-@name@.test; return 301 http://shop-@name@.test$request_uri; }
upstream php_@name@ { server unix:@socket@; }
server {
    listen 80;
    server_name app-@name@.test;
    auth_basic "@canary@";
    location / { proxy_set_header Authorization "Basic @canary@"; proxy_pass http://127.0.0.1:3000/?token=@canary@; }
}
server { listen 80; server_name files-@name@.test; root /srv/files; }
server { listen 80; server_name 'bad: [yaml]' "x\n- {evil: 1}" 'пример.test' "${jndi}.test"; root /srv/files; }
"""


@pytest.fixture(scope="module")
def nodes(lab: Lab) -> Iterator[dict[str, Node]]:
    made = boot(lab, el="el9-web", deb="debian12-web")
    try:
        yield made
    finally:
        for node in made.values():
            node.remove()


def by_hand(node: Node, name: str) -> None:
    """What a person before us left on the node."""
    el = node.image.name.startswith("el9")
    socket = "/run/keeper.sock"

    def filled(text: str) -> str:
        return text.replace("@name@", name).replace("@socket@", socket).replace("@canary@", CANARY)

    pools = "/etc/opt/remi/php82/php-fpm.d" if el else "/etc/php/8.2/fpm/pool.d"
    sites = "/etc/nginx/conf.d" if el else "/etc/nginx/sites-enabled"
    node.run(
        "useradd -m -d /srv/shop keeper && mkdir -p '/srv/shop/web;1' /srv/files /etc/nginx/parts"
        " && chmod 755 /srv/shop && touch '/srv/shop/web;1/wp-config.php' /srv/shop/.env"
    )
    files = {
        f"{pools}/shop.conf": filled(POOL),
        f"{sites}/shop.conf": filled(SHOP),
        "/etc/nginx/parts/one.part": "index index.php;\ngzip on;\n",
        "/srv/shop/web;1/index.php": "<?php echo 'old shop';",
        "/var/spool/cron/keeper" if el else "/var/spool/cron/crontabs/keeper": (
            f"MAILTO={CANARY}\n# no\n*/5 * * * * curl -u me:{CANARY} https://x.test/?token={CANARY} # 'q\": ['\n"
        ),
    }
    for path, text in files.items():
        node.run(f"cat > '{path}'", stdin=text)
    unit = "php82-php-fpm" if el else "php8.2-fpm"
    node.run(f"nginx -t && systemctl restart {unit} && systemctl reload-or-restart nginx")
    node.run(
        f"mariadb -e \"CREATE DATABASE shop; CREATE USER shop@localhost IDENTIFIED BY '{CANARY}'; CREATE USER odd@'%';"
        " GRANT ALL ON shop.* TO shop@localhost; GRANT SELECT ON shop.* TO odd@'%';"
        ' CREATE DATABASE \\`Odd Name\\`;"'
    )
    role = f"CREATE ROLE crm LOGIN PASSWORD '{CANARY}'; "
    node.run(
        "runuser -u postgres -- psql -v ON_ERROR_STOP=1 -f -",
        stdin=f"{role}\nCREATE DATABASE crm OWNER crm;\n",
    )


def manifests(folder: Path) -> dict[str, Any]:
    """Every manifest below a folder, by address."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(folder.rglob("*.yaml"))]
    return {f"{value['kind']}/{value['metadata']['name']}": value["spec"] for value in found}


def ask(stage: Stage, node: Node, name: str, *words: str) -> Said:
    identity = str(node.lab.key.private)
    place = ("--address", node.ip, "--identity", identity, "--accept-host-key")
    return stage.run("import", "server", name, *place, *words)


@FAMILIES
def test_a_node_made_by_hand_is_taken_over(nodes: dict[str, Node], tmp_path: Path, server: str) -> None:
    node = nodes[server]
    by_hand(node, server)
    stage = Stage(Fleet(tmp_path / "fleet"), tmp_path / "state")
    stage.run("init")
    before = node.output(PRINT)
    printed = ask(stage, node, server, "--dry-run")
    assert list(stage.fleet.folder.glob("*/*.yaml")) == []
    said = ask(stage, node, server)
    assert node.output(PRINT) == before
    found = manifests(stage.fleet.folder)
    assert CANARY not in said.text + printed.text + str(
        [p.read_text() for p in stage.fleet.folder.rglob("*.yaml")]
    )
    assert set(found) == {
        "SSHKey/fleet",
        f"Server/{server}",
        f"Site/shop-{server}-test",
        f"Site/app-{server}-test",
        f"Site/files-{server}-test",
        "Database/shop",
        "Database/crm",
    }
    assert found[f"Site/shop-{server}-test"] == {
        "server": server,
        "domain": f"shop-{server}.test",
        "aliases": [f"alias-{server}.test"],
        "appType": "wordpress",
        "phpVersion": "8.2",
        "php": {"memoryLimit": "256M", "uploadMaxFilesize": "32M", "maxChildren": 7},
        "www": "strip",
    }
    assert found[f"Site/app-{server}-test"]["proxy"] == {"upstream": "http://127.0.0.1:3000"}
    assert found[f"Server/{server}"]["databaseEngines"] == ["mariadb", "postgresql"]
    assert found["Database/shop"]["username"] == "shop"
    for words in (
        "'Odd Name': not taken over",
        "*.wild.test",
        "no domain of a manifest: 'bad: [yaml]'",
        "auth_basic",
        "1 variable of its pool",
        "its .env is not read",
        "odd@%",
        "rsync -a '/srv/shop/web;1/' ",
        "password",
        "gzip",
    ):
        assert words in said.text, words
    assert "curl" in (stage.fleet.folder / f"sites/shop-{server}-test.yaml").read_text()
    stage.run("validate", str(stage.fleet.folder))
    again = ask(stage, node, server)
    assert "0 manifests" in again.text
    assert "wrote" not in again.text

    # the first plan says what differs: everything is new beside what is there
    stage.fleet.commit("Import")
    actions = stage.planned()
    assert {address for address, what in actions.items() if what == ["create"]} == set(found)
    fetched = fetch(node, f"shop-{server}.test")
    assert fetched == (200, "old shop")


@FAMILIES
def test_what_we_made_comes_back_when_state_and_manifests_are_lost(
    nodes: dict[str, Node], tmp_path: Path, server: str
) -> None:
    node = nodes[server]
    stage = Stage.build(tmp_path / "one")
    stage.enroll(server, node)
    # of the host: what an apply sets within a moment
    host: dict[str, Any] = {
        "timezone": "Europe/Vienna",
        "firewall": {
            "mode": "managed",
            "allow": [{"port": 8443, "from": ["192.0.2.0/24"]}, {"service": "dns"}],
        },
        "ssh": {"passwordAuthentication": False, "permitRootLogin": True},
        "logins": [{"user": "ada", "sudo": True}],
    }
    stage.fleet.change("User", "ada", sshKeys=[node.lab.public_key.strip()])
    stage.fleet.change("Server", server, **host)
    cron = [
        {
            "name": "tick",
            "schedule": "*/7 3 * * 1-5",
            "command": r"""echo "50% of $HOME" \ 'q'""",
            "timeout": "1m30s",
        }
    ]
    worker = [{"name": "queue", "command": "exec sleep 3600", "replicas": 2}]
    limits = {"memory": "300M", "cpu": "50%", "tasks": 99}
    # the names are such that a new count would give the users out otherwise
    stage.site("zoo", server, appType="wordpress", www="add", cron=cron, workers=worker, limits=limits)
    stage.fleet.commit()
    stage.apply()
    stage.site(
        "ant", server, appType="laravel", aliases=["b.ant.test", "a.ant.test"], php={"memoryLimit": "96M"}
    )
    stage.site(
        "bee",
        server,
        appType="proxy",
        phpVersion=None,
        proxy={"upstream": "unix:app.sock", "timeout": "1m30s", "websockets": True},
    )
    answers: dict[str, Any] = {
        "redirects": [
            {"from": "/old/*", "to": "https://zoo.test/*", "status": 308},
            {"from": "/x", "to": "/y?a=1"},
        ],
        "headers": {"Content-Security-Policy": "default-src 'self'", "X-Frame-Options": None},
        "clientAddress": {"trustedProxies": ["192.0.2.0/24"]},
        "tls": {"mode": "selfSigned", "forceHttps": False, "hsts": {"maxAge": "1h"}},
    }
    stage.site(
        "cat", server, appType="static", documentRoot="web/out", phpVersion=None, www="strip", **answers
    )
    stage.site("dog", server, appType="generic", env={"WORD": CANARY}, state="suspended")
    stage.database("zoo", server, site="zoo", remoteAccess=["10.1.0.0/16"])
    stage.fleet.commit()
    stage.apply()
    users = {name: stage.user(name) for name in ("zoo", "ant", "bee", "cat", "dog")}
    upload(node, users["zoo"], "<?php echo 'mine';")
    fleet = manifests(stage.fleet.folder)
    env = node.read(f"/home/{users['dog']}/.env")

    # the manifests are lost, the state is not: exactly what was applied comes back
    lost = Stage(Fleet(tmp_path / "lost"), stage.state)
    said = lost.run("import", "server", server)
    assert CANARY not in said.text
    again = lost.run("import", "server", server, "--dry-run", "--fleet", str(tmp_path / "nowhere"))
    assert "sensitive value" in again.text
    assert CANARY not in again.text
    lost.fleet.commit()
    assert lost.planned() == {}

    # the state is lost, the manifests are not
    bare = Stage(stage.fleet, tmp_path / "state2")
    bare.run("init")
    identity = str(node.lab.key.private)
    said = bare.run("servers", "enroll", server, "--identity", identity, "--accept-host-key")
    assert f"Run `reconciler import server {server}` before the first apply" in said.text
    said = bare.run("import", "server", server)
    assert "Recorded as found on the node" in said.text
    assert {name: bare.user(name) for name in users} == users
    planned = bare.planned()
    assert {a for a in planned if a.partition("/")[0] in ("Server", "Site", "Database")} == {
        f"Server/{server}",  # lets others reach the database
        "Database/zoo",
        "Site/zoo",
    }
    results = bare.applied()
    assert {a for a in results if a.partition("/")[0] in ("Server", "Site")} == {
        f"Server/{server}",
        "Site/zoo",
    }
    assert fetch(node, "www.zoo.test") == (200, "mine")
    assert node.read(f"/home/{users['dog']}/.env") == env
    bare.in_sync()

    # both are lost
    shutil.rmtree(stage.state)
    last = Stage(Fleet(tmp_path / "last"), tmp_path / "state3")
    last.run("init")
    said = ask(last, node, server)
    found = manifests(last.fleet.folder)
    for name in ("zoo", "ant", "bee", "cat"):
        expected = {key: value for key, value in fleet[f"Site/{name}"].items() if value is not None}
        found_spec = found[f"Site/{name}"]
        assert {key: found_spec[key] for key in expected if key != "aliases"} == {
            key: value for key, value in expected.items() if key != "aliases"
        }, said.text
        assert set(found_spec.get("aliases", [])) == set(expected.get("aliases", []))
    assert found["Database/zoo"]["remoteAccess"] == ["10.1.0.0/16"]
    opened = [{"port": 53}, {"port": 53, "protocol": "udp"}, *host["firewall"]["allow"][:1]]
    host["firewall"] = {"mode": "managed", "allow": opened}
    assert {name: found[f"Server/{server}"][name] for name in host} == host
    assert found["User/ada"] == {"email": "ada@email.invalid", "sshKeys": [node.lab.public_key.strip()]}
    assert "its e-mail address is to be written" in said.text
    assert found["Site/dog"]["suspend"] is True
    assert found["Site/dog"]["state"] == "suspended"
    assert found["Database/zoo"]["site"] == "zoo"
    # what a person left beside it is not to be taken over today
    for name in (
        *(f"sites/{word}-{server}-test" for word in ("shop", "app", "files")),
        "databases/shop",
        "databases/crm",
    ):
        (last.fleet.folder / f"{name}.yaml").unlink(missing_ok=True)
    last.run("validate", str(last.fleet.folder))
    last.fleet.commit()
    last.run("servers", "enroll", server, "--identity", identity, "--accept-host-key")
    last.run("import", "server", server, "--output-dir", str(tmp_path / "again"))
    assert {name: last.user(name) for name in users} == users
    # keys are of the fleet, not of a node
    planned = last.planned()
    assert {a for a in planned if a.partition("/")[0] != "SSHKey"} == {
        f"Server/{server}",
        "Database/zoo",
        "Site/zoo",
    }
    last.apply()
    assert node.read(f"/home/{users['dog']}/.env") == env
    assert fetch(node, "www.zoo.test") == (200, "mine")
