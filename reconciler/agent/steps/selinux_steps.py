"""SELinux: policy modules built on the node, switches of the policy, and the labels of sites' files."""

import glob
import hashlib
import os
import re
import stat
from contextlib import suppress
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Pattern, Tuple

from .. import atomic, places, process, selinux, walk
from ..faults import StepFault, os_fault
from ..observe import World
from ..vocabulary import Step
from .contract import Change, Finding, Handler, Run, absent, change

FOLDER = places.STATE + "/selinux"
_SECONDS = 1200.0
_MOST_FILES = 50000
_KEPT = 3
_LITERAL = re.compile(r"(?:[^\[(.*+?\\^$|{]|\\.)*")


def _must_be_on(what: str) -> None:
    if not selinux.enabled():
        raise StepFault(
            "SELinux is off on this node, so {} cannot be set; boot it with SELinux, or set spec.selinux.mode to disabled".format(
                what
            )
        )


def _run(argv: List[str], run: Optional[Run], stdin: Optional[bytes] = None) -> None:
    done = process.run(argv, stdin=stdin, timeout=_SECONDS, listener=run.log if run is not None else None)
    if not done.ok():
        raise StepFault(done.reason(" ".join(argv[:2])))


class Modules(Handler):
    """`selinux_module`: built from a source on the node, so that every release's tools get a format they know."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Whether the store holds what was installed from these sources."""
        if absent(step):
            return (
                Finding("delete", [])
                if selinux.enabled() and selinux.installed_module(step["name"])
                else None
            )
        sources = _digest_of(step)
        known = atomic.load_json(_state(step["name"])) or {}
        now = selinux.installed_module(step["name"])
        if now and sources and known.get("sources") == sources and known.get("installed") == now:
            return None
        note = "another one is installed" if now else "it is not installed"
        return Finding(
            "update" if now else "create", [change("sources", known.get("sources"), sources)], note
        )

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Which sources the installed module was made of."""
        known = atomic.load_json(_state(step["name"])) or {}
        there = bool(selinux.enabled() and selinux.installed_module(step["name"]))
        return {"module": step["name"], "sources": known.get("sources") if there else None}

    def apply(self, step: Step, run: Run) -> None:
        """Build, install, and give what it speaks of its label. Raises StepFault."""
        _must_be_on("a policy module")
        name = step["name"]
        if absent(step):
            _run(["semodule", "-r", name], run)
            atomic.forget(_state(name))
            selinux.forget()
            return
        sources = _digest_of(step)
        if not sources:
            raise StepFault("the source {} is not there".format(step["source"]))
        _install(name, _build(step, sources, run), sources, run)
        contexts = step.get("contexts")
        if contexts:
            selinux.relabel(_named_paths(contexts), run.log)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Install what was installed before, or nothing."""
        name, sources = record["module"], record["sources"]
        if sources is None:
            if selinux.installed_module(name):
                _run(["semodule", "-r", name], run)
            atomic.forget(_state(name))
            selinux.forget()
            return True
        package = _package(name, sources)
        if not os.path.exists(places.real(package)):
            return False
        _install(name, package, sources, run)
        return True


def _state(name: str) -> str:
    return "{}/{}.json".format(FOLDER, name)


def _package(name: str, sources: str) -> str:
    return "{}/{}-{}.pp".format(FOLDER, name, sources[:16])


def _digest_of(step: Step) -> str:
    """A digest of the sources as they lie on the node; empty when one is missing. Raises StepFault."""
    digest = hashlib.sha256()
    for path in [step["source"]] + ([step["contexts"]] if step.get("contexts") else []):
        try:
            with open(places.real(path), "rb") as source:
                body = source.read()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise os_fault("read", path, error) from None
        digest.update("{} {}\n".format(os.path.basename(path), len(body)).encode("utf-8"))
        digest.update(body)
    return digest.hexdigest()


def _build(step: Step, sources: str, run: Run) -> str:
    """Compile; the path of the package."""
    real = places.real
    package = _package(step["name"], sources)
    compiled = "{}/{}.mod".format(FOLDER, step["name"])
    with suppress(FileExistsError):
        os.mkdir(places.real(FOLDER), 0o700)
    # format 19 is read by the tools of Enterprise Linux 8 and all later ones
    _run(["checkmodule", "-M", "-m", "-c", "19", "-o", real(compiled), real(step["source"])], run)
    extra = ["-f", real(step["contexts"])] if step.get("contexts") else []
    _run(["semodule_package", "-o", real(package), "-m", real(compiled), *extra], run)
    atomic.forget(compiled)
    return package


