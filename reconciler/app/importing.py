"""Importing a node: asking it, checking what came of it against the fleet, writing files, recording what is ours."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.app import enrolling, fleets, planning
from reconciler.app.settings import Settings
from reconciler.blueprint.model import Section
from reconciler.converge import access
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Database, Kind, Resource, Server
from reconciler.desired.kinds.common import Model
from reconciler.desired.problems import Source, printable
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.errors import SettingsFault, SourceFault, UsageFault
from reconciler.importing import Draft, Import, Note, Wish, fit, take
from reconciler.kit import canonical
from reconciler.kit.canonical import Json
from reconciler.kit.text import did_you_mean
from reconciler.nodes import hostkeys, keys, once
from reconciler.nodes.inventory import Inventory
from reconciler.nodes.pool import Pool
from reconciler.nodes.target import Target
from reconciler.plan import manifests, masking
from reconciler.record import conditions, resources
from reconciler.store import Store, Tx
from reconciler.store.queries import inventory, servers

REVISION = "imported"
"""What stands in the record where the commit would."""
_ROUNDS = 4


@dataclass(frozen=True)
class Here:
    """The fleet as it is: its files, and what they declare. Nothing at all is a fleet, too: it may be what was lost."""

    snapshot: Snapshot
    fleet: Fleet


def here(settings: Settings) -> Here:
    """The work tree, or the newest commit of a bare repository."""
    try:
        read = fleets.at_commit if (settings.fleet / "HEAD").is_file() else fleets.uncommitted
        revision = read(settings)
    except SourceFault:
        empty = Snapshot("none")
        return Here(empty, load_snapshot(empty).fleet)
    return Here(revision.snapshot, revision.loaded.fleet)


def only_key(known: Fleet) -> str:
    """The name of the fleet's only SSHKey, else `fleet`."""
    names = [key.name for key in known.ssh_keys()]
    return names[0] if len(names) == 1 else "fleet"


def wish(name: str, address: str, port: int, ssh_key: str) -> Wish:
    """What is asked for by hand. UsageFault for a name or address that no Server can have."""
    spec: dict[str, Json] = {"address": address, "os": "debian_12", "sshKey": ssh_key, "port": port}
    parsed = fit.parse(Draft(Kind.SERVER, name, spec))
    if not isinstance(parsed, Server):
        raise UsageFault(
            f"{printable(name)[:60]!r} at {printable(address)[:60]!r} with key {printable(ssh_key)[:60]!r} is no Server",
            hint="names are lower-case letters, digits and hyphens; the address is an IP address",
        )
    return Wish(name, parsed.spec.address, port, ssh_key)


def unknown(name: str, known: Sequence[str]) -> UsageFault:
    """The fault for a server that nothing tells of."""
    hint = did_you_mean(name, known) or "of a node that is not in the fleet, give --address"
    return UsageFault(f"neither the fleet nor the record has a Server {printable(name)[:60]!r}", hint=hint)


def shown(draft: Draft) -> str:
    """A draft's text as it may be printed: values that are sensitive are masked."""
    spec = masking.masked(draft.kind, draft.spec, ("spec",))
    return replace(draft, spec=dict(spec) if isinstance(spec, dict) else {}).text()


def declared(store: Store, known: Fleet, name: str) -> Server | None:
    """The Server as the fleet declares it, or as it was applied when the fleet is lost."""
    found = known.server(name)
    if found is not None:
        return found

    def recorded(tx: Tx) -> Server | None:
        entry = inventory.get(tx, Kind.SERVER.value, name)
        parsed = manifests.parse(Kind.SERVER, entry.spec) if entry is not None else None
        return parsed if isinstance(parsed, Server) else None

    return store.read(recorded)


def of_record(store: Store, settings: Settings, name: str, known: Fleet) -> Import | None:
    """The manifests that were applied to a server, from the record, when it has them; None when it was never applied.

    They are exactly those of before, so the next plan is empty.
    """

    def unit(tx: Tx) -> Import | None:
        entries = [e for e in inventory.all(tx, settings.name, [name]) if e.revision != REVISION]
        if not any((e.kind, e.name) == ("Server", name) for e in entries):
            return None
        drafts = []
        for entry in entries:
            kind = Kind(entry.kind)
            manifest = manifests.parse(kind, entry.spec)
            if manifest is None or Key(kind, entry.name) in known.entries:
                continue
            # a default that is written out may be refused beside what it has no meaning with
            spec = _given(manifest.spec, entry.spec.get("spec", {}))
            metadata = {k: v for k, v in entry.spec.get("metadata", {}).items() if v}
            drafts.append(Draft(kind, entry.name, spec, metadata=metadata))
        return Import(
            tuple(drafts), (Note("", "written as they were last applied, without what is the default"),)
        )

    return store.read(unit)


