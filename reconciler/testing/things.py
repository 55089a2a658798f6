"""What is on a played node, and what each type of step makes of it: compared, carried out, put back.

A node's things are plain values by step key: the fields of the step that made them. A unit has `active` and `enabled`;
users and databases carry a `mark`, a number that a new one of the same name would not have. A database or login with
`foreign` was made by somebody else.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.agent.steps.databases import NOT_OURS
from reconciler.nodes.answers import Action, Difference, FieldChange

Step = Mapping[str, Any]
Thing = dict[str, Any]
Things = dict[str, Thing]

OWN_PLACES = ("/etc/panel/", "/home/", "/var/lib/panel-sites/", "/var/log/panel/")
"""Folders that only steps make: a file below one needs a step for the folder that holds it."""

_PATHS = ("file", "directory", "symlink")
_MARKED = ("user", "mariadb_database", "postgresql_database")
_PLAIN = {
    "package": ("installed",),
    "repository": ("installed",),
    "group": ("exists",),
}
_COMPARED = {
    "mariadb_database": ("charset", "collation"),
    "postgresql_database": ("owner",),
    "postgresql_setting": ("value",),
    "quota": ("bytes",),
    "file": ("sha256", "owner", "group", "mode"),
    "certificate": ("issuer", "names"),
    "directory": ("owner", "group", "mode"),
    "symlink": ("target",),
    "firewall": ("sha256",),
    "sshd": ("sha256",),
    "timezone": ("zone",),
    "swap": ("size",),
    "selinux_port": ("label",),
}
_NOTES = {
    "user": "the home is archived first",
    "mariadb_database": "it is dumped first",
    "postgresql_database": "it is dumped first",
}
_ADOPTABLE = ("mariadb_database", "mariadb_user", "postgresql_database", "postgresql_role")
_STILL_THERE = "it is still on the node"
_POSTGRESQL_ALL = ["CONNECT", "CREATE", "TEMPORARY"]


class StepFailed(Exception):
    """A step could not be carried out."""


@dataclass(frozen=True)
class Undo:
    """What a step found before it changed something. `before` are the things it touches, None for one that was not there;
    `possible` is false for what cannot be put back."""

    section: str
    step: Step
    before: Mapping[str, Thing | None]
    possible: bool

    @property
    def key(self) -> str:
        """The step's key."""
        return str(self.step["key"])


def absent(step: Step) -> bool:
    """Whether the step is a removal."""
    return step.get("state") == "absent"


def compare(things: Things, section: str, step: Step) -> Difference | None:
    """How a step's target differs, None when it is in sync; the agent's words and fields."""
    found = _compare(things, step)
    if found is None:
        return None
    action, changes, note = found
    return Difference(
        section, str(step["key"]), action, tuple(FieldChange(*change) for change in changes), note
    )


def body_of(step: Step, difference: Difference) -> str:
    """The sha256 of the body or password that carrying a difference out needs, empty when it needs none."""
    if difference.action == "delete":
        return ""
    fields = {change.field for change in difference.changes}
    match step["type"]:
        case "firewall" | "sshd":
            return str(step["sha256"])
        case "file" if difference.action == "create" or fields & {"sha256", "type"}:
            return str(step["sha256"])
        case "release" if difference.note != _STILL_THERE:
            return str(step["sha256"])
        case "mariadb_user" | "postgresql_role" if difference.action == "create" or "password" in fields:
            return str(step["password"])
        case _:
            return ""


_Found = tuple[Action, list[tuple[str, Any, Any]], str]


