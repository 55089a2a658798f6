"""Rules that a fleet adds to a node's policy: read from one line each, and made the source of a module of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.selinux import labels

LOCAL = "panel_local"
"""Name of the module that they become."""

_WORD = r"[a-z][a-z0-9_]{0,63}"
_SOME = rf"(?:{_WORD}|\{{(?: {_WORD})+ \}})"
_RULE = re.compile(rf"(allow|dontaudit) ({_WORD}) ({_WORD}):({_SOME}) ({_SOME});\Z")
_OPENS = frozenset({"connectto", "ptrace", "transition", "dyntransition", "signal", "sigkill"})


@dataclass(frozen=True)
class Rule:
    """One `allow` or `dontaudit`; `target` may be `self`."""

    verb: str
    source: str
    target: str
    classes: tuple[str, ...]
    permissions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.verb} {self.source} {self.target}:{_set(self.classes)} {_set(self.permissions)};"


def parse(text: str) -> Rule:
    """The rule of a line such as `allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;`.

    Raises ValueError for anything else: attributes, macros, several rules, and what would open sites to each other where
    categories alone do not keep them apart.
    """
    match = _RULE.match(_spaced(text))
    if match is None:
        raise ValueError(
            "must be one rule such as allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;"
        )
    verb, source, target = match[1], match[2], match[3]
    rule = Rule(verb, source, target, _words(match[4]), _words(match[5]))
    between_sites = source in labels.SITE_DOMAINS and (target in labels.SITE_DOMAINS or target == "self")
    if verb == "allow" and between_sites and _OPENS & set(rule.permissions):
        raise ValueError("would open sites to each other: categories do not guard this on every system")
    return rule


def source_of(rules: Sequence[Rule]) -> str:
    """The source of the module, with everything it needs named, for `checkmodule`."""
    types = sorted({name for rule in rules for name in (rule.source, rule.target)} - {"self"})
    classes: dict[str, set[str]] = {}
    for rule in rules:
        for name in rule.classes:
            classes.setdefault(name, set()).update(rule.permissions)
    lines = ["# Managed by Reconciler; changes are overwritten.", f"module {LOCAL} 1.0.0;", "", "require {"]
    lines += [f"\ttype {name};" for name in types]
    lines += [f"\tclass {name} {{ {' '.join(sorted(classes[name]))} }};" for name in sorted(classes)]
    lines += ["}", "", *dict.fromkeys(str(rule) for rule in rules)]
    return "\n".join(lines) + "\n"


def _spaced(text: str) -> str:
    """With one space between words and around braces, and none before the semicolon at the end."""
    words = " ".join(re.sub(r"([{};])", r" \1 ", text).split()).replace(": {", ":{")
    return words.removesuffix(" ;") + ";" if words.endswith(" ;") else words


def _words(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(text.strip("{} ").split())))


def _set(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{{ {' '.join(words)} }}"
