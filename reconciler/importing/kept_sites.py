"""Sites of a kept bundle, as the Sites that they were rendered from: tried, rendered, and compared with the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import get_args

from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind, Resource, Server, Site
from reconciler.desired.kinds.site import AppType
from reconciler.desired.kinds.source import Revision
from reconciler.importing import fit, site_units, vhost_caddy, vhost_nginx
from reconciler.importing.draft import Draft, Note
from reconciler.importing.kept import Managed
from reconciler.importing.vhost import Vhost, proxy_spec
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import Host, Inventory, KeptSection
from reconciler.selinux import mcs

_REPOSITORY = "https://repository.invalid/unknown"
"""Stands in a manifest that is rendered, never in one that is written."""


def take(
    kept: KeptSection,
    found: Inventory,
    manifest: Server,
    beside: Sequence[Resource],
    known: Fleet,
    made: Managed,
) -> None:
    """Add the site of a section to `made`; `beside` are the databases it needs and the people of its server, `manifest`."""
    name = kept.id.partition("/")[2]
    user = next((step.key.partition(":")[2] for step in kept.steps if step.key.startswith("user:")), "")
    if not user:
        return
    identity = {"system_user": user}
    if (number := mcs.of_user(user)) is not None:
        identity["mcs_id"] = str(number)

    def wrong(site: Site) -> list[str]:
        sections = fit.rendered(manifest, [site, *beside], {Key(Kind.SITE, name): identity})
        return fit.differing(sections.get(kept.id), kept)

    declared = made.declared(kept, known)
    if isinstance(declared, Site):
        draft = made.known[-1]
        draft.identity.update(identity)
        _judge(draft, wrong(_deployed(declared, kept, draft)), user, made)
        return
    vhost = _vhost(name, user, kept, found)
    if vhost is None:
        text = "its virtual host is not on the node any more; write the manifest by hand"
        made.notes.append(Note(kept.id, text))
        return
    best: tuple[list[str], dict[str, Json]] | None = None
    for spec in _candidates(name, user, kept, vhost, found, manifest):
        parsed = fit.parse(Draft(Kind.SITE, name, spec))
        if not isinstance(parsed, Site):
            continue
        differing = wrong(parsed)
        if best is None or len(differing) < len(best[0]):
            best = (differing, spec)
        if not differing:
            break
    if best is None:
        made.notes.append(Note(kept.id, "could not be read back from the node; write the manifest by hand"))
        return
    draft = Draft(Kind.SITE, name, best[1], identity=identity)
    draft.comments.append(
        "Found in what Reconciler applied to the node. Labels, drift and healthChecks are not on the node"
    )
    stands_in = (f"certificate:{name}", f"file:/etc/panel/tls/{name}/") if _provided(name, kept) else ()
    _judge(draft, [key for key in best[0] if not key.startswith(stands_in)], user, made)
    if stands_in:
        made.fitting.discard(draft.address)
    _not_told(draft, user, kept, vhost, found, made)
    made.drafts.append(draft)


def _deployed(site: Site, kept: KeptSection, draft: Draft) -> Site:
    """A declared site with the revision that is on the node, where its `source` could have led to that."""
    step, source = site_units.release(kept), site.spec.source
    if step is None or source is None or source.commit not in (None, step.values.get("commit")):
        return site
    values = {"commit": step.values.get("commit"), "archive": step.values.get("sha256"), "size": step.size}
    revision = Revision.model_validate(values)
    given = draft.spec.get("source")
    if isinstance(given, dict):
        draft.spec["source"] = {**given, "revision": dict(values)}
    deployed = source.model_copy(update={"revision": revision})
    return site.model_copy(update={"spec": site.spec.model_copy(update={"source": deployed})})


def _judge(draft: Draft, wrong: list[str], user: str, made: Managed) -> None:
    """Say what the manifest does not explain; a `.env` with lines that nobody knows is not to be written over."""
    env = f"file:/home/{user}/.env"
    if env in wrong and draft not in made.known:
        _suspend(
            draft,
            f"/home/{user}/.env holds variables that no manifest tells, and an apply would write",
            "it anew. Put them into spec.env, then take suspend away",
        )
        told = f"its .env is not read and holds more than the manifest tells: it is suspended until spec.env has what /home/{user}/.env holds"
        made.notes.append(Note(draft.address, told))
    made.unexplained(draft.address, [key for key in wrong if key != env or draft in made.known])
    if not wrong:
        made.fitting.add(draft.address)


def _suspend(draft: Draft, why: str, what: str) -> None:
    draft.spec["suspend"] = True
    draft.comments += [f"suspended: {why}", what]


def _has_welcome(user: str, kept: KeptSection) -> bool:
    """Whether a site has what those of type proxy have not: a welcome page, or a release."""
    head = f"file:/home/{user}/public_html/"
    return site_units.release(kept) is not None or any(step.key.startswith(head) for step in kept.steps)


def _not_told(
    draft: Draft, user: str, kept: KeptSection, vhost: Vhost, found: Inventory, made: Managed
) -> None:
    """What a node does not have, so that its first apply would take it away: the site is suspended until it is written."""
    if vhost.suspended:
        told = "it is suspended: its redirects and headers, whether it sends www. on, and which kind of application it is, do not stand on the node then; compare appType, www and redirects before it is made active"
        made.notes.append(Note(draft.address, told))
        if draft.spec.get("appType") != "proxy" and not _has_welcome(user, kept):
            made.fitting.discard(draft.address)
            _suspend(
                draft,
                "it was of appType proxy, and where its application listens is not on the node while",
                "its state is suspended. Write appType and proxy, then take suspend away",
            )
            told = "it was of appType proxy, and its upstream is not on the node: write appType and proxy, then take suspend away"
            made.notes.append(Note(draft.address, told))
    if not vhost.whole:
        told = "its virtual host is not as it was applied: redirects, headers, clientAddress and settings of TLS are not read back"
        made.notes.append(Note(draft.address, told))
    if (step := site_units.release(kept)) is not None:
        del draft.spec["source"]
        made.fitting.discard(draft.address)
        lines = site_units.source_told(draft.name, step, found)
        _suspend(
            draft,
            "it is deployed from a git repository, whose address is not on the node. Complete",
            "this, put it below spec, then take suspend away:",
        )
        draft.comments += [f"  {line}" for line in lines]
        told = "it is deployed from a git repository, whose address is not on the node: it is suspended until spec.source is written; the manifest has the rest as a comment"
        made.notes.append(Note(draft.address, told))
    if _provided(draft.name, kept):
        draft.spec.pop("tls", None)
        place = f"/etc/panel/tls/{draft.name}"
        _suspend(
            draft,
            f"its certificate was provided: put {place}/fullchain.pem into spec.tls.certificate and",
            f"{place}/privkey.pem, encrypted by `reconciler secrets encrypt`, into spec.tls.key; then take suspend away",
        )
        draft.comments += [f"  {line}" for line in _tls_lines(vhost)]
        told = f"its certificate was provided, and keys are never read: it is suspended until spec.tls has {place}/fullchain.pem and, encrypted by `reconciler secrets encrypt`, {place}/privkey.pem"
        made.notes.append(Note(draft.address, told))


def _tls_lines(vhost: Vhost) -> list[str]:
    spec = vhost.tls("provided")
    return [
        "tls:",
        *(
            f"  {name}: {value}".lower() if isinstance(value, bool) else f"  {name}: {value}"
            for name, value in spec.items()
        ),
    ]


def _vhost(name: str, user: str, kept: KeptSection, found: Inventory) -> Vhost | None:
    """The site's virtual host: from its file when that is as it was applied, else from what was found in it."""
    readers = {"file:/etc/nginx/": vhost_nginx.read, "file:/etc/panel/caddy/": vhost_caddy.read}
    for step in kept.steps:
        for head, read in readers.items():
            text = found.managed.files.get(step.key.removeprefix("file:"))
            if step.key.startswith(head) and text is not None and (vhost := read(text, user)) is not None:
                return vhost
    hosts = _hosts(kept, found)
    return _of_hosts(hosts, user) if hosts else None