def _install(name: str, package: str, sources: str, run: Run) -> None:
    _run(["semodule", "-X", selinux.PRIORITY, "-i", places.real(package)], run)
    selinux.forget()
    now = selinux.installed_module(name)
    if not now:
        raise StepFault("semodule said that it installed {}, but the store does not hold it".format(name))
    atomic.save_json(_state(name), {"sources": sources, "installed": now})
    packages = glob.glob(places.real("{}/{}-*.pp".format(FOLDER, name)))
    for old in sorted(packages, key=os.path.getmtime)[:-_KEPT]:
        os.unlink(old)


def relabel_named(run: Run) -> None:
    """Give what our installed module speaks of its label: scripts of packages make things without. Raises StepFault."""
    contexts = "/etc/panel/selinux/panel.fc"
    if selinux.enabled() and selinux.installed_module("panel") and os.path.exists(places.real(contexts)):
        selinux.relabel(_named_paths(contexts), run.log)


def _named_paths(contexts: str) -> List[str]:
    """What the lines of a file of contexts speak of, without the homes: those have labels of their own."""
    found = []
    with open(places.real(contexts), "rb") as source:
        lines = source.read().decode("utf-8").splitlines()
    for line in lines:
        pattern = line.split("\t")[0].split(" ")[0]
        if not pattern.startswith("/"):
            continue
        match = _LITERAL.match(pattern)
        stem = match.group().replace("\\", "") if match else ""
        if match and pattern[match.end() :] in ("", "(/.*)?"):
            found.append(stem)
        elif stem.count("/") > 1:  # never a whole top folder
            found += [path[len(places.ROOT) :] for path in glob.glob(places.real(stem) + "*")]
    return sorted(set(found))


class Booleans(Handler):
    """`selinux_booleans`: switches of the policy, in the kernel and kept over a restart; all in one transaction."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare with the kernel's."""
        wanted = step["booleans"]
        changes: List[Change] = []
        for name in sorted(wanted):
            now = selinux.boolean(name)
            if now is not wanted[name]:
                changes.append(change(name, now, wanted[name]))
        return Finding("update", changes) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """How they stood."""
        return {"booleans": {name: selinux.boolean(name) for name in step["booleans"]}}

    def apply(self, step: Step, run: Run) -> None:
        """Set those that differ. Raises StepFault, also for a switch that the policy does not have."""
        _must_be_on("booleans")
        self._set(step["booleans"], run)

    def _set(self, wanted: Dict[str, bool], run: Run) -> None:
        words = []
        for name in sorted(wanted):
            now = selinux.boolean(name)
            if now is None:
                raise StepFault("the policy of this node has no boolean {}".format(name))
            if now is not wanted[name]:
                words.append("{}={}".format(name, "on" if wanted[name] else "off"))
        if words:
            _run(["setsebool", "-P", *words], run)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Back to what they were."""
        before = {name: value for name, value in record["booleans"].items() if value is not None}
        self._set({name: value for name, value in before.items() if selinux.boolean(name) is not None}, run)
        return True


class _Wanted(NamedTuple):
    expression: Pattern[str]
    context: str


class Labels(Handler):
    """`selinux_labels`: the contexts of a site's files in the policy of this node, and the files themselves."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the contexts, then the label of every file: one without its level is open to every site."""
        local = selinux.local_contexts()
        if absent(step):
            stale = _ours(local, step["roots"])
            return Finding("delete", [change("contexts", len(stale), 0)]) if stale else None
        changes: List[Change] = []
        missing = _missing(step, local)
        if missing:
            changes.append(change("contexts", len(step["labels"]) - missing, len(step["labels"])))
        wrong, first = _mislabelled(step)
        note = ""
        if wrong:
            changes.append(change("labels", "{} wrong".format(wrong), "0 wrong"))
            note = first
        return Finding("update", changes, note) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The site's contexts so far."""
        local = selinux.local_contexts()
        before = [[pattern, *local[pattern]] for pattern in _ours(local, step["roots"])]
        return {"roots": step["roots"], "contexts": before}

    def apply(self, step: Step, run: Run) -> None:
        """Set the contexts, for all sites of this apply that lack them at once, and relabel. Raises StepFault."""
        _must_be_on("labels")
        local = selinux.local_contexts()
        if absent(step):
            _import(_deletions(_ours(local, step["roots"]), local), run)
            return
        lines: List[str] = []
        for one in run.world.labels_of(step):
            if _missing(one, local):
                lines += _deletions(_ours(local, one["roots"]), local)
                lines += [_addition(label) for label in one["labels"]]
        _import(lines, run)
        selinux.relabel(step["roots"], run.log)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """The contexts of before, and the labels that go with them."""
        local = selinux.local_contexts()
        lines = _deletions(_ours(local, record["roots"]), local)
        for pattern, context, _ in record["contexts"]:
            parts = context.split(":", 3)
            lines.append(_addition({"pattern": pattern, "type": parts[2], "level": parts[3]}))
        _import(lines, run)
        selinux.relabel(record["roots"], run.log)
        return True