def _compare(things: Things, step: Step) -> _Found | None:
    kind = step["type"]
    if kind in _PATHS:
        return _compare_path(things, step)
    special = {
        "upgrade": _compare_upgrade,
        "unit": _compare_unit,
        "release": _compare_release,
        "web_server": _compare_web_server,
    }
    if kind in special:
        return special[kind](things, step)
    if kind.endswith("_grant"):
        return _compare_grant(things, step)
    now = things.get(step["key"])
    if kind == "hostname":
        was = now["name"] if now else ""
        return None if was == step["name"] else ("update", [("name", was, step["name"])], "")
    if kind == "module":
        was = now["stream"] if now else None
        if was == step["stream"] or f"package:{step['package']}" in things:
            return None
        return ("update" if was else "create", [("stream", was, step["stream"])], "")
    if kind == "postgresql_cluster":
        made = now is not None or step["setup"] == "none"
        return None if made else ("create", [("data", None, step["data"])], "")
    if kind in _PLAIN:
        if (now is not None) != absent(step):
            return None
        change = [(_PLAIN[kind][0], now is not None, now is None)]
        return ("delete" if absent(step) else "create", change, "")
    foreign = kind in _ADOPTABLE and now is not None and bool(now.get("foreign"))
    if absent(step):
        return None if now is None or foreign else ("delete", [], _NOTES.get(kind, ""))
    if now is None:
        return ("create", _created(step), "")
    changes = [*([("adopted", False, True)] if foreign else []), *_changes(now, step)]
    note = NOT_OURS if foreign and not step.get("adopt") else ""
    return ("update", changes, note) if changes else None


def version_of(package: Thing) -> str:
    """The version of an installed package; they are all of the same one until they are upgraded."""
    return str(package.get("version", "1.0-1"))


def _compare_upgrade(things: Things, step: Step) -> _Found | None:
    due = _due(things, step)
    changes = [(name, step["packages"][name], "newer") for name in due]
    return ("update", changes, "") if changes else None


def _due(things: Things, step: Step) -> list[str]:
    """The packages that have the version still from which they are to be upgraded."""
    there = {name: things.get(f"package:{name}") for name in sorted(step["packages"])}
    return [n for n, thing in there.items() if thing and version_of(thing) == step["packages"][n]]


def _carry_out_upgrade(things: Things, step: Step) -> None:
    for name in _due(things, step):
        thing = things[f"package:{name}"]
        if "newer" not in thing:
            raise StepFailed(f"no repository has a newer {name} than {step['packages'][name]}")
        thing["version"] = thing.pop("newer")


def _outgoing(step: Step) -> tuple[str, str]:
    """The units of the web server that goes and of the one that comes."""
    one, other = str(step["unit"]), str(step["instead_of"])
    return (one, other) if absent(step) else (other, one)


def _compare_web_server(things: Things, step: Step) -> _Found | None:
    old, new = _outgoing(step)
    states = zip(("active", "enabled"), unit_state(things, old), strict=True)
    changes = [(name, old, new) for name, is_so in states if is_so]
    return ("update", changes, "") if changes else None


def _created(step: Step) -> list[tuple[str, Any, Any]]:
    if step["type"] == "user":
        return [("home", None, step["home"])]
    return [(name, None, step[name]) for name in _COMPARED.get(step["type"], ()) if name in step]


def _changes(now: Thing, step: Step) -> list[tuple[str, Any, Any]]:
    kind = step["type"]
    if kind in ("mariadb_user", "postgresql_role"):
        return [] if now.get("password") == step["password"] else [("password", "other", "given")]
    names: tuple[str, ...] = _COMPARED.get(kind, ())
    if kind == "user":
        names = ("home", "shell", "comment", "groups", "home_group", "home_mode")
    found = []
    for name in names:
        if name not in step:
            continue
        was, wanted = now.get(name, [] if name == "groups" else ""), step[name]
        if name == "groups":
            was, wanted = sorted(was), sorted(wanted)
        if was != wanted:
            found.append((name, was, wanted))
    return found


def standing_at(things: Things, path: str) -> tuple[str, Thing] | None:
    """What stands at a path: `file`, `directory` or `symlink`, and its fields."""
    for kind in _PATHS:
        if (thing := things.get(f"{kind}:{path}")) is not None:
            return kind, thing
    for thing in things.values():
        if thing.get("home") == path:
            return "directory", thing
    return None


def _filled(things: Things, path: str) -> bool:
    return any(
        key.split(":", 1)[1].startswith(path + "/") for key in things if key.split(":", 1)[0] in _PATHS
    )


def _compare_path(things: Things, step: Step) -> _Found | None:
    kind, path = step["type"], step["path"]
    found = standing_at(things, path)
    if found is None:
        return None if absent(step) else ("create", _created(step), "")
    there, now = found
    if absent(step):
        if kind != "directory":
            return ("delete", [], "")
        if there != "directory":
            return ("delete", [], f"it is a {there}")
        return None if _filled(things, path) else ("delete", [], "")
    if there != kind:
        return ("update", [("type", there, kind)], "")
    if step.get("once"):
        return None
    changes = _changes(now, step)
    return ("update", changes, "") if changes else None


