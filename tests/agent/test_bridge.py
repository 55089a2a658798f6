"""What the second caddy serves while web servers change: all that the first one does, on ports of its own."""

from __future__ import annotations

import json

import pytest

from reconciler.agent import bridge
from reconciler.agent.faults import StepFault


def test_the_second_caddy_serves_the_same_on_its_own_ports() -> None:
    routes = [{"match": [{"host": ["shop.test"]}], "terminal": True}]
    config = {
        "admin": {"listen": "unix//run/caddy/admin.sock"},
        "logging": {"logs": {"log0": {}}},
        "apps": {
            "http": {
                "grace_period": 30,
                "servers": {
                    "srv0": {"listen": [":80"], "routes": routes},
                    "srv1": {"listen": ["[::]:443", "127.0.0.1:9000"], "routes": []},
                    "srv2": {"listen": [":2020", "unix//run/x.sock"], "routes": []},
                },
            }
        },
    }
    before = json.dumps(config)
    moved = bridge._on_ports(config, {80: 40080, 443: 40443})
    assert json.dumps(config) == before
    servers = moved["apps"]["http"]["servers"]
    assert servers == {
        "srv0": {"listen": [":40080"], "routes": routes},
        "srv1": {"listen": ["[::]:40443"], "routes": []},
    }
    assert moved["admin"] == {"disabled": True}, "the socket is the first one's"
    assert moved["apps"]["http"]["grace_period"] == 30
    assert moved["logging"] == config["logging"]


def test_what_caddy_says_must_be_a_configuration() -> None:
    for text in ("", "null", "[]", "{"):
        with pytest.raises(StepFault, match="cannot be read"):
            bridge._object(text)


def test_ports_are_free_and_differ() -> None:
    ports = bridge._free_ports(2)
    assert len(set(ports)) == 2
    assert all(1024 < port < 65536 for port in ports)


def test_every_connection_of_a_change_is_tracked_in_a_zone_of_its_own() -> None:
    table = bridge._table([40080, 40443], 77)
    early, late = table.split("chain zone_incoming")[1], table.split("chain zone_incoming")[0]
    assert "ct zone" not in late
    assert early.count("ct zone set 77") == 3
    assert "tcp sport { 80, 443, 40080, 40443 } ct zone set 77" in early, "answers, whoever gives them"
    assert early.count("priority -300") == 2, "before the kernel tracks"