def _given(model: Model, raw: Mapping[str, Json]) -> dict[str, Json]:
    """The values of a recorded model, as they are recorded, less those that are the default."""
    found: dict[str, Json] = {}
    for name, field in type(model).model_fields.items():
        alias = field.alias or name
        value, was = getattr(model, name), raw.get(alias)
        if isinstance(value, Model) and isinstance(was, Mapping):
            inner = _given(value, was)
            if inner or field.is_required():
                found[alias] = inner
            continue
        default = field.get_default(call_default_factory=True)
        usual = list(default) if isinstance(default, tuple) else default
        if field.is_required() or was != usual:
            found[alias] = was
    return found


def enrolled(store: Store, server: Server) -> Inventory:
    """Ask a node that is enrolled. NodeFault's leaves, UsageFault without a key."""
    target = store.read(lambda tx: access.target(tx, server))

    async def ask() -> Inventory:
        async with Pool() as pool, pool.node(target) as node:
            return await node.inventory()

    return asyncio.run(ask())


def stranger(
    wish: Wish, operator: enrolling.Operator, accept: Callable[[Sequence[str]], bool]
) -> Inventory | None:
    """Ask a node over the operator's own access; nothing stays on it. None when its host keys are not accepted."""
    shown = asyncio.run(hostkeys.scan(wish.address, wish.port))
    if not accept([f"{line.split()[0]} {keys.fingerprint(line)}" for line in shown]):
        return None
    if not operator.identities:
        raise SettingsFault("there is no key to log in with", hint="name one with --identity FILE")
    private = [keys.read_identity(path) for path in operator.identities]
    target = Target(
        server=wish.name,
        address=wish.address,
        port=wish.port,
        user=operator.user,
        private_key=private[0],
        host_keys=tuple(shown),
    )
    return asyncio.run(once.inventory_once(target, private[1:]))


def make(found: Inventory, wish: Wish, known: Here) -> Import:
    """The import, less manifests that would not be valid in this fleet; each of those is told of."""
    made = take(found, wish, known.fleet)
    if known.fleet.get(Kind.SSH_KEY, wish.ssh_key) is None and made.drafts:
        key = Draft(Kind.SSH_KEY, wish.ssh_key, {}, comments=["The key that the daemon logs in with"])
        made = replace(made, drafts=(key, *made.drafts))
    return checked(made, known)


def lost(store: Store, name: str) -> bool:
    """Whether the state knows nothing that was applied to a server."""
    return store.read(lambda tx: inventory.get(tx, Kind.SERVER.value, name) is None)


def checked(made: Import, known: Here) -> Import:
    """Leave out what has problems, until what is left has none."""
    for _ in range(_ROUNDS):
        files = {f"imported/{draft.file}": draft.text().encode() for draft in made.drafts}
        loaded = load_snapshot(Snapshot(known.snapshot.commit, files={**known.snapshot.files, **files}))
        bad = {p.source.path: p for p in reversed(loaded.errors) if p.source.path in files}
        if not bad:
            return made
        left = [draft for draft in made.drafts if f"imported/{draft.file}" not in bad]
        told = [
            Note(draft.address, f"left out: {printable(bad[f'imported/{draft.file}'].message)}")
            for draft in made.drafts
            if f"imported/{draft.file}" in bad
        ]
        made = replace(made, drafts=tuple(left), notes=(*made.notes, *told))
    return made


@dataclass(frozen=True)
class Written:
    """Which files were written, and which were there already and are left as they are."""

    new: tuple[Path, ...]
    kept: tuple[Path, ...]


def write(made: Import, folder: Path) -> Written:
    """Write the manifests below a folder, 0644, never over a file. SettingsFault when that cannot be."""
    new, kept = [], []
    for draft in made.drafts:
        path = folder / draft.file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(draft.text())
        except FileExistsError:
            kept.append(path)
            continue
        except OSError as fault:
            raise SettingsFault(
                f"cannot write {path}: {fault.strerror}", hint="name another folder with --output-dir"
            ) from fault
        new.append(path)
    return Written(tuple(new), tuple(kept))


