"""Whom caddy takes for the visitor behind load balancers: the networks as patterns are those of the ipaddress module."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.blueprint import caddy
from reconciler.desired.kinds.serving import Redirect

_V4 = st.ip_addresses(v=4).map(str)
_V6 = st.ip_addresses(v=6).map(str)


def _last(trusted: list[str], header: str) -> str | None:
    match = re.match(caddy.visitor(trusted), header)
    return match[1] if match else None


@given(_V4, st.integers(1, 32), _V4)
def test_an_ipv4_network_has_exactly_its_addresses(base: str, bits: int, address: str) -> None:
    network = ipaddress.ip_network(f"{base}/{bits}", strict=False)
    inside = str(network[-1])
    assert _last([str(network)], f"203.0.113.9, {inside}") in ("203.0.113.9", inside)
    assert (_last([str(network)], f"203.0.113.9, {inside}") == "203.0.113.9") is True
    trusted = ipaddress.ip_address(address) in network
    assert _last([str(network)], f"203.0.113.9, {address}") == ("203.0.113.9" if trusted else address)


@given(_V6, st.integers(1, 128), _V6, st.integers(0, 2**128 - 1))
def test_an_ipv6_network_never_has_an_address_of_another(
    base: str, bits: int, address: str, low: int
) -> None:
    network = ipaddress.ip_network(f"{base}/{bits}", strict=False)
    near = ipaddress.IPv6Address(int(network.network_address) ^ (low >> (bits // 2)))
    for one in (ipaddress.ip_address(address), near):
        found = _last([str(network)], f"203.0.113.9, {one}")
        assert found == str(one) or (found == "203.0.113.9" and one in network)


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("2001:db8::/32", "2001:db8::1"),
        ("2001:db8::/32", "2001:DB8:1:2:3:4:5:6"),
        ("fd00::/8", "fd12::9"),
        ("2001:db8:abc0::/42", "2001:db8:abff::1"),
        ("::1/128", "::1"),
    ],
)
def test_ipv6_addresses_of_load_balancers_are_known_as_they_are_written(network: str, address: str) -> None:
    assert _last([network], f"203.0.113.9, {address}") == "203.0.113.9"


@pytest.mark.parametrize(
    ("header", "visitor"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 198.51.100.7,10.0.0.1 , 10.2.3.4", "198.51.100.7"),
        ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("10.0.0.1.evil", None),
        ("evil, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, unknown", None),
        ("", None),
    ],
)
def test_the_visitor_is_the_last_one_who_is_no_load_balancer(header: str, visitor: str | None) -> None:
    assert _last(["10.0.0.0/8"], header) == visitor


def test_a_redirect_of_everything_leaves_the_challenge_of_certificates() -> None:
    rules = caddy.redirects([Redirect.model_validate({"from": "/*", "to": "https://new.test/*"})])
    first = next(rule for rule in rules if re.match(rule.pattern, "/.well-known/acme-challenge/x"))
    assert (first.to, first.status) == ("-", 0)
