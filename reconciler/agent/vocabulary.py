"""The closed vocabulary: which steps exist, which fields each has, and what a whole bundle must look like."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set

from . import fields
from .faults import Refusal

Step = Dict[str, Any]
MAX_STEPS = 50000
_MOST_UNITS = 5000


class Shape(NamedTuple):
    """Fields of one step type: `required` and `optional` by name, and the target that its key must name."""

    required: Dict[str, fields.Check]
    optional: Dict[str, fields.Check]
    target: Callable[[Step], str]


def _named(field: str) -> Callable[[Step], str]:
    return lambda step: str(step[field])


def _account(field: str, prefix: str = "") -> Callable[[Step], str]:
    """`name`, or `name@host` for an account that may come from elsewhere; behind the value of the field `prefix`, if any."""

    def target(step: Step) -> str:
        host = step["host"]
        name = str(step[field]) if host == "localhost" else "{}@{}".format(step[field], host)
        return "{}/{}".format(step[prefix], name) if prefix else name

    return target


_STATE = {"state": fields.one_of("present", "absent")}
_ADOPTED = dict(_STATE, adopt=fields.boolean)


def _validator(value: Any) -> None:
    shapes: Dict[str, Dict[str, fields.Check]] = {
        "nginx": {},
        "caddy": {},
        "sudoers": {},
        "php_fpm": {"binary": fields.fpm_binary, "config": fields.fpm_config, "user": fields.account},
    }
    if not isinstance(value, dict) or not isinstance(value.get("type"), str) or value["type"] not in shapes:
        raise ValueError("is not one of the known validators")
    wanted = shapes[value["type"]]
    if set(value) != set(wanted) | {"type"}:
        raise ValueError("has other fields than {}".format(sorted(wanted) or "type alone"))
    for name, check in wanted.items():
        try:
            check(value[name])
        except ValueError as error:
            raise ValueError("has a field {} that {}".format(name, error)) from None
    if ".." in value.get("config", ""):
        raise ValueError("has a config that is not normalised")


def _shape(
    required: Dict[str, fields.Check], optional: Dict[str, fields.Check], target: Callable[[Step], str]
) -> Shape:
    return Shape(required, optional, target)


# A removal needs only the target; the other fields of these types are required when the state is present.
SHAPES: Dict[str, Shape] = {
    "package": _shape({"name": fields.package}, dict(_STATE, software=fields.software), _named("name")),
    "upgrade": _shape(
        {"software": fields.software, "packages": fields.versions},
        {
            "reload": fields.list_of(fields.unit, most=_MOST_UNITS),
            "restart": fields.list_of(fields.unit, most=_MOST_UNITS),
            "validate": fields.nullable(_validator),
        },
        _named("software"),
    ),
    "repository": _shape(
        {"package": fields.package}, {"url": fields.nullable(fields.url)}, _named("package")
    ),
    "module": _shape(
        {"name": fields.module, "stream": fields.stream, "package": fields.package}, {}, _named("name")
    ),
    "hostname": _shape({"name": fields.host_name}, {}, lambda step: "node"),
    "group": _shape({"name": fields.new_account}, dict(_STATE, system=fields.boolean), _named("name")),
    "user": _shape(
        {"name": fields.new_account, "home": fields.home},
        dict(
            _STATE,
            home_mode=fields.folder_mode,
            home_group=fields.account,
            shell=fields.shell,
            groups=fields.list_of(fields.account, most=30),
            comment=fields.comment,
            claim=fields.boolean,
        ),
        _named("name"),
    ),
    "quota": _shape(
        {"user": fields.new_account, "path": fields.home},
        dict(_STATE, bytes=fields.number(1024, 2**53)),
        _named("user"),
    ),
    "directory": _shape(
        {"path": fields.path},
        dict(_STATE, owner=fields.account, group=fields.account, mode=fields.folder_mode),
        _named("path"),
    ),
    "file": _shape(
        {"path": fields.path},
        dict(
            _STATE,
            owner=fields.account,
            group=fields.account,
            mode=fields.file_mode,
            sha256=fields.sha256,
            size=fields.number(0, fields.MAX_BODY),
            secret=fields.boolean,
            once=fields.boolean,
            validate=fields.nullable(_validator),
        ),
        _named("path"),
    ),
    "symlink": _shape(
        {"path": fields.path},
        dict(_STATE, target=fields.link_target, validate=fields.nullable(_validator)),
        _named("path"),
    ),
    "unit": _shape(
        {"name": fields.unit},
        dict(
            _STATE,
            active=fields.nullable(fields.boolean),
            enabled=fields.nullable(fields.boolean),
            reload_on=fields.list_of(fields.key, most=MAX_STEPS),
            restart_on=fields.list_of(fields.key, most=MAX_STEPS),
        ),
        _named("name"),
    ),
    "release": _shape(
        {
            "site": fields.site,
            "user": fields.new_account,
            "home": fields.home,
            "commit": fields.commit,
            "recipe": fields.sha256,
            "sha256": fields.sha256,
            "size": fields.number(1, fields.MAX_BODY),
            "root": fields.release_root,
            "shared": fields.list_of(fields.release_path, most=100),
            "build": fields.boolean,
            "after": fields.boolean,
            "seconds": fields.number(1, 7200),
            "keep": fields.number(1, 100),
            "check": fields.nullable(fields.release_check),
        },
        {},
        _named("site"),
    ),
    "certificate": _shape(
        {"site": fields.certificate_site},
        dict(
            _STATE,
            issuer=fields.one_of("self", "acme"),
            names=fields.list_of(fields.dns_name, most=2000, least=1),
            group=fields.account,
            unit=fields.unit,
            email=fields.email,
            directory=fields.directory,
            trust=fields.boolean,
        ),
        _named("site"),
    ),
    "web_server": _shape(
        {
            "unit": fields.web_unit,
            "instead_of": fields.web_unit,
            "user": fields.account,
            "other_user": fields.account,
        },
        _STATE,
        lambda step: "node",
    ),
    "selinux_module": _shape(
        {"name": fields.policy_module},
        dict(_STATE, source=fields.policy_source, contexts=fields.nullable(fields.policy_source)),
        _named("name"),
    ),
    "selinux_booleans": _shape({"booleans": fields.booleans}, {}, lambda step: "node"),
    "selinux_port": _shape(
        {"port": fields.number(1, 65535), "label": fields.one_of("ssh_port_t")},
        {},
        lambda step: str(step["port"]),
    ),
    "selinux_labels": _shape(
        {"site": fields.server, "roots": fields.list_of(fields.label_root, most=8, least=1)},
        dict(_STATE, labels=fields.file_labels),
        _named("site"),
    ),
    "firewall": _shape(
        {"backend": fields.one_of("firewalld", "nftables")},
        dict(_STATE, sha256=fields.sha256, size=fields.number(0, fields.MAX_BODY)),
        lambda step: "node",
    ),
    "sshd": _shape(
        {"unit": fields.one_of("ssh.service", "sshd.service")},
        dict(
            _STATE,
            sha256=fields.sha256,
            size=fields.number(0, fields.MAX_BODY),
            expect=fields.sshd_settings,
        ),
        lambda step: "node",
    ),
    "timezone": _shape({"zone": fields.time_zone}, _STATE, lambda step: "node"),
    "swap": _shape({"size": fields.number(1, 2**50)}, _STATE, lambda step: "node"),
    "mariadb_database": _shape(
        {"name": fields.mariadb_name},
        dict(_ADOPTED, charset=fields.charset, collation=fields.charset),
        _named("name"),
    ),
    "mariadb_user": _shape(
        {"name": fields.mariadb_user, "host": fields.sql_host},
        dict(_ADOPTED, password=fields.sha256),
        _account("name"),
    ),
    "mariadb_grant": _shape(
        {"database": fields.mariadb_name, "user": fields.mariadb_user, "host": fields.sql_host},
        dict(_STATE, privileges=fields.privileges(fields.MARIADB_PRIVILEGES)),
        _account("user", "database"),
    ),
    "postgresql_cluster": _shape(
        {"data": fields.cluster_data, "setup": fields.one_of("el", "none")}, {}, lambda step: "main"
    ),
    "postgresql_setting": _shape(
        {"name": fields.one_of("listen_addresses")},
        dict(_STATE, value=fields.one_of("localhost", "*")),
        _named("name"),
    ),
    "postgresql_role": _shape(
        {"name": fields.postgresql_name}, dict(_ADOPTED, password=fields.sha256), _named("name")
    ),
    "postgresql_database": _shape(
        {"name": fields.postgresql_name}, dict(_ADOPTED, owner=fields.postgresql_owner), _named("name")
    ),
    "postgresql_grant": _shape(
        {"database": fields.postgresql_name, "role": fields.postgresql_name},
        dict(_STATE, privileges=fields.privileges(fields.POSTGRESQL_PRIVILEGES)),
        lambda step: "{}/{}".format(step["database"], step["role"]),
    ),
}

_NEEDED_WHEN_PRESENT = {
    "user": ("home_mode", "home_group", "shell"),
    "quota": ("bytes",),
    "directory": ("owner", "group", "mode"),
    "file": ("owner", "group", "mode", "sha256", "size"),
    "symlink": ("target",),
    "certificate": ("issuer", "names", "group", "unit"),
    "selinux_module": ("source",),
    "selinux_labels": ("labels",),
    "firewall": ("sha256", "size"),
    "sshd": ("sha256", "size", "expect"),
    "mariadb_user": ("password",),
    "mariadb_grant": ("privileges",),
    "postgresql_setting": ("value",),
    "postgresql_role": ("password",),
    "postgresql_database": ("owner",),
    "postgresql_grant": ("privileges",),
}


def _bad(where: str, what: str) -> Refusal:
    return Refusal(
        "bad_request", "{}: {}".format(where, what), "daemon and agent may be of different versions"
    )


def _shown(value: Any) -> str:
    """A hostile value in a message: printable, short."""
    return ascii(value)[:80]


def check_step(step: Any, where: str) -> None:
    """Raise Refusal (`bad_request`) unless the step is in the vocabulary."""
    if not isinstance(step, dict):
        raise _bad(where, "a step is an object")
    kind = step.get("type")
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise _bad(where, "unknown step type {}".format(_shown(kind)))
    unknown = sorted(set(step) - set(shape.required) - set(shape.optional) - {"type", "key"})
    if unknown:
        raise _bad(where, "unknown field {} of a {} step".format(_shown(unknown[0]), kind))
    needed: Set[str] = set(shape.required)
    if step.get("state", "present") == "present":
        needed.update(_NEEDED_WHEN_PRESENT.get(str(kind), ()))
        if kind == "certificate" and step.get("issuer") == "acme":
            needed.update(("email", "directory", "trust"))
    missing = sorted(needed - set(step))
    if missing:
        raise _bad(where, "a {} step needs the field {}".format(kind, missing[0]))
    for name, value in step.items():
        check = shape.required.get(name) or shape.optional.get(name)
        if check is None:
            continue
        try:
            check(value)
        except ValueError as error:
            raise _bad(where, "{} {} of a {} step {}".format(name, _shown(value), kind, error)) from None
    expected = "{}:{}".format(kind, shape.target(step))
    if step.get("key") != expected:
        raise _bad(where, "the key is {} but must be {}".format(_shown(step.get("key")), expected))


def check_bundle(bundle: Any) -> None:
    """Raise Refusal (`bad_request`) unless the bundle has the right shape and holds only known steps."""
    if not isinstance(bundle, dict) or bundle.get("format") != 1 or type(bundle.get("format")) is not int:
        raise _bad("bundle", "format 1 is the only one known")
    if set(bundle) - {"format", "server", "package_manager", "paths", "sections"}:
        raise _bad("bundle", "unknown field {}".format(_shown(sorted(set(bundle))[0])))
    _value("bundle.server", bundle.get("server"), fields.server)
    _value("bundle.package_manager", bundle.get("package_manager"), fields.one_of("dnf", "apt"))
    writable = _writable(bundle.get("paths"))
    sections = bundle.get("sections")
    if not isinstance(sections, list):
        raise _bad("bundle.sections", "is not a list")
    seen: Set[str] = set()
    keys: Set[str] = set()
    for section in sections:
        _check_section(section, seen, keys, writable)
        seen.add(section["id"])
    if len(keys) > MAX_STEPS:
        raise _bad("bundle", "more than {} steps".format(MAX_STEPS))


def _value(where: str, value: Any, check: fields.Check) -> None:
    try:
        check(value)
    except ValueError as error:
        raise _bad(where, "{} {}".format(_shown(value), error)) from None


def _writable(paths: Any) -> Optional[List[str]]:
    if paths is None:
        return None
    if not isinstance(paths, dict) or set(paths) != {"writable"}:
        raise _bad("bundle.paths", "has one field, writable")
    _value("bundle.paths.writable", paths["writable"], fields.list_of(fields.prefix, most=1000))
    return list(paths["writable"])


def _check_section(section: Any, seen: Set[str], keys: Set[str], writable: Optional[List[str]]) -> None:
    if not isinstance(section, dict) or set(section) != {"id", "needs", "steps"}:
        raise _bad("bundle.sections", "a section has the fields id, needs and steps")
    _value("section id", section["id"], fields.section)
    name = section["id"]
    if name in seen:
        raise _bad(name, "the section appears twice")
    _value(name + " needs", section["needs"], fields.list_of(fields.section, most=1000))
    for need in section["needs"]:
        if need not in seen:
            raise _bad(name, "needs {}, which is not an earlier section".format(need))
    if not isinstance(section["steps"], list):
        raise _bad(name, "steps is not a list")
    for position, step in enumerate(section["steps"]):
        check_step(step, "{} step {}".format(name, position + 1))
        if step["key"] in keys:
            raise _bad(name, "the key {} appears twice in the bundle".format(step["key"]))
        keys.add(step["key"])
        if writable is not None and "path" in step and not any(step["path"].startswith(p) for p in writable):
            raise _bad(name, "{} is outside paths.writable".format(step["path"]))
