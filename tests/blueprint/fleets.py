"""Fleets for the tests, from YAML documents, with system users as an allocator would give them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import yaml

from reconciler.desired.fleet import Entry, Fleet, Key, Origin
from reconciler.desired.kinds import MODELS, Kind, Server
from reconciler.desired.problems import Source


def fleet_of(text: str) -> Fleet:
    """The fleet that YAML documents declare."""
    entries = {}
    for document in yaml.safe_load_all(text):
        model = MODELS[Kind(document["kind"])]
        manifest = model.model_validate_json(json.dumps({"apiVersion": "reconciler/v1", **document}))
        entry = Entry(manifest, Origin(Source("fleet.yaml")))  # type: ignore[arg-type]
        entries[entry.key] = entry
    return Fleet(entries)


def system_users(fleet: Fleet) -> Mapping[Key, Mapping[str, str]]:
    """`web1`, `web2`, … for the sites of each server, by name."""
    return {
        Key(Kind.SITE, site.name): {"system_user": f"web{number}"}
        for server in fleet.servers()
        for number, site in enumerate(fleet.sites(server.name), 1)
    }


def only_server(fleet: Fleet) -> Server:
    """The one server of a fleet."""
    (server,) = fleet.servers()
    return server
