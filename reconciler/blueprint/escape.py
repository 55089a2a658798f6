"""Values in configuration files: each function gives a text that cannot end the place it stands in.

Where a format has no way to write a value literally, the function raises ValueError instead of guessing: manifests
are validated long before, so such a value is a fault of ours and must not reach a node.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z0-9._@:+/-]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def word(value: object) -> str:
    """A value that stands bare in any format: a name, path, number or size of plain characters only."""
    text = str(value)
    if not _WORD.match(text):
        raise ValueError(f"{text!r} cannot stand unquoted in a configuration file")
    return text


def nginx(value: object) -> str:
    """A quoted string of nginx. A `$` would start a variable and cannot be escaped there (nginx: ngx_http_script.c)."""
    text = str(value)
    if "$" in text or _CONTROL.search(text):
        raise ValueError(f"{text!r} cannot stand literally in an nginx configuration")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def caddy(value: object) -> str:
    """One quoted token of a Caddyfile. What is in braces would be a variable there, so that braces are refused."""
    text = str(value)
    if "{" in text or "}" in text:
        raise ValueError(f"{text!r} cannot stand literally in a Caddyfile")
    return _caddy_token(text)


def caddy_pattern(value: object) -> str:
    """A regular expression of ours as one token of a Caddyfile: its braces stay, as they are no name of a variable."""
    return _caddy_token(str(value))


def caddy_text(value: object) -> str:
    """A text of ours, such as a page, whose braces caddy leaves alone because they hold no name of a variable."""
    text = str(value)
    if re.search(r"\{[$a-z0-9_.\[\]-]+\}", text):
        raise ValueError("a text for a Caddyfile has what caddy would take for a variable")
    return _caddy_token(text)


def _caddy_token(text: str) -> str:
    """In backticks all is literal; between double quotes a backslash is, unless a double quote follows (caddy: lexer.go)."""
    if _CONTROL.search(text) or "{$" in text:
        raise ValueError(f"{text!r} cannot stand literally in a Caddyfile")
    if "`" not in text:
        return f"`{text}`"
    if text.endswith("\\") or '\\"' in text:
        raise ValueError(f"{text!r} cannot stand literally in a Caddyfile")
    return '"' + text.replace('"', '\\"') + '"'


def ini(value: object) -> str:
    """A quoted string of php-fpm's configuration, whose scanner expands `${…}` and treats backslashes in its own way."""
    text = str(value)
    if re.search(r'["\\$]', text) or _CONTROL.search(text):
        raise ValueError(f"{text!r} cannot stand literally in a PHP configuration")
    return f'"{text}"'


def unit_text(value: object) -> str:
    """Free text of a unit file, such as a description: `%` doubled; a backslash could continue the line."""
    text = str(value)
    if "\\" in text or _CONTROL.search(text):
        raise ValueError(f"{text!r} cannot stand literally in a unit file")
    return text.replace("%", "%%")


def unit_argument(value: object) -> str:
    """One argument of `ExecStart=`, in quotes: taken as it is, without systemd's specifiers, variables and escapes."""
    text = str(value)
    if _CONTROL.search(text):
        raise ValueError(f"{text!r} cannot stand literally in a unit file")
    for sign, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(sign, written)
    return f'"{text}"'


def dotenv(value: object) -> str:
    r"""A double-quoted value of a `.env` file, with `\`, `"` and `$` escaped by a backslash.

    phpdotenv (Laravel), Symfony's Dotenv, systemd's `EnvironmentFile=` and PHP's `parse_ini_file` read it back
    exactly. It is not meant for a shell: a backtick is left as it is, because phpdotenv refuses an escape there.
    Raises ValueError for a line break or NUL.
    """
    text = str(value)
    if re.search(r"[\x00\r\n]", text):
        raise ValueError("a value of a .env file cannot hold a line break or NUL")
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


FILTERS = {
    "word": word,
    "nginx": nginx,
    "caddy": caddy,
    "caddy_pattern": caddy_pattern,
    "caddy_text": caddy_text,
    "ini": ini,
    "unit_text": unit_text,
    "unit_argument": unit_argument,
    "dotenv": dotenv,
}
"""Names under which the templates know these."""
