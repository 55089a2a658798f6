"""What an agent found on its node, as typed values (docs/protocol.md, `inventory`). Texts are the node's: judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import answers
from .answers import Facts, Malformed, Object


class _Found(BaseModel):
    """Fields that a newer agent may add are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Host(_Found):
    """A virtual host. `php` and `proxy` are addresses behind it, upstreams resolved; `others` names of directives that
    were not understood; `rules` counts redirects within locations; sizes are as they are written."""

    kind: str
    file: str
    line: int
    names: list[str]
    listen: list[str]
    root: str
    body_limit: str
    timeout: str
    certificate: str
    key: str
    php: list[str]
    proxy: list[str]
    redirect: list[str]
    front: bool
    rules: int
    others: list[str]


class Pool(_Found):
    """A pool of php-fpm; `variables` is the number of its `env[…]`, whose values are not told."""

    file: str
    name: str
    version: str
    listen: str
    user: str
    children: str
    limits: dict[str, str]
    variables: int


class Application(_Found):
    """Names of telling files in a document root and in the folder above, its owner, and where it really is."""

    here: list[str]
    above: list[str]
    uid: int
    real: str


class Account(_Found):
    """A system user with the lines of its crontab, secrets masked."""

    uid: int
    home: str
    shell: str
    cron: list[str]


class Rights(_Found):
    """What a user may do on a database."""

    user: str
    host: str
    privileges: list[str]


class FoundDatabase(_Found):
    """A database; `size` in bytes; `owner` is empty for MariaDB, which knows none."""

    engine: str
    name: str
    owner: str
    size: int
    charset: str
    collation: str
    grants: list[Rights]


class Httpd(_Found):
    """An Apache httpd: the number of files that configure it."""

    files: int = 0
    running: bool = False


class KeptStep(_Found):
    """A step of the kept bundle: digest of its canonical JSON without password and without the digest of a secret body.

    `values` are fields of a few types of steps (docs/protocol.md), none of them a secret.
    """

    key: str
    digest: str
    size: int = 0
    values: dict[str, Any] = Field(default_factory=dict)


class KeptSection(_Found):
    """A section of the kept bundle."""

    id: str
    needs: list[str]
    steps: list[KeptStep]


class Managed(_Found):
    """What Reconciler put there; `server` is empty when there is no kept bundle. `units`: values of its unit files; `files`:
    texts of its configuration files, by path, of those that are as they were applied."""

    server: str = ""
    sections: list[KeptSection] = Field(default_factory=list)
    units: dict[str, dict[str, str]] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)


class _Whole(_Found):
    hosts: list[Host]
    pools: list[Pool]
    applications: dict[str, Application]
    accounts: dict[str, Account]
    databases: list[FoundDatabase]
    httpd: Httpd
    managed: Managed
    notes: list[str]


@dataclass(frozen=True)
class Inventory:
    """Everything that an import is made from."""

    facts: Facts
    hosts: tuple[Host, ...] = ()
    pools: tuple[Pool, ...] = ()
    applications: Mapping[str, Application] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)
    databases: tuple[FoundDatabase, ...] = ()
    httpd: Httpd = field(default_factory=Httpd)
    managed: Managed = field(default_factory=Managed)
    notes: tuple[str, ...] = ()


def read(source: Object) -> Inventory:
    """The answer of an agent. Raises Malformed with the field's place."""
    facts = answers.facts(source.get("facts"))
    try:
        found = _Whole.model_validate(source)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"][:4])
        raise Malformed(f"inventory.{ascii(place)[1:80]} is missing or of another type") from None
    return Inventory(
        facts=facts,
        hosts=tuple(found.hosts),
        pools=tuple(found.pools),
        applications=found.applications,
        accounts=found.accounts,
        databases=tuple(found.databases),
        httpd=found.httpd,
        managed=found.managed,
        notes=tuple(found.notes),
    )
