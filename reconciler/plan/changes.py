"""Second half of planning: a draft and its rendered steps become a change with reason, place, risks and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from reconciler.blueprint.model import Step
from reconciler.blueprint.upgrading import restarts
from reconciler.desired.fleet import FieldPath, Key
from reconciler.desired.problems import Source
from reconciler.plan import reasons
from reconciler.plan.allocate import placeholders, shown, shown_identity
from reconciler.plan.diff import compare
from reconciler.plan.draft import Draft, references
from reconciler.plan.kinds import RULES, worst_first
from reconciler.plan.model import Action, Change, PlannedStep, Risk
from reconciler.plan.rendered import Rendered
from reconciler.plan.sections import SectionRenderer
from reconciler.plan.standing import Stand
from reconciler.plan.steps import checked_steps, removal_steps, step_changes, upgrade_steps


class Deciding:
    """Decides on one resource after another, with all drafts in sight."""

    def __init__(
        self,
        drafts: Mapping[Key, Draft],
        rendered: Rendered,
        identities: Mapping[Key, Mapping[str, str]],
        renderer: SectionRenderer,
        locate: Callable[[Key, FieldPath], Source | None],
    ) -> None:
        self._drafts = drafts
        self._rendered = rendered
        self._identities = identities
        self._renderer = renderer
        self._locate = locate
        self._named_by: dict[Key, list[Key]] = {}
        for draft in drafts.values():
            if draft.differs:
                for manifest in (draft.before, draft.after):
                    for named in references(draft.key, manifest):
                        if draft.key not in self._named_by.setdefault(named, []):
                            self._named_by[named].append(draft.key)

    def decide(self, draft: Draft) -> Change:
        """The change of one resource."""
        change = self._with_reason(draft)
        if risks := self._risks(change):
            change = replace(change, risks=risks)
        if placeholders(change.identity.values()):
            steps = tuple(
                PlannedStep(s.op, shown(s.key, change.identity), shown(s.summary, change.identity))
                for s in change.steps
            )
            change = replace(change, steps=steps, identity=shown_identity(change.identity))
        return change

    def _with_reason(self, draft: Draft) -> Change:
        match draft.action:
            case Action.CREATE:
                steps = step_changes((), self._steps(draft), (), self._renderer)
                return self._change(draft, "new", reasons.NEW, self._locate(draft.key, ()), steps)
            case Action.DELETE | Action.FORGET:
                found = draft.standing.recorded
                steps = self._removal(draft) if draft.action is Action.DELETE else ()
                reason = reasons.removed(draft.action, draft.key.kind)
                return self._change(draft, "removed", reason, found.source if found else None, steps)
            case Action.REPLACE:
                forcing = next(d for d in draft.diffs if d.forces_replacement)
                reason = reasons.changed(draft.diffs)
                return self._change(draft, "changed", reason, forcing.source, self._replacement(draft))
            case Action.UPDATE | Action.NO_OP if draft.standing.stand is Stand.WANTED:
                return self._kept_in_place(draft)
            case _:
                return self._left_alone(draft)

    def _kept_in_place(self, draft: Draft) -> Change:
        key, found, previous = draft.key, draft.standing.recorded, draft.standing.previous
        assert found is not None  # noqa: S101 - neither created nor left alone: it is recorded
        had, wanted = self._rendered.recorded(found), self._steps(draft)
        steps = () if wanted is had else step_changes(had, wanted, self._keep(draft), self._renderer)
        if found.failed or found.rotating:
            steps = self._looked_at_again(draft, steps)
        steps = (*upgrade_steps(found), *steps)
        if previous is not None:
            place = self._locate(key, ("metadata", "annotations", "reconciler/moved-from"))
            place = place or self._locate(key, ())
            return self._change(draft, "renamed", reasons.renamed(previous, draft.diffs), place, steps)
        if draft.diffs:
            return self._change(draft, "changed", reasons.changed(draft.diffs), draft.diffs[0].source, steps)
        place = self._locate(key, ())
        if found.failed:
            return self._change(draft, "retry", reasons.RETRY, place, steps, Action.UPDATE)
        if found.rotating:
            return self._change(draft, "rotation", reasons.ROTATION, place, steps, Action.UPDATE)
        if found.upgrading:
            reason = reasons.upgrade(found.upgrading)
            return self._change(draft, "upgrade", reason, place, steps, Action.UPDATE)
        if not steps:
            return self._change(draft, "unchanged", reasons.UNCHANGED, place, ())
        if causes := self._causes(draft):
            cause = self._drafts[causes[0]]
            place = cause.diffs[0].source if cause.diffs else self._place_of(cause)
            reason = reasons.dependency(causes)
            return self._change(draft, "dependency", reason, place, steps, Action.UPDATE)
        return self._change(draft, "engine", reasons.ENGINE, place, steps, Action.UPDATE)

    def _left_alone(self, draft: Draft) -> Change:
        standing = draft.standing
        place = self._locate(draft.key, ())
        if draft.action is Action.UPDATE:
            return self._change(draft, standing.code, reasons.SUSPENDED, draft.diffs[0].source, ())
        waiting = 0
        if standing.declared is not None and standing.recorded is not None:
            waiting = sum(1 for _ in compare(standing.recorded.manifest, standing.declared))
        place = place or (standing.recorded.source if standing.recorded else None)
        return self._change(draft, standing.code, reasons.waiting(standing.why, waiting), place, ())

    def _change(
        self,
        draft: Draft,
        code: str,
        reason: str,
        source: Source | None,
        steps: tuple[PlannedStep, ...],
        action: Action | None = None,
    ) -> Change:
        return Change(
            key=draft.key,
            action=action or draft.action,
            reason_code=code,
            reason=reason,
            server=draft.server,
            previous=draft.standing.previous,
            source=source,
            before=draft.before,
            after=draft.after,
            diffs=draft.diffs,
            steps=steps,
            identity=self._identities[draft.key],
            previous_server=draft.previous_server,
            retained=draft.retained,
        )

    def _steps(self, draft: Draft) -> tuple[Step, ...]:
        if draft.server not in self._rendered.scope:
            return self._rendered.recorded(draft.standing.recorded)
        return self._rendered.after.get(str(draft.key), ())

    def _place_of(self, draft: Draft) -> Source | None:
        found = draft.standing.recorded
        return self._locate(draft.key, ()) or (found.source if found else None)

    def _keep(self, draft: Draft) -> frozenset[str]:
        """Keys that stay on the node that the resource is on, or was on."""
        found = draft.standing.recorded
        names = {draft.previous_server or draft.server, found.server if found else None}
        return frozenset().union(*(self._rendered.keep.get(name, ()) for name in names if name))

    def _removal(self, draft: Draft) -> tuple[PlannedStep, ...]:
        found = draft.standing.recorded
        return removal_steps(self._rendered.recorded(found), self._keep(draft), self._renderer)

    def _replacement(self, draft: Draft) -> tuple[PlannedStep, ...]:
        """Old steps undone first unless the old object is retained; on another server all steps are new."""
        found = draft.standing.recorded
        stays = draft.previous_server is None and found is not None
        before = self._rendered.recorded(found) if stays else ()
        new = step_changes(before, self._steps(draft), (), self._renderer)
        made = tuple(step for step in new if step.op != "delete")
        if stays and found and found.failed:
            made = self._looked_at_again(draft, made)
        return made if draft.retained else (*self._removal(draft), *made)

    def _looked_at_again(self, draft: Draft, steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
        """`steps` and all others of a resource that failed: the record of an attempt does not tell what the node has."""
        touched = {step.key for step in steps}
        checked = checked_steps(self._steps(draft), self._renderer)
        return (*steps, *(step for step in checked if step.key not in touched))

    def _causes(self, draft: Draft) -> list[Key]:
        """The neighbours that change: those it names and those that name it."""
        named = [
            k for k in references(draft.key, draft.after) if k in self._drafts and self._drafts[k].differs
        ]
        return [*named, *(k for k in self._named_by.get(draft.key, ()) if k not in named)]

    def _risks(self, change: Change) -> tuple[Risk, ...]:
        rules = RULES[change.key.kind]
        risks: set[Risk] = set()
        match change.action:
            case Action.CREATE:
                risks.update(rules.on_create)
            case Action.DELETE:
                risks.update(rules.on_delete)
            case Action.REPLACE:
                risks.update(rules.on_replace)
                if not change.retained:
                    risks.update(rules.on_delete)
            case Action.UPDATE:
                risks.update(rules.risk(diff.path) for diff in change.diffs)
                if any(step.op == "delete" and _serves(step.key) for step in change.steps):
                    risks.add(Risk.RESTART)
                found = [step.key.partition(":") for step in change.steps]
                if any(kind == "upgrade" and restarts(piece) for kind, _, piece in found):
                    risks.add(Risk.RESTART)
            case Action.NO_OP | Action.FORGET:
                return ()
        if (triggers := self._rendered.triggers.get(change.server or "")) is not None:
            for step in change.steps:
                if step.op != "none":
                    risks.update(triggers.of(step.key))
        return worst_first(risks)


def _serves(key: str) -> bool:
    """Whether the step is of a unit that somebody may be waiting for; a cron job's is up now and then only."""
    return key.startswith("unit:") and not key.startswith("unit:panel-cron-")