def _of_hosts(hosts: Sequence[Host], user: str) -> Vhost:
    # of a site with TLS, what answers over HTTP sends on to HTTPS under the same names
    main = next((host for host in hosts if not host.redirect), hosts[-1])
    others = [
        host.names[0] for host in hosts if host.redirect and host.names and host.names[0] not in main.names
    ]
    vhost = Vhost(names=list(main.names), other=others[0] if others else "", whole=False)
    vhost.secured = any(host.certificate for host in hosts)
    if (host := next((host for host in hosts if host.proxy), None)) is not None:
        target = host.proxy[0].replace("http://unix:", "unix:", 1)
        vhost.proxy = proxy_spec(target, user, seconds=host.timeout, body=host.body_limit, websockets=False)
    return vhost


def _hosts(kept: KeptSection, found: Inventory) -> list[Host]:
    paths = {
        step.key.partition(":")[2]
        for step in kept.steps
        if step.key.startswith(("file:/etc/nginx/", "symlink:/etc/nginx/"))
    }
    mine = [host for host in found.hosts if host.file in paths]
    return mine or [host for host in found.hosts if serves(host, kept)]


def serves(host: Host, kept: KeptSection) -> bool:
    """Whether a virtual host leads to a site of ours, by its socket or its home: caddy does not say which file it is from."""
    site = kept.id.partition("/")[2]
    homes = [f"/home/{step.key.partition(':')[2]}/" for step in kept.steps if step.key.startswith("user:")]
    places = [host.root + "/", *(address.partition(":")[2] for address in (*host.php, *host.proxy))]
    return f"unix:/run/panel-fpm/{site}/php.sock" in host.php or any(
        home in place for home in homes for place in places
    )