def _ours(local: Dict[str, List[str]], roots: Iterable[str]) -> List[str]:
    """The patterns that speak of what is at or below these roots."""
    found = []
    for pattern in local:
        plain = pattern.replace("\\", "")
        for root in roots:
            for place in (root, "/var" + root):
                if plain.startswith(place) and plain[len(place) :][:1] in ("", "(", "/"):
                    found.append(pattern)
                    break
    return list(dict.fromkeys(found))


def _missing(step: Step, local: Dict[str, List[str]]) -> int:
    """How many contexts are missing or different; all of them when they are not in their order, the last of which counts."""
    wanted = {label["pattern"]: _context(label) for label in step["labels"]}
    now = {pattern: local[pattern][0] for pattern in _ours(local, step["roots"])}
    if now == wanted and list(now) == list(wanted):
        return 0
    wrong = sum(1 for pattern, context in wanted.items() if now.get(pattern) != context)
    return wrong or len(wanted)


def _context(label: Dict[str, str]) -> str:
    return "system_u:object_r:{}:{}".format(label["type"], label["level"])


def _addition(label: Dict[str, str]) -> str:
    return "fcontext -a -f a -s system_u -t {} -r '{}' '{}'".format(
        label["type"], label["level"], label["pattern"]
    )


_FILE_KINDS = {"--": "f", "-d": "d", "-l": "l", "-s": "s", "-p": "p", "-b": "b", "-c": "c"}


def _deletions(patterns: Iterable[str], local: Dict[str, List[str]]) -> List[str]:
    return [
        "fcontext -d -f {} '{}'".format(_FILE_KINDS.get(local[pattern][1], "a"), pattern)
        for pattern in patterns
    ]


def _import(lines: List[str], run: Run) -> None:
    """One transaction of the policy's store, however many lines. Raises StepFault."""
    if not lines:
        return
    _run(["semanage", "import"], run, stdin=("\n".join(lines) + "\n").encode("utf-8"))
    selinux.forget()


def _mislabelled(step: Step) -> Tuple[int, str]:
    """How many things at and below the roots have another type or level than they should, and a word about the first."""
    wanted = [
        _Wanted(re.compile(label["pattern"] + r"\Z"), label["type"] + ":" + label["level"])
        for label in step["labels"]
    ]
    count, first, seen = 0, "", 0
    for root in step["roots"]:
        for path in _below(root):
            seen += 1
            if seen > _MOST_FILES:
                return count, first
            try:
                context = selinux.context_of(path)
            except OSError:
                continue  # it went away meanwhile
            due = _due(path, wanted)
            now = ":".join(context.split(":", 3)[2:])
            if due and now != due:
                count += 1
                first = first or "{} is {}, not {}".format(
                    ascii(path)[1:-1][:200], now or "without a label", due
                )
    return count, first


def _due(path: str, wanted: List[_Wanted]) -> str:
    """The type and level of a path: of the patterns that fit, the last counts."""
    for one in reversed(wanted):
        if one.expression.match(path) or one.expression.match("/var" + path):
            return one.context
    return ""


def _below(root: str) -> Iterable[str]:
    """A root and everything below it, links not followed, in order; nothing when it is not there or is a link."""
    info = walk.examine(root)
    if info is None or not stat.S_ISDIR(info.st_mode):
        return
    yield root
    prefix = len(places.ROOT)
    for folder, folders, files in os.walk(places.real(root)):
        folders.sort()
        for name in sorted(folders + files):
            yield os.path.join(folder, name)[prefix:]