def unit_state(things: Things, name: str) -> tuple[bool, bool]:
    """Whether a unit is active and enabled; one that nothing is known of is neither."""
    thing = things.get(f"unit:{name}", {})
    return bool(thing.get("active")), bool(thing.get("enabled"))


def _compare_unit(things: Things, step: Step) -> _Found | None:
    now = dict(zip(("active", "enabled"), unit_state(things, step["name"]), strict=True))
    wanted = {name: False if absent(step) else step.get(name) for name in now}
    changes = [(n, now[n], wanted[n]) for n in now if wanted[n] is not None and wanted[n] != now[n]]
    if not changes:
        return None
    note = "" if unit_file(things, step["name"]) else "the unit file is not there yet"
    return ("delete" if absent(step) else "update", changes, note)


def unit_file(things: Things, name: str) -> bool:
    """Whether a unit's file is there; those that steps do not write come with packages."""
    if not name.startswith("panel-"):
        return True
    stem, at, rest = name.partition("@")
    names = {name, f"{stem}@.{rest.rpartition('.')[2]}"} if at else {name}
    return any(f"file:/etc/systemd/system/{one}" in things for one in names)


def _compare_release(things: Things, step: Step) -> _Found | None:
    now, wanted = things.get(step["key"]), [step["commit"], step["recipe"]]
    if now is None:
        return ("create", [("commit", None, step["commit"])], "")
    if [now["commit"], now["recipe"]] == wanted:
        return None
    note = "it is built in another way" if now["commit"] == step["commit"] else ""
    if wanted in now["kept"]:
        note = note or _STILL_THERE
    return ("update", [("commit", now["commit"], step["commit"])], note)


def _carry_out_release(things: Things, step: Step) -> None:
    """Of the releases that are kept a played node knows the commits and how each was made."""
    if not _folder_exists(things, f"{step['home']}/releases/new"):
        raise StepFailed(f"{step['home']}/releases: the folder does not exist")
    made = [step["commit"], step["recipe"]]
    others = [one for one in things.get(step["key"], {}).get("kept", []) if one != made]
    kept = [*others[-(step["keep"] - 1) :], made]
    things[str(step["key"])] = {"commit": step["commit"], "recipe": step["recipe"], "kept": kept}


def _compare_grant(things: Things, step: Step) -> _Found | None:
    held = list(things.get(step["key"], {}).get("privileges", []))
    wanted = [] if absent(step) else sorted(step["privileges"])
    changes: list[tuple[str, Any, Any]] = []
    if step["type"] == "postgresql_grant":
        if things.get(f"postgresql_database:{step['database']}", {}).get("owner") == step["role"]:
            return None
        wanted = _POSTGRESQL_ALL if wanted == ["ALL"] else wanted
        if (held == _POSTGRESQL_ALL) != (wanted == _POSTGRESQL_ALL):
            changes.append(("schema_public", held == _POSTGRESQL_ALL, wanted == _POSTGRESQL_ALL))
    if held == wanted:
        return None
    action: Action = "delete" if absent(step) else ("update" if held else "create")
    return (action, [("privileges", held, wanted), *changes], "")


def prepare_undo(things: Things, section: str, step: Step) -> Undo:
    """What is needed to put a step back, taken before `carry_out`."""
    kind, key = step["type"], str(step["key"])
    touched = [key]
    if kind in _PATHS:
        touched = [f"{one}:{step['path']}" for one in _PATHS]
    if kind == "upgrade":
        touched = [f"package:{name}" for name in step["packages"]]
    if kind == "web_server":
        touched = [f"unit:{_outgoing(step)[0]}"]
    before = {one: copy.deepcopy(things.get(one)) for one in touched}
    lasting = kind in ("package", "repository", "postgresql_cluster")
    removal = absent(step) and kind not in (
        *_PATHS,
        "unit",
        "web_server",
        "mariadb_grant",
        "postgresql_grant",
    )
    return Undo(section, dict(step), before, possible=not (lasting or removal))