def _candidates(
    name: str, user: str, kept: KeptSection, vhost: Vhost, found: Inventory, manifest: Server
) -> Iterator[dict[str, Json]]:
    """Manifests that may be meant: what the files tell, in every kind of application and state."""
    files = {step.key.rpartition("/")[2] for step in kept.steps if step.key.startswith("file:/etc/nginx/")}
    common: dict[str, Json] = {"server": manifest.name, **vhost.serving(files)}
    if source := _stand_in(name, kept, found):
        common["source"] = source
    common |= site_units.spec(name, user, kept, found)
    version = site_units.php_version(name, found)
    versions: list[str | None] = [version] if version else [None, *manifest.spec.software.php]
    root = site_units.document_root(user, kept)
    states = ["suspended", "active"] if vhost.suspended else ["active", "suspended"]
    for state, app, chosen in product(states, get_args(AppType), versions):
        spec: dict[str, Json] = {**common, "appType": app, **_tls(name, kept, vhost)}
        if chosen is not None:
            spec["phpVersion"] = chosen
        if app == "proxy":
            spec["proxy"] = vhost.proxy
        elif root and not (app == "laravel" and root == "public"):
            spec["documentRoot"] = root
        if state == "suspended":
            spec["state"] = state
        yield spec


def _tls(name: str, kept: KeptSection, vhost: Vhost) -> dict[str, Json]:
    """The field `tls`. Without its key no certificate that was provided can be declared; another kind stands for it."""
    step = next((one for one in kept.steps if one.key == f"certificate:{name}"), None)
    if step is None:
        return {"tls": vhost.tls("selfSigned")} if _provided(name, kept) else {}
    return {"tls": vhost.tls("acme" if step.values.get("issuer") == "acme" else "selfSigned")}


def _provided(name: str, kept: KeptSection) -> bool:
    return any(one.key == f"file:/etc/panel/tls/{name}/fullchain.pem" for one in kept.steps)


def _stand_in(name: str, kept: KeptSection, found: Inventory) -> dict[str, Json]:
    step = site_units.release(kept)
    if step is None:
        return {}
    values: dict[str, Json] = {"commit": step.values.get("commit"), "archive": step.values.get("sha256")}
    spec = site_units.source_spec(name, step, found)
    return {**spec, "repository": _REPOSITORY, "revision": {**values, "size": step.size}}
