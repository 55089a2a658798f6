"""Virtual hosts that somebody made by hand, as Sites: what each serves, under which names, with which PHP."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reconciler.desired.kinds import Kind
from reconciler.importing import sizes
from reconciler.importing.draft import Draft, Note, shown
from reconciler.importing.names import Names, domain
from reconciler.kit.canonical import Json
from reconciler.kit.text import count
from reconciler.nodes.inventory import Host, Inventory, Pool
from reconciler.platforms import Platform

_EXPLAINED = frozenset({"server_name"})


@dataclass
class Group:
    """Virtual hosts that share names: one site, over HTTP and HTTPS."""

    hosts: list[Host]
    names: list[str] = field(default_factory=list)

    @property
    def serving(self) -> Host | None:
        """The host that shows something: HTTPS before HTTP, PHP before files."""
        serving = [host for host in self.hosts if host.php or host.proxy or (host.root and not host.redirect)]
        ranked = sorted(serving, key=lambda host: (not host.php, not host.proxy, not host.certificate))
        return ranked[0] if ranked else None


@dataclass
class Websites:
    """What became of the virtual hosts of a server; `php` are the versions that their sites use."""

    server: str
    platform: Platform
    drafts: list[Draft] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    php: set[str] = field(default_factory=set)


def take(
    found: Inventory, hosts: Iterable[Host], made: Websites, names: Names, taken: Iterable[str] = ()
) -> Websites:
    """Add sites of virtual hosts to `made`; domains in `taken` belong to other sites of the fleet."""
    groups = _groups(hosts, made.notes, set(taken))
    redirecting = []
    for group in groups:
        if group.serving is None:
            redirecting.append(group)
        else:
            made.drafts.append(_site(group, group.serving, found, names, made))
    for group in redirecting:
        _redirect(group, made)
    return made


def _groups(hosts: Iterable[Host], notes: list[Note], known: set[str]) -> list[Group]:
    """Hosts with a name in common belong together, whichever file they stand in; a name counts where it comes first."""
    groups: list[Group] = []
    owner: dict[str, Group] = {}
    for host in hosts:
        valid, odd = _valid_names(host)
        place = f"{shown(host.file)}:{host.line}"
        if odd:
            told = ", ".join(f"'{shown(name, 80)}'" for name in odd[:5]) + (", …" if len(odd) > 5 else "")
            notes.append(Note(place, f"no domain of a manifest: {told}"))
        clash = [name for name in valid if name in known]
        if clash:
            notes.append(Note(place, f"{clash[0]} belongs to another site of the fleet"))
        valid = [name for name in valid if name not in known]
        if not valid:
            if host.root or host.php or host.proxy:
                notes.append(Note(place, "not taken over: it has no name that a site could have"))
            continue
        group = next((owner[name] for name in valid if name in owner), None)
        if group is None:
            group = Group([])
            groups.append(group)
        group.hosts.append(host)
        for name in valid:
            if owner.setdefault(name, group) is group and name not in group.names:
                group.names.append(name)
    return groups


def _valid_names(host: Host) -> tuple[list[str], list[str]]:
    valid, odd = [], []
    for name in dict.fromkeys(host.names):
        found = domain(name)
        if found is not None:
            valid.append(found)
        elif name not in ("_", "", "localhost"):
            odd.append(name)
    return list(dict.fromkeys(valid)), odd


def _site(group: Group, host: Host, found: Inventory, names: Names, made: Websites) -> Draft:
    main, *aliases = group.names
    name = names.give(main, "site")
    spec: dict[str, Json] = {"server": made.server, "domain": main}
    if aliases:
        spec["aliases"] = list(aliases)
    draft = Draft(Kind.SITE, name, spec)
    draft.comments.append(f"Imported from {host.file}:{host.line}")
    pools = {pool.listen: pool for pool in found.pools if pool.listen}
    pool = next((pools[address] for address in _addresses(host.php) if address in pools), None)
    folder, below = _folder(host, found)
    spec["appType"] = _app_type(host, found)
    if host.php:
        spec["phpVersion"] = _version(pool, draft, made)
        if limits := _php(host, pool):
            spec["php"] = limits
    elif host.proxy:
        _proxy(host, draft, made)
    if below and spec["appType"] not in ("laravel", "proxy"):
        spec["documentRoot"] = below
    _tell(draft, host, pool, found, made)
    _tell_apply(draft, group, folder, pool, made)
    return draft


def _addresses(values: Iterable[str]) -> list[str]:
    """`unix:/run/x.sock` as pools write it, and `127.0.0.1:9000`."""
    return [value.removeprefix("unix:") for value in values]


def _app_type(host: Host, found: Inventory) -> str:
    marks = found.applications.get(host.root)
    if host.php:
        if marks and ("wp-config.php" in marks.here or "wp-config.php" in marks.above):
            return "wordpress"
        return "laravel" if marks and "artisan" in marks.above and _ends(host.root) == "public" else "generic"
    return "proxy" if host.proxy else "static"


def _ends(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _folder(host: Host, found: Inventory) -> tuple[str, str]:
    """The folder that becomes public_html, and what of the document root is below it."""
    root = host.root.rstrip("/")
    marks = found.applications.get(host.root)
    if (
        marks
        and ("composer.json" in marks.above or "artisan" in marks.above)
        and "composer.json" not in marks.here
    ):
        return posixpath.dirname(root), _ends(root)
    return root, ""


def _version(pool: Pool | None, draft: Draft, made: Websites) -> str:
    version = pool.version if pool else ""
    offered = made.platform.php_versions
    if version in offered:
        made.php.add(version)
        return version
    chosen = min(offered, key=lambda one: (one < version, one)) if version else offered[-1]
    seen = (
        f"PHP {shown(version, 10)} is not offered for {made.platform.name}"
        if version
        else "which PHP it uses is not known"
    )
    made.notes.append(Note(draft.address, f"{seen}; {chosen} is written: try the application with it first"))
    made.php.add(chosen)
    return chosen


def _php(host: Host, pool: Pool | None) -> dict[str, Json]:
    """Limits that are said; those of php.ini are not looked at."""
    limits = pool.limits if pool else {}
    given: dict[str, Json | None] = {
        "memoryLimit": sizes.size(limits.get("memory_limit", "")),
        "uploadMaxFilesize": sizes.size(limits.get("upload_max_filesize", "")) or sizes.size(host.body_limit),
        "maxExecutionTime": sizes.number(limits.get("max_execution_time", ""), 1, 3600),
        "maxChildren": sizes.number(pool.children, 1, 500) if pool else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _proxy(host: Host, draft: Draft, made: Websites) -> None:
    target = host.proxy[0]
    proxy: dict[str, Json] = {"upstream": target.replace("localhost", "127.0.0.1").rstrip("/")}
    if limit := sizes.size(host.body_limit):
        proxy["maxBodySize"] = limit
    draft.spec["proxy"] = proxy
    if len(set(host.proxy)) > 1:
        told = f"it hands requests on to {len(set(host.proxy))} places; only {shown(target)} is taken over"
        made.notes.append(Note(draft.address, told))


def _tell(draft: Draft, host: Host, pool: Pool | None, found: Inventory, made: Websites) -> None:
    """What is not in the manifest."""
    lost = [shown(other, 60) for other in host.others if other not in _EXPLAINED]
    if lost:
        made.notes.append(Note(draft.address, f"not taken over from the virtual host: {', '.join(lost)}"))
    if host.rules:
        made.notes.append(
            Note(draft.address, f"redirects within its locations are not taken over ({host.rules})")
        )
    if host.certificate:
        draft.comments.append(f"Its certificate was {host.certificate}, the key {host.key}")
        made.notes.append(
            Note(draft.address, f"answered over TLS with {shown(host.certificate)}: see spec.tls")
        )
    if pool and pool.variables:
        told = f"{count(pool.variables, 'variable')} of its pool ({shown(pool.file)}) are not read: put them into spec.env"
        made.notes.append(Note(draft.address, told))
    marks = found.applications.get(host.root)
    if marks and (".env" in marks.here or ".env" in marks.above):
        made.notes.append(Note(draft.address, "its .env is not read: put what it needs into spec.env"))
    account = found.accounts.get(pool.user) if pool else None
    if account and account.cron:
        draft.comments.append(f"Crontab of {pool.user if pool else ''}, not taken over (see spec.cron):")
        draft.comments += [f"  {line}" for line in account.cron]
        told = (
            f"{count(len(account.cron), 'line')} of the crontab of its user stand in the manifest as comments"
        )
        made.notes.append(Note(draft.address, told))


def _tell_apply(draft: Draft, group: Group, folder: str, pool: Pool | None, made: Websites) -> None:
    """What an apply would do beside what is there."""
    about, main = draft.address, group.names[0]
    if folder:
        was = f", which belong to {shown(pool.user, 40)}" if pool and pool.user else ""
        text = (
            f"an apply makes a new system user with /home/webN; the files of {shown(folder)}{was} have to be copied: "
            f"`rsync -a {shlex.quote(shown(folder) + '/')} /home/webN/public_html/ && chown -R webN: /home/webN/public_html` "
            "(`reconciler apply` names webN)"
        )
        made.notes.append(Note(about, text))
    ours = {
        made.platform.nginx.site_file.format(site=draft.name, domain=main),
        made.platform.nginx.enabled_link.format(site=draft.name, domain=main),
    }
    files = sorted({host.file for host in group.hosts})
    for file in files:
        if file in ours or posixpath.basename(file) in {posixpath.basename(one) for one in ours}:
            made.notes.append(Note(about, f"an apply replaces {shown(file)}: keep a copy"))
        else:
            text = f"{shown(file)} goes on answering for {main} until you remove it and reload the web server"
            made.notes.append(Note(about, text))


def _redirect(group: Group, made: Websites) -> None:
    """A host that only sends on: `www.` of a site or the other way round becomes `www`, another one is told of."""
    host = group.hosts[0]
    code, target = (host.redirect or ["", ""])[:2]
    place = f"{shown(host.file)}:{host.line}"
    goal = domain(target.partition("://")[2].partition("/")[0].partition("$")[0])
    for draft in made.drafts:
        main = str(draft.spec["domain"])
        if (
            goal == main
            and len(group.names) == 1
            and group.names[0] in (f"www.{main}", main.removeprefix("www."))
        ):
            draft.spec["www"] = "add" if main.startswith("www.") else "strip"
            return
    listed = ", ".join(group.names[:5])
    what = (
        f"sends {listed} on to {shown(target)} ({shown(code, 3)})"
        if target
        else f"shows nothing for {listed}"
    )
    made.notes.append(Note(place, f"{what}; not taken over"))


def unused(pools: Sequence[Pool], used: Iterable[str]) -> list[Note]:
    """Pools of php-fpm that no virtual host reaches."""
    taken = set(used)
    return [
        Note(
            shown(pool.file), f"the pool {shown(pool.name, 60)} serves none of these sites and stays as it is"
        )
        for pool in pools
        if pool.listen not in taken and pool.name != "www" and not pool.file.startswith("/etc/panel/")
    ]
