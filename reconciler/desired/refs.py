"""Rules between resources: references, values that must be unique, and what a server must offer. Pure.

References form no cycle by construction: a Database names a Server and a Site, a Site names a Server, a Server names an
SSHKey, and nothing names anything that could name it back. So there is nothing to search for.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.desired import caddy, host, relay, tls
from reconciler.desired.checks import ENV_OF_DATABASE, reserved_env
from reconciler.desired.findings import Finding
from reconciler.desired.fleet import Entry, FieldPath, Key
from reconciler.desired.kinds import Database, Kind, Server, Site, SSHKey, User
from reconciler.desired.kinds.common import MOVED_FROM
from reconciler.desired.kinds.keys import signing_fingerprint
from reconciler.desired.problems import Source
from reconciler.kit.text import did_you_mean
from reconciler.platforms import for_os

Place = Callable[[Entry, FieldPath], Source]


@dataclass(frozen=True)
class Claim:
    """A value that only one resource may have. Equal `scope` and `value` clash; `what` names the value to the user."""

    code: str
    what: str
    value: tuple[str, ...]
    path: FieldPath


def claims(entry: Entry) -> Iterator[Claim]:
    """Everything that must be unique of one resource."""
    moved_from = entry.manifest.metadata.annotations.get(MOVED_FROM)
    if moved_from is not None:
        path: FieldPath = ("metadata", "annotations", MOVED_FROM)
        yield Claim(
            "duplicate-moved-from", f"the former name {moved_from}", (entry.key.kind, moved_from), path
        )
    match entry.manifest:
        case Server(spec=spec):
            yield Claim(
                "duplicate-address", f"the address {spec.address}", (spec.address,), ("spec", "address")
            )
        case Site(spec=spec):
            yield Claim("duplicate-domain", f"the domain {spec.domain}", (spec.domain,), ("spec", "domain"))
            for place, alias in enumerate(spec.aliases):
                if alias != spec.domain:
                    yield Claim(
                        "duplicate-domain", f"the domain {alias}", (alias,), ("spec", "aliases", place)
                    )
            for host in spec.hosts:
                if host not in (spec.domain, *spec.aliases):
                    yield Claim("duplicate-domain", f"the domain {host}", (host,), ("spec", "www"))
        case Database():
            yield from _database_claims(entry.manifest)
        case SSHKey(spec=spec) if spec.public_key is not None:
            print_ = fingerprint(spec.public_key)
            yield Claim("duplicate-public-key", f"the key {print_}", (print_,), ("spec", "publicKey"))
        case User(spec=spec):
            # The part before the @ may differ in case by the letter of the law, but no provider has two such people.
            yield Claim(
                "duplicate-email", f"the address {spec.email}", (spec.email.lower(),), ("spec", "email")
            )
            for place, key in enumerate(spec.signing_keys):
                print_ = signing_fingerprint(key)
                where: FieldPath = ("spec", "signingKeys", place)
                yield Claim("duplicate-signing-key", f"the signing key {print_}", (print_,), where)


def _database_claims(database: Database) -> Iterator[Claim]:
    spec = database.spec
    scope = (spec.server, spec.engine)
    on = f"in {spec.engine} on {spec.server}"
    yield Claim("duplicate-database", f"the database {spec.name} {on}", (*scope, spec.name), ("spec", "name"))
    yield Claim(
        "duplicate-username", f"the user {spec.username} {on}", (*scope, spec.username), ("spec", "username")
    )
    if spec.site is not None:
        what = f"the prefix {spec.env_prefix} of variables in Site/{spec.site}"
        yield Claim("duplicate-env-prefix", what, (spec.site, spec.env_prefix), ("spec", "envPrefix"))


def fingerprint(public_key: str) -> str:
    """`SHA256:…` of a public key in OpenSSH form, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(base64.b64decode(public_key.split(" ")[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode('ascii').rstrip('=')}"


def clashes(entries: Mapping[Key, Entry], place: Place) -> Iterator[tuple[Entry, Finding]]:
    """For each value that two resources claim, the later one in the order of path and line."""
    first: dict[tuple[str, tuple[str, ...]], tuple[Entry, FieldPath]] = {}
    for entry in sorted(entries.values(), key=lambda e: e.origin.source):
        for claim in claims(entry):
            holder = first.setdefault((claim.code, claim.value), (entry, claim.path))
            if holder[0] is entry:
                continue
            other, path = holder
            message = f"{claim.what} is taken by {other.key}, {place(other, path)}"
            yield entry, Finding(claim.path, claim.code, message, "one of them must have another")


@dataclass(frozen=True)
class Lookup:
    """What references are looked up in. `whole` as in `Fleet`; `moved` are former names of resources."""

    entries: Mapping[Key, Entry]
    broken: frozenset[Key]
    whole: bool
    moved: Mapping[Key, Key]

    def resolve(self, path: FieldPath, key: Key) -> Finding | None:
        """None when the resource exists and is sound."""
        if key in self.broken:
            message = f"{key} has problems of its own, so this resource waits for it"
            return Finding(path, "blocked", message)
        if key in self.entries:
            return None
        if key in self.moved:
            message, hint = f"{key} was renamed to {self.moved[key].name}", f"write {self.moved[key].name}"
            return Finding(path, "unknown-reference", message, hint)
        names = {k.name for k in (*self.entries, *self.broken) if k.kind is key.kind}
        hint = did_you_mean(key.name, names)
        if not hint and not self.whole:
            hint = "perhaps it is in a file that could not be read"
        if not hint and names and len(names) <= 8:
            hint = f"there are {', '.join(sorted(names))}"
        return Finding(path, "unknown-reference", f"there is no {key}", hint)


def references(entry: Entry) -> Iterator[tuple[FieldPath, Key]]:
    """What a resource refers to."""
    match entry.manifest:
        case Server(spec=spec):
            yield ("spec", "sshKey"), Key(Kind.SSH_KEY, spec.ssh_key)
            for place, login in enumerate(spec.logins):
                yield ("spec", "logins", place, "user"), Key(Kind.USER, login.user)
        case Site(spec=spec):
            yield ("spec", "server"), Key(Kind.SERVER, spec.server)
            if spec.source is not None and spec.source.key is not None:
                yield ("spec", "source", "key"), Key(Kind.SSH_KEY, spec.source.key)
        case Database(spec=spec):
            yield ("spec", "server"), Key(Kind.SERVER, spec.server)
            if spec.site is not None:
                yield ("spec", "site"), Key(Kind.SITE, spec.site)


def offers(entry: Entry, entries: Mapping[Key, Entry]) -> Iterator[Finding]:
    """Whether what a resource refers to offers what it needs. Its references must be sound."""
    match entry.manifest:
        case Server() as server:
            manifests = (other.manifest for other in entries.values())
            yield from host.people(server, entries)
            yield from caddy.shared(server, (found for found in manifests if isinstance(found, Site)))
        case Site(spec=spec) as site:
            server = _server(entries, spec.server)
            if spec.php_version is not None and spec.php_version not in server.spec.software.php:
                has = ", ".join(server.spec.software.php) or "none"
                message = f"Server/{server.name} does not install PHP {spec.php_version}"
                hint = f"add it to the server's spec.software.php, which has {has}"
                yield Finding(("spec", "phpVersion"), "php-not-installed", message, hint)
            yield from caddy.site(site, server)
            if spec.redis is not None and not server.spec.software.redis:
                message = f"Server/{server.name} does not install Redis"
                hint = "write `redis: true` in the server's spec.software"
                yield Finding(("spec", "redis"), "redis-not-installed", message, hint)
            if spec.proxy is not None and _refused(spec.proxy.upstream, server):
                message = f"SELinux on Server/{server.name} keeps the web server from {spec.proxy.upstream}"
                hint = "have the application listen on a socket in the site's storage, such as unix:storage/app.sock"
                path = ("spec", "proxy", "upstream")
                yield Finding(path, "upstream-refused", message, hint, severity="warning")
            yield from tls.offers(site, server)
        case Database(spec=spec):
            server = _server(entries, spec.server)
            if spec.engine not in server.spec.database_engines:
                message = f"Server/{server.name} does not install {spec.engine}"
                hint = "add it to the server's spec.databaseEngines"
                yield Finding(("spec", "engine"), "engine-not-installed", message, hint)
            if spec.site is not None:
                yield from _same_server(entry, spec.site, spec.server, entries)


def _refused(upstream: str, server: Server) -> bool:
    """Whether the policy keeps the web server from an upstream, unless the fleet has a rule for it: selinux/panel.te."""
    selinux = server.spec.selinux
    mode = for_os(server.spec.os.value).selinux.declared(selinux.mode)
    if mode != "enforcing" or any("laravel_nginx_t" in rule for rule in selinux.rules):
        return False
    return relay.out_of_reach(upstream, relays=selinux.booleans.get(relay.BOOLEAN, True))


def _has_selinux(server: Server) -> bool:
    return for_os(server.spec.os.value).selinux.declared(server.spec.selinux.mode) != "disabled"


def _server(entries: Mapping[Key, Entry], name: str) -> Server:
    manifest = entries[Key(Kind.SERVER, name)].manifest
    if not isinstance(manifest, Server):
        raise TypeError(f"the entry of Server/{name} is a {manifest.kind}")
    return manifest


def _same_server(entry: Entry, site: str, server: str, entries: Mapping[Key, Entry]) -> Iterator[Finding]:
    manifest = entries[Key(Kind.SITE, site)].manifest
    if isinstance(manifest, Site) and manifest.spec.server != server:
        message = f"Site/{site} is on {manifest.spec.server}, not on {server}"
        hint = "a database must be on the server of its site"
        yield Finding(("spec", "site"), "other-server", message, hint)


def environment(entries: Mapping[Key, Entry]) -> Iterator[tuple[Entry, Finding]]:
    """Variables of a site that one of its databases sets as well: a problem of the site."""
    with_env = {key: e for key, e in entries.items() if isinstance(e.manifest, Site) and e.manifest.spec.env}
    databases = {
        key: e.manifest
        for key, e in entries.items()
        if isinstance(e.manifest, Database) and Key(Kind.SITE, e.manifest.spec.site or "") in with_env
    }
    for key, database in sorted(databases.items(), key=lambda item: item[0]):
        site = with_env[Key(Kind.SITE, database.spec.site or "")]
        if not isinstance(site.manifest, Site):
            continue
        for word in ENV_OF_DATABASE:
            name = f"{database.spec.env_prefix}_{word}"
            # `DB_…` is refused for every site already.
            if name in site.manifest.spec.env and not name.startswith("DB_"):
                yield site, reserved_env(name, str(key))


def moved(entries: Mapping[Key, Entry], broken: frozenset[Key]) -> Iterator[tuple[Entry, Finding]]:
    """Renames whose former name is in use again, so that it is unclear which resource is meant."""
    for entry in entries.values():
        former = entry.manifest.metadata.annotations.get(MOVED_FROM)
        if former is None or former == entry.key.name:
            continue
        key = Key(entry.key.kind, former)
        if key in entries or key in broken:
            message = f"{MOVED_FROM} names {key}, which still exists"
            hint = "remove that manifest, or the annotation"
            yield entry, Finding(("metadata", "annotations", MOVED_FROM), "moved-from", message, hint)
