"""Checks of single values that came over the wire. Each raises ValueError with a text that names what is allowed.

Every pattern is anchored with `\\Z` (never `$`, which lets a final newline through) and plain ASCII.
"""

import re
from typing import Any, Callable, FrozenSet, List, Optional, Tuple

Check = Callable[[Any], None]
_MOST_PACKAGES = 256

# Prefixes of everything that may be written; those without a final slash are completed by the rest of a name.
PREFIXES = (
    "/etc/nginx/",
    "/etc/caddy/Caddyfile",
    "/etc/panel/",
    "/etc/systemd/system/panel-",
    "/etc/systemd/system/nginx.service.d/panel-",
    "/etc/systemd/system/caddy.service.d/panel-",
    "/etc/systemd/system/certbot.service.d/panel-",
    "/etc/systemd/system/certbot-renew.service.d/panel-",
    "/etc/tmpfiles.d/panel-",
    "/home/",
    "/var/lib/panel-sites/",
    "/var/log/panel/",
    "/var/lib/pgsql/data/pg_hba.conf",
    "/etc/postgresql/",
    "/etc/my.cnf.d/",
    "/etc/mysql/mariadb.conf.d/",
    "/etc/php",
    "/etc/opt/remi/",
    "/etc/sudoers.d/panel-",
    "/etc/logrotate.d/panel-",
    "/etc/apt/apt.conf.d/52panel-",
    "/etc/fail2ban/jail.d/panel",
    "/etc/systemd/system/dnf-automatic.service.d/panel-",
)
# Folders that may be made themselves, beside what is below them.
FOLDERS = (
    "/etc/panel",
    "/var/log/panel",
    "/var/lib/panel-sites",
    "/etc/systemd/system/nginx.service.d",
    "/etc/systemd/system/caddy.service.d",
    "/var/log/caddy",
    "/etc/systemd/system/certbot.service.d",
    "/etc/systemd/system/certbot-renew.service.d",
    "/etc/systemd/system/dnf-automatic.service.d",
)
HOMES = ("/home/", "/var/lib/panel-sites/")

MAX_BODY = 64 * 1024 * 1024

_PATH = re.compile(r"/[A-Za-z0-9._@+=:,~/-]{1,1023}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")


def pattern(expression: str, what: str) -> Check:
    """A check that a value is a string that matches the whole expression."""
    compiled = re.compile(expression + r"\Z")

    def check(value: Any) -> None:
        if not isinstance(value, str) or not compiled.match(value):
            raise ValueError("is not {}".format(what))

    return check


def one_of(*allowed: Any) -> Check:
    """A check that a value is one of a few; True is not taken for 1."""

    def check(value: Any) -> None:
        if not any(value is item or (type(value) is type(item) and value == item) for item in allowed):
            raise ValueError("is not one of {}".format(", ".join(repr(item) for item in allowed)))

    return check


def list_of(item: Check, most: int, least: int = 0) -> Check:
    """A check that a value is a list without repetitions whose items pass a check."""

    def check(value: Any) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise ValueError("is not a list of {} to {} items".format(least, most))
        for entry in value:
            item(entry)
        if len(set(value)) != len(value):
            raise ValueError("names something twice")

    return check


def versions(value: Any) -> None:
    """Packages and the version of each."""
    if not isinstance(value, dict) or not 1 <= len(value) <= _MOST_PACKAGES:
        raise ValueError("is not an object of 1 to {} packages".format(_MOST_PACKAGES))
    for name, given in value.items():
        package(name)
        version(given)


