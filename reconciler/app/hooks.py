"""What a push means, told to whoever pushes: checked against the manifests, the branch's past and the signature policy.

Runs inside git's receive hooks: the objects of the push are still in quarantine. The daemon judges every revision itself;
a hook only says it earlier and to the right person.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from reconciler.app import planning
from reconciler.app.fleets import Revision
from reconciler.app.hook_settings import Push, Watch
from reconciler.desired import lineage, signatures, source
from reconciler.desired.problems import Problem
from reconciler.desired.readings import Readings
from reconciler.desired.signatures import Signers, Verdict
from reconciler.desired.signers import read as read_signers
from reconciler.desired.snapshot import load_snapshot
from reconciler.desired.source import Incoming
from reconciler.errors import ReconcilerError, SettingsFault, SourceFault
from reconciler.kit.text import count, short
from reconciler.plan.model import Plan
from reconciler.plan.offline import recorded_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reconciler.plan.recorded import Recorded


@dataclass(frozen=True)
class Review:
    """What is to be said of a push to a watched branch. `refusals` stop it, each with what to do in `hints`.

    `notes` do not. `plan` is None when it could not be made; `against` says what it compares with.
    """

    watch: Watch
    push: Push
    refusals: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    plan: Plan | None = None
    against: str = ""
    resources: int = 0


def review(repo: Path, push: Push, watch: Watch, state: Path | None, incoming: Incoming) -> Review:
    """Judge a push to a watched branch. What cannot be read is a refusal, never an exception of the tree."""
    if not push.new:
        return _refused(
            watch, push, "the branch cannot be deleted: the fleet follows it", "remove manifests instead"
        )
    try:
        how = lineage.advance(repo, push.old, push.new, incoming=incoming) if push.old else "forward"
        if how in ("rewritten", "behind"):
            said = (
                "takes commits back"
                if how == "behind"
                else f"does not follow from {short(push.old)}, its tip now"
            )
            hint = (
                "the fleet only goes forward: use `git revert`, or `git pull --rebase` when others were first"
            )
            return _refused(watch, push, f"{short(push.new)} {said}", hint)
        return _judged(repo, push, watch, state, incoming)
    except SourceFault as fault:
        return _refused(watch, push, fault.message, fault.hint)


def _refused(watch: Watch, push: Push, why: str, hint: str) -> Review:
    return Review(watch, push, (why,), (hint,) if hint else ())


def _judged(repo: Path, push: Push, watch: Watch, state: Path | None, incoming: Incoming) -> Review:
    reading = _Reading(repo, watch.path, incoming)
    after = reading.revision(push.new)
    before = _Before(reading, push.old)
    refusals: list[str] = []
    hints: list[str] = []
    if errors := after.loaded.errors:
        refusals.append(f"{count(len(errors), 'error')} in the manifests")
        hints.append("put them right and push again; `reconciler validate` finds them before")
    if not after.snapshot.files and (was := before.revision) is not None and was.snapshot.files:
        where = f"in {watch.path} " if watch.path else ""
        refusals.append(f"{short(push.new)} holds no manifest {where}any more")
        hints.append("an empty repository never means that everything is to go; remove resources one by one")
    verdicts, notes = _signed(repo, push, watch, before, incoming)
    if bad := signatures.refused(verdicts):
        refusals.append(
            f"{count(len(bad), 'commit')} not signed as the fleet's policy ({watch.policy}) asks for"
        )
        hints.append("sign with `git commit -S`, with a key that a User of the fleet has in `signingKeys`")
    plan, against = None, ""
    if not refusals:
        plan, against, more = _planned(after, before, watch, state)
        notes += more
    if before.note:
        notes = (*notes, before.note)
    return Review(
        watch,
        push,
        tuple(refusals),
        tuple(hints),
        after.loaded.problems,
        verdicts,
        notes,
        plan,
        against,
        len(after.loaded.fleet.entries),
    )


@dataclass
class _Reading:
    """Reads commits of one push; of a second one only what the first did not have."""

    repo: Path
    path: str
    incoming: Incoming
    readings: Readings = field(default_factory=Readings)
    known: dict[str, bytes] = field(default_factory=dict)

    def revision(self, commit: str) -> Revision:
        """A commit, read. SourceFault when it cannot be."""
        snapshot = source.read_commit(self.repo, commit, self.path, incoming=self.incoming, known=self.known)
        self.known |= {snapshot.ids[path]: content for path, content in snapshot.files.items()}
        return Revision(snapshot, load_snapshot(snapshot, self.readings))


@dataclass
class _Before:
    """The commit that the branch is at now; read only when something asks for it. `note` says why it cannot be."""

    reading: _Reading
    commit: str
    note: str = ""

    @cached_property
    def revision(self) -> Revision | None:
        """The revision; None when the branch is new or the commit cannot be read."""
        if not self.commit:
            return None
        try:
            return self.reading.revision(self.commit)
        except SourceFault as fault:
            self.note = f"the commit before cannot be read: {fault.message}"
            return None


def _signed(
    repo: Path, push: Push, watch: Watch, before: _Before, incoming: Incoming
) -> tuple[tuple[Verdict, ...], tuple[str, ...]]:
    """The verdicts that the policy asks for, by the keys known before this push."""
    if watch.policy == "none":
        return (), ()
    signers = Signers()
    try:
        if watch.signers is not None:
            signers = read_signers(watch.signers)
    except SettingsFault as fault:
        return (), (f"signatures are not checked here, but by the daemon: {fault.message}",)
    if (was := before.revision) is not None:
        signers = signers.with_users(was.loaded.fleet.users())
    commits: tuple[str, ...] = (push.new,)
    if push.old and watch.policy == "strict":
        commits = lineage.between(repo, push.old, push.new, incoming=incoming)
    return signatures.verify(repo, commits, watch.policy, signers, incoming=incoming), ()


def _planned(
    after: Revision, before: _Before, watch: Watch, state: Path | None
) -> tuple[Plan | None, str, tuple[str, ...]]:
    """The plan against what is recorded, else against the commit before; what it compares with; why not better."""
    recorded, why = _recorded(state, watch)
    notes: tuple[str, ...] = (f"not compared with what is applied: {why}",) if why else ()
    if recorded is not None:
        return planning.of(after, recorded), "what is applied", notes
    was = before.revision
    if was is None:
        return None, "", notes
    if not was.loaded.fleet.whole:
        return None, "", (*notes, "no plan: the commit before has errors, so nothing can be compared with it")
    return (
        planning.of(after, recorded_from(was.loaded, was.snapshot.commit)),
        "the commit before",
        notes,
    )


def _recorded(state: Path | None, watch: Watch) -> tuple[Recorded | None, str]:
    """What the state directory records of the fleet, or why this user cannot read it."""
    if state is None:
        return None, ""
    from reconciler.record import inventory  # noqa: PLC0415 - SQLAlchemy is slow to import
    from reconciler.store import open_state  # noqa: PLC0415

    try:
        with open_state(state) as store:
            return store.read(lambda tx: inventory.recorded(tx, watch.fleet)), ""
    except ReconcilerError as fault:
        return None, fault.message