def record(store: Store, settings: Settings, made: Import, name: str, known: Fleet) -> tuple[str, ...]:
    """Put what Reconciler made on the node back into a state that lost it; the addresses that are recorded now.

    Sites keep their system users this way: a new number would be another site's home. What fits to the last step counts
    as applied; what does not is planned as a change. Nothing that is recorded already is touched. A server that this
    state has never enrolled is left alone. `known` is the fleet, which has the people who log in.
    """
    drafts = [draft for draft in (*made.known, *made.drafts) if draft.kind in (Kind.SERVER, Kind.SITE)]
    drafts.sort(key=lambda draft: draft.kind is not Kind.SERVER)

    def unit(tx: Tx) -> tuple[str, ...]:
        row = servers.get(tx, name)
        if row is None:
            return ()
        if made.highest:
            resources.reserve(tx, name, {"system_user": f"web{made.highest}"})
        ours = [d for d in drafts if made.managed and (d.kind is Kind.SERVER or d.identity)]
        done = [draft.address for draft in ours if _record(tx, settings, made, draft, name, known)]
        if f"{Kind.SERVER}/{name}" in done:
            _record_people(tx, settings, made, name, known)
        return tuple(done)

    return store.write(unit)


def _record(tx: Tx, settings: Settings, made: Import, draft: Draft, name: str, known: Fleet) -> bool:
    manifest = fit.parse(draft)
    if manifest is None or inventory.get(tx, draft.kind.value, draft.name) is not None:
        return False
    server = _server(tx, made, name)
    if server is None:
        return False
    databases = _databases(made, draft)
    steps: list[dict[str, Json]] = []
    if draft.address in made.adopted:
        section = _section(made, draft, manifest, server, databases, known)
        steps = [step.to_json() for step in section.steps] if section is not None else []
    _put(tx, settings, manifest, Source(draft.file, 1), steps, name, draft.identity)
    key = Key(draft.kind, draft.name)
    if steps and not databases:
        conditions.succeed(tx, key, REVISION, "found on the node as it would be applied")
        resources.set_state(tx, key, "ready")
        return True
    why = "its databases get new passwords" if steps else "the node has something else than the manifest says"
    conditions.fail(tx, key, REVISION, f"found on the node, to be applied once: {why}", stalled=False)
    return True


def _put(
    tx: Tx,
    settings: Settings,
    manifest: Resource,
    place: Source,
    steps: Sequence[dict[str, Json]] = (),
    server: str | None = None,
    identity: Mapping[str, str] | None = None,
) -> None:
    """The rows of a resource that counts as applied; `steps` where the node has what they make."""
    resources.put(tx, manifest, identity or {})
    value = manifests.to_json(manifest)
    inventory.put(
        tx,
        inventory.Applied(
            kind=manifest.kind,
            name=manifest.name,
            spec=value,
            digest=canonical.digest(value),
            steps=list(steps),
            revision=REVISION,
            path=place.path,
            line=place.line,
            server=server,
            identity=dict(identity or {}),
            fleet=settings.name,
            engine=planning.ENGINE if steps else "",
        ),
    )


def _record_people(tx: Tx, settings: Settings, made: Import, name: str, known: Fleet) -> None:
    """The Users that log in on a server, without which nothing could say what was applied there."""
    server = _server(tx, made, name)
    logins = {login.user for login in server.spec.logins} if server is not None else set()
    for person in fit.people((*made.known, *made.drafts), known):
        if person.name not in logins or inventory.get(tx, Kind.USER.value, person.name) is not None:
            continue
        place = known.locate(Key(Kind.USER, person.name), ())
        _put(tx, settings, person, place or Source(f"users/{person.name}.yaml", 1))
        conditions.succeed(tx, Key(Kind.USER, person.name), REVISION, "recorded")


def _section(
    made: Import,
    draft: Draft,
    manifest: Resource,
    server: Server,
    databases: Sequence[Database],
    known: Fleet,
) -> Section | None:
    """The section of a Server or Site in the form that records have."""
    all_ = (*made.known, *made.drafts)
    if isinstance(manifest, Server):
        return fit.server_section(manifest, fit.resources(all_, known))
    identities = {Key(draft.kind, draft.name): draft.identity}
    beside = [manifest, *databases, *fit.people(all_, known)]
    return fit.plan_form(server, beside, identities).get(draft.address)


def _databases(made: Import, draft: Draft) -> list[Database]:
    """The databases of a site, or those that a server lets others reach: the steps of either depend on them."""
    all_ = (fit.parse(d) for d in (*made.known, *made.drafts) if d.kind is Kind.DATABASE)
    found = [database for database in all_ if isinstance(database, Database)]
    if draft.kind is Kind.SERVER:
        return [d for d in found if d.spec.server == draft.name and d.spec.remote_access]
    return [d for d in found if d.spec.site == draft.name]


def _server(tx: Tx, made: Import, name: str) -> Server | None:
    listed = (*made.known, *made.drafts)
    drafted = next((fit.parse(d) for d in listed if d.kind is Kind.SERVER), None)
    if drafted is None:
        entry = inventory.get(tx, Kind.SERVER.value, name)
        drafted = manifests.parse(Kind.SERVER, entry.spec) if entry is not None else None
    return drafted if isinstance(drafted, Server) else None