def number(least: int, most: int) -> Check:
    """A check that a value is a whole number within bounds."""

    def check(value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise ValueError("is not a number from {} to {}".format(least, most))

    return check


def boolean(value: Any) -> None:
    """True or false."""
    if type(value) is not bool:
        raise ValueError("is not true or false")


def _normal_path(value: Any) -> str:
    if not isinstance(value, str) or not _PATH.match(value):
        raise ValueError("is not an absolute path of plain characters")
    parts = value.split("/")[1:]
    if any(part in ("", ".", "..") or len(part) > 255 for part in parts):
        raise ValueError("is not a normalised path")
    return value


def allowed(path: str) -> bool:
    """True when a normalised path may be written by this agent."""
    if path in FOLDERS:
        return True
    for prefix in PREFIXES:
        if prefix.endswith((".conf", "/Caddyfile")):
            if path == prefix:
                return True
        elif path.startswith(prefix) and len(path) > len(prefix):
            return True
    return False


def path(value: Any) -> None:
    """A path that steps may write: absolute, normalised, plain characters, below a built-in prefix."""
    if not allowed(_normal_path(value)):
        raise ValueError("is outside the folders that this agent may write")


def prefix(value: Any) -> None:
    """An entry of `paths.writable`: it must not reach beyond a built-in prefix."""
    if not isinstance(value, str) or not _PATH.match(value) or "/../" in value + "/" or "//" in value:
        raise ValueError("is not an absolute path of plain characters")
    if not any(value.startswith(known) for known in PREFIXES):
        raise ValueError("reaches beyond the folders that this agent may write")


policy_module = one_of("panel", "panel_local")
policy_source = pattern(r"/etc/panel/selinux/panel(_local)?\.(te|fc)", "a source of our policy modules")
_boolean_name = pattern(r"[a-z][a-z0-9_]{0,63}", "the name of a boolean")
_label_type = pattern(
    "site_content_t|laravel_(app_rw|env|php_fpm_run|redis_db|redis_run)_t", "one of the types of sites' files"
)
_label_level = pattern(r"s0:c[0-9]{1,4},c[0-9]{1,4}", "a level of two categories")
_label_pattern = re.compile(
    r"(/(?:[A-Za-z0-9_-]|\\[.-])(?:[A-Za-z0-9_/-]|\\[.-]|/releases/\[\^/\]\+(?=/))*)(\(/\.\*\)\?)?\Z"
)
_RUN = ("/run/panel-fpm/", "/run/panel-redis/")


def booleans(value: Any) -> None:
    """Switches of the policy by name."""
    if not isinstance(value, dict) or not 1 <= len(value) <= 200:
        raise ValueError("is not an object of 1 to 200 booleans")
    for name, switch in value.items():
        _boolean_name(name)
        boolean(switch)


def label_root(value: Any) -> None:
    """A folder whose contents are labelled: a home, or the run-time folder of a site."""
    text = _normal_path(value)
    if not any(text.startswith(known) and "/" not in text[len(known) :] for known in (*HOMES, *_RUN)):
        raise ValueError("is neither a home nor a site's folder in /run/panel-fpm or /run/panel-redis")


def file_labels(value: Any) -> None:
    """Which label goes to which paths: below homes and run-time folders only, with a site's types and two categories."""
    if not isinstance(value, list) or not 1 <= len(value) <= 100:
        raise ValueError("is not a list of 1 to 100 labels")
    for label in value:
        if not isinstance(label, dict) or set(label) != {"pattern", "type", "level"}:
            raise ValueError("has a label with other fields than pattern, type and level")
        _label_type(label["type"])
        _label_level(label["level"])
        text = label["pattern"]
        match = _label_pattern.match(text) if isinstance(text, str) and len(text) < 512 else None
        plain = match.group(1).replace("\\", "") if match else ""
        known = (*HOMES, *_RUN, *("/var" + run for run in _RUN))
        if ".." in plain or not any(plain.startswith(k) and len(plain) > len(k) for k in known):
            raise ValueError("has a pattern that is not below a home, /run/panel-fpm or /run/panel-redis")
    if len({label["pattern"] for label in value}) != len(value):
        raise ValueError("names a pattern twice")


def home(value: Any) -> None:
    """A home: below one of the folders made for homes."""
    text = _normal_path(value)
    if not any(text.startswith(known) and len(text) > len(known) for known in HOMES):
        raise ValueError("is not below {}".format(" or ".join(HOMES)))


def link_target(value: Any) -> None:
    """What a symbolic link points at: absolute, or relative with plain characters."""
    if not isinstance(value, str) or not re.match(r"[A-Za-z0-9._@+=:,~/-]{1,1023}\Z", value):
        raise ValueError("is not a path of plain characters")


def file_mode(value: Any) -> None:
    """Octal mode of a file, four digits; no set-user-id, set-group-id or sticky bit."""
    if not isinstance(value, str) or not re.match(r"0[0-7]{3}\Z", value):
        raise ValueError('is not an octal mode such as "0644" (no special bits)')


def folder_mode(value: Any) -> None:
    """Octal mode of a folder, four digits; set-group-id and sticky are allowed."""
    if not isinstance(value, str) or not re.match(r"[0123][0-7]{3}\Z", value):
        raise ValueError('is not an octal mode such as "0750"')


def _but_not(check: Check, refused: FrozenSet[str], what: str) -> Check:
    def both(value: Any) -> None:
        check(value)
        if value in refused or value.startswith("pg_"):
            raise ValueError("belongs to {}".format(what))

    return both


sha256 = pattern(_SHA256.pattern[:-2], "a lower-case sha256")
ulid = pattern(_ULID.pattern[:-2], "a ULID")
account = pattern(r"[a-z_][a-z0-9_-]{0,31}", "a plain account name")
new_account = _but_not(
    account,
    frozenset(["root", "daemon", "nobody", "panel", "postgres", "mysql", "nginx", "caddy"]),
    "the system",
)
package = pattern(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,127}", "a plain package name")
version = pattern(r"[A-Za-z0-9][A-Za-z0-9.+:~^_-]{0,255}", "the version of a package")
module = pattern(r"[a-z][a-z0-9-]{0,63}", "the name of a module")
stream = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", "the name of a stream")
software = pattern(
    r"php-[78]\.[0-9]|nginx|caddy|mariadb|postgresql|redis", "a piece of software such as php-8.2"
)
url = pattern(
    r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?/[A-Za-z0-9._~/+%-]{1,500}\.rpm",
    "an https URL of an .rpm file",
)
unit = pattern(
    r"[A-Za-z0-9][A-Za-z0-9_.\\-]{0,150}(@[A-Za-z0-9_.\\-]{1,100})?\.(service|socket|timer|path|slice|target)",
    "a full unit name",
)
web_unit = one_of("nginx.service", "caddy.service")
host_name = pattern(
    r"(?=.{1,64}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", "a host name"
)
dns_name = pattern(
    r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "a domain name"
)
certificate_site = pattern(r"_|[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", "a site's name")
email = pattern(r"[A-Za-z0-9][A-Za-z0-9.!#%&'*+/=?^_{|}~-]{0,63}@[a-z0-9.-]{1,189}", "an e-mail address")
directory = pattern(r"https://[A-Za-z0-9.:\[\]-]{1,300}/[A-Za-z0-9._~/%-]{0,300}", "an https URL")
shell = pattern(r"/(usr/)?s?bin/[a-z][a-z0-9-]{0,30}", "a shell")
comment = pattern(r"[A-Za-z0-9 ._@()/+-]{0,100}", "a comment of plain characters")
charset = pattern(r"[a-z0-9_]{1,64}", "a character set or collation name")
sql_host = pattern(r"[A-Za-z0-9%:][A-Za-z0-9.%:_/-]{0,59}", "a host pattern")
server = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", "a server name")
section = pattern(r"[A-Z][A-Za-z]{0,39}/[A-Za-z0-9][A-Za-z0-9._-]{0,199}", "a section id such as Site/shop")
key = pattern(r"[a-z_]{1,40}:[!-~]{1,1100}", "a step key")
fpm_binary = pattern(
    r"(/usr/sbin|/opt/remi/php[0-9]{2,3}/root/usr/sbin)/php-fpm[0-9.]{0,5}", "a php-fpm binary"
)
fpm_config = pattern(
    r"(/etc/panel/fpm|/etc/php|/etc/opt/remi)[A-Za-z0-9._/@-]{1,200}\.conf", "a php-fpm configuration"
)
cluster_data = pattern(
    r"/var/lib/(pgsql|postgresql)(/[A-Za-z0-9][A-Za-z0-9._-]{0,60}){1,4}", "a PostgreSQL data folder"
)

_identifier = pattern(r"[A-Za-z_][A-Za-z0-9_$-]{0,62}", "a plain database identifier")
mariadb_name = _but_not(
    _identifier, frozenset(["mysql", "information_schema", "performance_schema", "sys"]), "the MariaDB server"
)
mariadb_user = _but_not(_identifier, frozenset(["root", "mysql", "mariadb"]), "the MariaDB server")
postgresql_owner = _but_not(_identifier, frozenset(["template0", "template1", "public"]), "PostgreSQL")
postgresql_name = _but_not(
    _identifier, frozenset(["postgres", "template0", "template1", "public"]), "PostgreSQL"
)

MARIADB_PRIVILEGES = (
    "ALL",
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EVENT",
    "TRIGGER",
)
POSTGRESQL_PRIVILEGES = ("ALL", "CONNECT", "CREATE", "TEMPORARY")


time_zone = pattern(r"[A-Z][A-Za-z0-9_+-]{0,39}(/[A-Za-z0-9_+-]{1,40}){0,2}", "a time zone")
_sshd_word = pattern(r"[a-z]{1,40}", "a keyword of sshd")
_sshd_value = pattern(r"[A-Za-z0-9@._-]{1,100}", "a plain value")


def sshd_settings(value: Any) -> None:
    """What `sshd -T` must say: values by lower-case keyword."""
    if not isinstance(value, dict) or not len(value) <= 20:
        raise ValueError("is not an object of at most 20 settings")
    for word, wanted in value.items():
        _sshd_word(word)
        list_of(_sshd_value, most=50, least=1)(wanted)


def privileges(known: Tuple[str, ...]) -> Check:
    """A list of privileges, or ALL alone."""
    listed = list_of(one_of(*known), most=len(known), least=1)

    def check(value: Any) -> None:
        listed(value)
        if "ALL" in value and len(value) > 1:
            raise ValueError("names ALL beside others")

    return check


site = pattern(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", "the name of a site")
commit = pattern(r"[0-9a-f]{40}([0-9a-f]{24})?", "the id of a commit")
_domain = pattern(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?", "a domain")
_request = pattern(r"/([!-\"$-.0-~][!-\"$-~]{0,1022})?", "the path of a request")
_php_socket = pattern(r"/run/panel-fpm/[a-z0-9-]{1,48}/php\.sock", "the socket of a site's PHP")
_phrase = pattern(r"[^\x00-\x1f\x7f-\x9f]{1,1024}", "a text of one line")


def release_path(value: Any) -> None:
    """A path below a release."""
    if not isinstance(value, str) or not re.match(r"[A-Za-z0-9._@+=,~/-]{1,200}\Z", value):
        raise ValueError("is not a relative path of plain characters")
    if any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError("is not a normalised relative path")


def release_root(value: Any) -> None:
    """The folder of a release that is served; an empty text for the release itself."""
    if value != "":
        release_path(value)


def release_check(value: Any) -> None:
    """The request that tells whether a release works: where it goes, and what is right."""
    shape = {
        "host": _domain,
        "path": _request,
        "scheme": one_of("http", "https"),
        "status": nullable(list_of(number(100, 599), most=100, least=1)),
        "contains": nullable(_phrase),
        "seconds": number(1, 300),
        "patience": number(1, 300),
        "socket": nullable(_php_socket),
    }
    if not isinstance(value, dict) or set(value) != set(shape):
        raise ValueError("has other fields than {}".format(", ".join(sorted(shape))))
    for name, check in shape.items():
        try:
            check(value[name])
        except ValueError as error:
            raise ValueError("has a field {} that {}".format(name, error)) from None


def nullable(item: Check) -> Check:
    """A check that lets null through."""

    def check(value: Any) -> None:
        if value is not None:
            item(value)

    return check


def section_list(value: Any) -> Optional[List[str]]:
    """The `sections` of a request: null or a list of ids. Raises ValueError."""
    if value is None:
        return None
    list_of(section, most=100000)(value)
    return list(value)
