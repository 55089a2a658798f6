"""What Reconciler itself made on a node whose manifests or state were lost: the manifests that render to the same steps."""

from __future__ import annotations

from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind, Server
from reconciler.importing import fit, kept_databases, kept_sites, server_spec
from reconciler.importing.draft import Draft
from reconciler.importing.kept import Managed
from reconciler.kit.canonical import Json
from reconciler.nodes.inventory import Inventory, KeptSection
from reconciler.plan import manifests
from reconciler.platforms import Platform

__all__ = ["Managed", "take"]


def take(
    head: Draft,
    declared: Server | None,
    found: Inventory,
    kept: KeptSection,
    platform: Platform,
    known: Fleet,
) -> Managed:
    """What the kept bundle, whose server's section is `kept`, was made of. `head` is the Server's draft and is completed;
    what `known` declares, as `declared`, is taken from there."""
    made = Managed()
    databases = kept_databases.take(found, head.name, known, made)
    if declared is not None:
        value = manifests.to_json(declared)["spec"]
        head.spec = dict(value) if isinstance(value, dict) else head.spec
        manifest: Server | None = declared
    else:
        manifest = _server(head, found, kept, platform, kept_databases.remote(databases), known, made)
    if manifest is None:
        return made
    for section in found.managed.sections:
        if section.id.startswith("Site/"):
            mine = [databases[need] for need in section.needs if need in databases]
            beside = [*mine, *fit.people(made.drafts, known)]
            kept_sites.take(section, found, manifest, beside, known, made)
    wrong = fit.differing(fit.server_section(manifest, fit.resources(made.all, known)), kept)
    made.unexplained(head.address, wrong)
    if not wrong:
        made.fitting.add(head.address)
    return made


def _server(
    head: Draft,
    found: Inventory,
    kept: KeptSection,
    platform: Platform,
    remote: list[tuple[int, str]],
    known: Fleet,
    made: Managed,
) -> Server | None:
    """Complete the Server's draft by what its steps and files tell; None when it is no valid manifest."""
    host = server_spec.read(head, found, kept, platform, remote)
    head.spec.update(host.spec)
    made.notes += host.notes
    made.drafts += [user for user in host.users if known.get(Kind.USER, user.name) is None]
    switches = server_spec.switches(kept, found.managed.files)
    best: tuple[int, Server, dict[str, Json]] | None = None
    for mode in dict.fromkeys((found.facts.selinux, "enforcing", "permissive", "disabled")):
        usual = mode == platform.selinux.declared(None)
        selinux: dict[str, Json] = {**({} if usual else {"mode": mode}), **switches}
        tried = fit.parse(Draft(Kind.SERVER, head.name, {**head.spec, "selinux": selinux}))
        if isinstance(tried, Server):
            section = fit.server_section(tried, fit.resources(made.drafts, known))
            wrong = len(fit.differing(section, kept))
            if best is None or wrong < best[0]:
                best = (wrong, tried, selinux)
    if best is None:
        return None
    if best[2]:
        head.spec["selinux"] = best[2]
    return best[1]