def put_back(things: Things, undo: Undo) -> bool:
    """Undo a step that was carried out; false when that is not possible, and then nothing is changed."""
    if undo.step["type"] == "upgrade":  # a transaction is not taken back; true when there was none
        return all(things.get(key) == thing for key, thing in undo.before.items())
    if not undo.possible:
        return False
    was_there = undo.before.get(undo.key) is not None
    folder = {"directory": undo.step.get("path"), "user": undo.step.get("home")}.get(undo.step["type"])
    if folder and not was_there and _filled(things, folder):
        return False
    for key, thing in undo.before.items():
        if thing is None:
            things.pop(key, None)
        else:
            things[key] = copy.deepcopy(dict(thing))
    return True


def carry_out(things: Things, step: Step, mark: int) -> None:
    """Make true what `compare` asks for. `mark` is given to a new user or database. Raises StepFailed."""
    kind, key = step["type"], str(step["key"])
    if kind in _PATHS:
        _carry_out_path(things, step)
    elif kind in ("unit", "upgrade", "release"):
        own = {"unit": _carry_out_unit, "upgrade": _carry_out_upgrade, "release": _carry_out_release}
        own[kind](things, step)
    elif kind == "web_server":
        old = _outgoing(step)[0]
        things[f"unit:{old}"] = {"name": old, "active": False, "enabled": False}
    elif absent(step):
        thing = things.pop(key)
        if kind == "user":
            _remove_home(things, step, thing)
    else:
        wanted = {name: value for name, value in step.items() if name not in ("type", "key", "state")}
        if kind == "user" and not _folder_exists(things, step["home"]):
            raise StepFailed(f"cannot make {step['home']}: the folder does not exist")
        if kind in _ADOPTABLE and things.get(key, {}).pop("foreign", False) and not step.get("adopt"):
            things[key]["foreign"] = True
            raise StepFailed(f"the {kind.partition('_')[2]} {step['name']} exists on this node already and was not made by Reconciler")  # fmt: skip
        if kind.endswith("_grant"):
            wanted["privileges"] = sorted(step["privileges"])
            if kind == "postgresql_grant" and wanted["privileges"] == ["ALL"]:
                wanted["privileges"] = list(_POSTGRESQL_ALL)
        if kind in _MARKED:
            wanted["mark"] = things[key]["mark"] if key in things else mark
        things[key] = {**things.get(key, {}), **wanted}


def _remove_home(things: Things, step: Step, user: Thing) -> None:
    home = user["home"] + "/"
    for key in [key for key in things if key.partition(":")[2].startswith(home)]:
        del things[key]
    things.pop(f"group:{step['name']}", None)


def _folder_exists(things: Things, path: str) -> bool:
    """Whether the folder that holds a path is there."""
    folder = path.rpartition("/")[0]
    if not any(folder.startswith(place) for place in OWN_PLACES):
        return True
    found = standing_at(things, folder)
    return found is not None and found[0] == "directory"


def _carry_out_path(things: Things, step: Step) -> None:
    kind, path = step["type"], step["path"]
    found = standing_at(things, path)
    if absent(step):
        if found is not None and found[0] == "directory" and kind != "directory":
            raise StepFailed(f"{path} is a folder, not a file; it is left alone")
        for one in _PATHS:
            things.pop(f"{one}:{path}", None)
        return
    replaceable = ("directory",) if kind == "directory" else ("file", "symlink")
    if found is not None and found[0] not in replaceable:
        raise StepFailed(f"{path} is a {found[0]}, not a {kind}; it is left alone, move it aside")
    if not _folder_exists(things, path):
        verb = "write" if kind == "file" else "make"
        raise StepFailed(f"cannot {verb} {path}: the folder does not exist")
    for one in _PATHS:
        if one != kind:
            things.pop(f"{one}:{path}", None)
    things[f"{kind}:{path}"] = {n: v for n, v in step.items() if n not in ("type", "key", "state")}


def _carry_out_unit(things: Things, step: Step) -> None:
    name = step["name"]
    active, enabled = unit_state(things, name)
    if absent(step):
        things.pop(step["key"], None)
        return
    if step.get("active") and not active and not unit_file(things, name):
        raise StepFailed(f"{name} did not start: Unit {name} not found.")
    wanted = {"active": step.get("active"), "enabled": step.get("enabled")}
    now = {"active": active, "enabled": enabled}
    things[step["key"]] = {"name": name} | {n: now[n] if wanted[n] is None else wanted[n] for n in now}
