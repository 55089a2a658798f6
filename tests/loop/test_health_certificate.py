"""certificate checks, against real TLS servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reconciler.desired.certificates import covers
from reconciler.loop.health import CertificateCheck, HealthTarget
from reconciler.loop.probes import certificate as probe_of
from reconciler.loop.probes.model import Verdict

from .health_servers import NOON, Certificate, answer, certificate, closed_port, silent_port, web


async def judged(
    shown: Certificate, *, days: int = 7, aliases: tuple[str, ...] = (), now: datetime = NOON
) -> Verdict:
    async with web(answer(), tls=shown.server_context()) as server:
        return await probe_of.probe(server.target(aliases=aliases), CertificateCheck(days), lambda: now)


async def test_a_certificate_with_days_to_go_passes_and_self_signed_is_noted(tmp_path: Path) -> None:
    verdict = await judged(certificate(tmp_path, ["shop.example.test"]))
    assert verdict.ok
    assert verdict.message == "valid for 90 days, until 2026-05-30T12:00:00Z; self-signed"


async def test_too_few_days_left_fail(tmp_path: Path) -> None:
    ends = NOON + timedelta(days=6, hours=23)
    verdict = await judged(certificate(tmp_path, ["shop.example.test"], end=ends))
    assert verdict.message == "the certificate ends in 6 days, at 2026-03-08T11:00:00Z; expected 7 or more"


async def test_exactly_enough_days_pass(tmp_path: Path) -> None:
    verdict = await judged(certificate(tmp_path, ["shop.example.test"], end=NOON + timedelta(days=7)))
    assert verdict.ok, verdict.message


async def test_an_expired_certificate_fails_by_the_clock_that_was_given(tmp_path: Path) -> None:
    shown = certificate(tmp_path, ["shop.example.test"])
    verdict = await judged(shown, now=NOON + timedelta(days=91))
    assert verdict.message == "the certificate expired at 2026-05-30T12:00:00Z"


async def test_a_certificate_of_the_future_fails(tmp_path: Path) -> None:
    shown = certificate(tmp_path, ["shop.example.test"], begin=NOON + timedelta(hours=1))
    verdict = await judged(shown)
    assert verdict.message == "the certificate is not valid before 2026-03-01T13:00:00Z"


async def test_a_certificate_for_another_name_fails(tmp_path: Path) -> None:
    verdict = await judged(certificate(tmp_path, ["other.example.test"]))
    assert (
        verdict.message == "the certificate is not good for shop.example.test; it is for other.example.test"
    )


async def test_each_alias_must_be_in_it(tmp_path: Path) -> None:
    shown = certificate(tmp_path, ["shop.example.test"])
    verdict = await judged(shown, aliases=("www.shop.example.test",))
    assert not verdict.ok
    assert "not good for www.shop.example.test;" in verdict.message


async def test_a_name_in_the_subject_alone_does_not_count(tmp_path: Path) -> None:
    verdict = await judged(certificate(tmp_path, []))
    assert "it is for no name at all" in verdict.message


@pytest.mark.parametrize(
    ("pattern", "name", "good"),
    [
        ("shop.example.test", "shop.example.test", True),
        ("SHOP.example.TEST", "shop.example.test", True),
        ("*.example.test", "shop.example.test", True),
        ("*.example.test", "a.shop.example.test", False),
        ("*.example.test", "example.test", False),
        ("*.test", "example.test", False),
        ("*", "shop.example.test", False),
        ("sh*.example.test", "shop.example.test", False),
        ("example.test", "shop.example.test", False),
        ("*.example.test", ".example.test", False),
    ],
)
def test_a_star_is_one_whole_label(pattern: str, name: str, good: bool) -> None:
    assert covers(pattern, name) is good


@pytest.fixture
def fresh_trust() -> Callable[[], None]:
    probe_of._trust.cache_clear()
    return probe_of._trust.cache_clear


async def test_an_issuer_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_trust: Callable[[], None]
) -> None:
    # judged by the machine's own clock, as OpenSSL does
    begin, end = datetime.now(NOON.tzinfo) - timedelta(days=1), datetime.now(NOON.tzinfo) + timedelta(days=90)
    root = certificate(tmp_path, ["root.example.test"], begin=begin, end=end, authority=True)
    shown = certificate(tmp_path, ["shop.example.test"], begin=begin, end=end, issuer=root)
    now = begin + timedelta(days=1)
    unknown = await judged(shown, now=now)
    fresh_trust()
    monkeypatch.setenv("SSL_CERT_FILE", str(root.file))
    known = await judged(shown, now=now)
    fresh_trust()
    assert unknown.ok
    assert unknown.message.endswith("; not trusted here: unable to get local issuer certificate")
    assert known.ok
    assert known.message.endswith("; trusted")


async def test_a_server_without_tls_fails() -> None:
    with silent_port(says=b"220 mail.example.test ESMTP\r\n") as port:
        target = HealthTarget("Site", "shop", "web1", "127.0.0.1", "shop.example.test", https_port=port)
        verdict = await probe_of.probe(target, CertificateCheck(), lambda: NOON)
    assert not verdict.ok
    assert verdict.message.startswith(f"no TLS at 127.0.0.1 port {port}: ")


async def test_no_server_fails() -> None:
    port = closed_port()
    target = HealthTarget("Site", "shop", "web1", "127.0.0.1", "shop.example.test", https_port=port)
    verdict = await probe_of.probe(target, CertificateCheck(), lambda: NOON)
    assert verdict.message.startswith(f"no connection to 127.0.0.1 port {port}: ")


async def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_of, "SECONDS", 0.3)
    with silent_port() as port:
        target = HealthTarget("Site", "shop", "web1", "127.0.0.1", "shop.example.test", https_port=port)
        async with asyncio.timeout(20):
            verdict = await probe_of.probe(target, CertificateCheck(), lambda: NOON)
    assert verdict.message == "no certificate was shown within 0.3 s"
