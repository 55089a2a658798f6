"""The RPMs beside PHP: releases, nginx, databases, tools; Debian's files in the layout of AppStream and EPEL."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .apt import listed
from .debs import Bundler, Debs
from .rpmkit import Dir, Rpm, add_fixed_user, add_user

BASH_PROVIDES = ("/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash")  # else no scriptlet can be installed

PG = "usr/lib/postgresql/15"
PG_CLIENT = {
    *(
        "psql",
        "pg_dump",
        "pg_dumpall",
        "pg_restore",
        "createdb",
        "dropdb",
        "createuser",
        "dropuser",
        "pg_isready",
    ),
    *("vacuumdb", "reindexdb", "clusterdb", "pg_basebackup"),
}
# python3-*.deb of the pool that belong to other tools than certbot
NOT_CERTBOT = tuple(
    f"python3-{x}"
    for x in (
        *("firewall", "sepolgen", "sepolicy", "selinux", "semanage", "setools", "audit"),
        *("systemd", "apt", "distro-info"),
    )
)


def records() -> dict[str, str]:
    """Name and version of the packages whose files are in the base tree already."""
    return dict(entry.split() for entry in listed("el-records"))


def all_packages(pool: Debs, newer: Debs, private: Path) -> list[Rpm]:
    """Every package of this module. `private` is a folder to patch programs of the newer release in."""
    old, new = pool.unpack("nginx", "nginx-common"), newer.unpack("nginx", "nginx-common")
    shared = newer.unpack_files("libraries", sorted(newer.folder.glob("*.deb")))
    bundled = Bundler(shared, "/usr/lib64/nginx/private", private).bundle
    program = "/usr/sbin/nginx"
    return [
        *_releases(),
        *_tools(pool),
        *_nginx(pool.version("nginx"), [(old / "usr/sbin/nginx", program)], old),
        *_nginx(newer.version("nginx"), bundled([(new / "usr/sbin/nginx", program)]), new),
        *_mariadb(pool),
        *_postgresql(pool),
        _redis(pool),
        _caddy(pool),
        _certbot(pool),
        *_fail2ban(pool),
        _dnf_automatic(),
    ]


def _present(tree: Path, *places: str) -> list[tuple[Path, str]]:
    """Those of the places that are in an unpacked package, to be kept where they are."""
    pairs = [(tree / place.lstrip("/"), place) for place in places]
    return [(source, place) for source, place in pairs if source.exists() or source.is_symlink()]


def _releases() -> list[Rpm]:
    release = Rpm(
        "baseos",
        "almalinux-release",
        "9.4",
        noarch=True,
        provides=(
            "system-release = 9.4",
            "system-release(releasever) = 9",  # where dnf takes $releasever from
            "redhat-release = 9.4",
            "centos-release = 9.4",
            "base-module(platform:el9)",
        ),
        static=("almalinux-release",),
    )
    epel = Rpm("baseos", "epel-release", "9", "7.el9", noarch=True, static=("epel-release",))
    remi = Rpm(
        *("baseos", "remi-release", "9.4", "2.el9.remi"),
        noarch=True,
        requires=("epel-release",),
        static=("remi-release",),
    )
    recorded = [
        Rpm(
            *("baseos", name, version, "1.lab.el9"),
            noarch=True,
            provides=BASH_PROVIDES if name == "bash" else (),
            summary=f"{name} (record only: the files come with the base tree)",
        )
        for name, version in records().items()
    ]
    return [release, epel, remi, *recorded]


def _tools(pool: Debs) -> list[Rpm]:
    semanage = pool.unpack("policycoreutils-python-utils")
    firewalld = pool.unpack("firewalld")
    kept = ("/usr/sbin", "/usr/bin", "/usr/lib/firewalld", "/etc/firewalld", "/usr/share/dbus-1")
    unit = next(firewalld.rglob("firewalld.service"))
    return [
        Rpm(
            *("appstream", "policycoreutils-python-utils", "3.6"),
            noarch=True,
            requires=("policycoreutils",),
            tree=_present(semanage, "/usr/sbin", "/usr/bin"),
        ),
        Rpm(
            *("baseos", "firewalld", "1.3.4"),
            noarch=True,
            units=("firewalld.service",),
            tree=[*_present(firewalld, *kept), (unit, "/usr/lib/systemd/system/firewalld.service")],
        ),
    ]


def _nginx(version: str, program: Iterable[tuple[Path, str]], tree: Path) -> list[Rpm]:
    """Three packages, as on EL: the folders and the user, the program, the unit."""
    release = "1.el9"
    tables = [
        f"/etc/nginx/{x}"
        for x in ("mime.types", "fastcgi_params", "fastcgi.conf", "scgi_params", "uwsgi_params")
    ]
    folders = ("/etc/nginx", "/etc/nginx/conf.d", "/etc/nginx/default.d", "/usr/share/nginx/html")
    return [
        Rpm(
            *("appstream", "nginx-filesystem", version, release, 1),
            noarch=True,
            pre=add_user("nginx", "/var/lib/nginx"),
            dirs=[*map(Dir, folders), Dir("/etc/systemd/system/nginx.service.d")],
        ),
        Rpm(
            *("appstream", "nginx-core", version, release, 1),
            requires=(f"nginx-filesystem = 1:{version}-{release}",),
            tree=[*program, *_present(tree, *tables)],
            static=("nginx-core",),
            dirs=(
                Dir("/var/log/nginx", "711"),
                Dir("/var/lib/nginx", "770", "nginx"),
                Dir("/var/lib/nginx/tmp", "770", "nginx"),
                Dir("/usr/share/nginx/modules"),
                Dir("/usr/lib64/nginx/modules"),
            ),
        ),
        Rpm(
            *("appstream", "nginx", version, release, 1),
            requires=(f"nginx-core = 1:{version}-{release}",),
            provides=("webserver",),
            units=("nginx.service",),
            static=("nginx",),
        ),
    ]


def _mariadb(pool: Debs) -> list[Rpm]:
    names = (
        "mariadb-server",
        "mariadb-server-core",
        "mariadb-client",
        "mariadb-client-core",
        "mariadb-common",
    )
    tree, version = pool.unpack(*names), pool.version("mariadb-server")
    clients = (
        "mariadb",
        "mysql",
        "mariadb-dump",
        "mysqldump",
        "mariadb-admin",
        "mysqladmin",
        "mariadb-check",
    )
    servers = ("mariadb-install-db", "mariadb-upgrade", "resolveip", "mariadb-secure-installation")
    common, client = f"mariadb-common = 3:{version}", f"mariadb = 3:{version}"
    return [
        Rpm(
            *("appstream", "mariadb-common", version, "1.el9", 3),
            noarch=True,
            tree=_present(tree, "/usr/share/mysql"),
            static=("mariadb-common",),
        ),
        Rpm(
            *("appstream", "mariadb", version, "1.el9", 3),
            requires=(common,),
            tree=_present(tree, *(f"/usr/bin/{x}" for x in (*clients, "my_print_defaults"))),
        ),
        Rpm(
            *("appstream", "mariadb-server", version, "1.el9", 3),
            requires=(client, common),
            units=("mariadb.service",),
            pre=add_fixed_user("mysql", 27, "/var/lib/mysql", "/sbin/nologin"),
            tree=[
                (tree / "usr/sbin/mariadbd", "/usr/libexec/mariadbd"),
                *_present(tree, *(f"/usr/bin/{x}" for x in servers), "/usr/lib/mysql/plugin"),
            ],
            links={
                "/usr/bin/mysql_install_db": "mariadb-install-db",
                "/usr/bin/mysql_secure_installation": "mariadb-secure-installation",
                "/usr/sbin/mariadbd": "../libexec/mariadbd",
                "/usr/lib/systemd/system/mysqld.service": "mariadb.service",
                "/usr/lib/systemd/system/mysql.service": "mariadb.service",
            },
            dirs=(
                Dir("/var/lib/mysql", "755", "mysql", "mysql"),
                Dir("/var/log/mariadb", "750", "mysql", "mysql"),
                Dir("/run/mariadb", "755", "mysql", "mysql"),
            ),
            static=("mariadb-server",),
        ),
    ]


def _postgresql(pool: Debs) -> list[Rpm]:
    tree, version = pool.unpack("postgresql-15", "postgresql-client-15"), pool.version("postgresql-15")
    names = sorted(path.name for path in (tree / PG / "bin").iterdir())
    client = [name for name in names if name in PG_CLIENT]
    server = [name for name in names if name not in PG_CLIENT]
    share = [x for x in sorted((tree / "usr/share/postgresql/15").iterdir()) if x.name != "man"]
    owner = ("postgres", "postgres")

    def programs(chosen: list[str]) -> list[tuple[Path, str]]:
        return [(tree / PG / "bin" / name, f"/{PG}/bin/{name}") for name in chosen]

    def links(chosen: list[str]) -> dict[str, str]:
        return {f"/usr/bin/{name}": f"../lib/postgresql/15/bin/{name}" for name in chosen}

    return [
        Rpm("appstream", "postgresql", version, tree=programs(client), links=links(client)),
        Rpm(
            *("appstream", "postgresql-server", version),
            requires=(f"postgresql = {version}",),
            units=("postgresql.service",),
            pre=add_fixed_user("postgres", 26, "/var/lib/pgsql", "/bin/bash"),
            tree=[
                *programs(server),
                *((path, f"/usr/share/postgresql/15/{path.name}") for path in share),
                (tree / PG / "lib", f"/{PG}/lib"),
            ],
            links=links(server),
            dirs=(
                Dir("/var/lib/pgsql", "700", *owner),
                Dir("/var/lib/pgsql/data", "700", *owner),
                Dir("/var/lib/pgsql/backups", "700", *owner),
                Dir("/run/postgresql", "755", *owner),
            ),
            static=("postgresql-server",),
        ),
    ]


def _redis(pool: Debs) -> Rpm:
    tree = pool.unpack("redis-server", "redis-tools")
    config = (tree / "etc/redis/redis.conf").read_text()
    for debian, el in (
        ("daemonize yes", "daemonize no"),
        ("/var/log/redis/redis-server.log", "/var/log/redis/redis.log"),
        ("/run/redis/redis-server.pid", "/var/run/redis_6379.pid"),
    ):
        config = config.replace(debian, el)
    names = ("redis-server", "redis-cli", "redis-check-rdb", "redis-check-aof", "redis-benchmark")
    return Rpm(
        *("appstream", "redis", pool.version("redis-server")),
        units=("redis.service",),
        pre=add_user("redis", "/var/lib/redis"),
        post="chown root:redis /etc/redis/redis.conf\nchmod 640 /etc/redis/redis.conf",
        tree=_present(tree, *(f"/usr/bin/{x}" for x in names)),
        text={"/etc/redis/redis.conf": config},
        dirs=(Dir("/var/lib/redis", "750", "redis", "redis"), Dir("/var/log/redis", "750", "redis", "redis")),
        static=("redis",),
    )


def _caddy(pool: Debs) -> Rpm:
    return Rpm(
        *("epel", "caddy", pool.version("caddy")),
        units=("caddy.service",),
        pre=add_user("caddy", "/var/lib/caddy"),
        tree=_present(pool.unpack("caddy"), "/usr/bin/caddy"),
        dirs=(Dir("/var/lib/caddy", "750", "caddy", "caddy"), Dir("/etc/caddy/Caddyfile.d")),
        static=("caddy",),
    )


def _certbot(pool: Debs) -> Rpm:
    modules = [x for x in sorted(pool.folder.glob("python3-*.deb")) if not x.name.startswith(NOT_CERTBOT)]
    tree = pool.unpack_files("certbot", [*modules, pool.file("certbot")])
    return Rpm(
        *("epel", "certbot", pool.version("certbot")),
        requires=("python3",),
        units=("certbot-renew.timer",),
        tree=[(tree / "usr/lib/python3/dist-packages", "/usr/lib/certbot/site")],
        dirs=(Dir("/etc/letsencrypt"), Dir("/var/lib/letsencrypt"), Dir("/var/log/letsencrypt")),
        static=("certbot",),
    )


def _fail2ban(pool: Debs) -> list[Rpm]:
    """As in EPEL: the server, and a package that says what bans and which logs are read."""
    tree, version = pool.unpack("fail2ban"), pool.version("fail2ban")
    unit = tree / "lib/systemd/system/fail2ban.service"
    settings = [
        (path, f"/etc/fail2ban/{path.name}")
        for path in sorted((tree / "etc/fail2ban").iterdir())
        if path.name != "jail.d"
    ]
    modules = pool.unpack("python3-systemd")
    return [
        Rpm(
            *("epel", "fail2ban-server", version),
            requires=("python3",),
            units=("fail2ban.service",),
            tree=[
                *settings,
                *_present(tree, *(f"/usr/bin/fail2ban-{x}" for x in ("client", "regex", "server"))),
                *_present(tree, "/usr/bin/fail2ban-python", "/usr/lib/python3/dist-packages"),
                *_present(modules, "/usr/lib/python3/dist-packages"),
                (unit, "/usr/lib/systemd/system/fail2ban.service"),
            ],
            text={"/etc/fail2ban/jail.d/00-systemd.conf": "[DEFAULT]\nbackend=systemd\n"},
            dirs=(Dir("/var/lib/fail2ban"),),
        ),
        Rpm(
            *("epel", "fail2ban-firewalld", version),
            noarch=True,
            requires=(f"fail2ban-server = {version}", "firewalld"),
            static=("fail2ban-firewalld",),
        ),
        Rpm(
            *("epel", "fail2ban", version),
            noarch=True,
            requires=(f"fail2ban-server = {version}", f"fail2ban-firewalld = {version}"),
        ),
    ]


def _dnf_automatic() -> Rpm:
    """The module is in the base tree with dnf; Debian leaves the program, its settings and the timer out."""
    return Rpm(
        *("baseos", "dnf-automatic", "4.14.0"),
        noarch=True,
        requires=("dnf",),
        units=("dnf-automatic.timer",),
        static=("dnf-automatic",),
    )
