"""certificate: what the node shows for the site's domain, whether it is good for its names, and for how long."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime, timedelta
from functools import cache

from cryptography import x509

from reconciler.desired.certificates import covers, names_of
from reconciler.kit.clock import Clock, stamp
from reconciler.kit.text import count
from reconciler.loop.probes.checks import CertificateCheck
from reconciler.loop.probes.http import any_certificate
from reconciler.loop.probes.model import HealthTarget, Verdict, failed, passed

SECONDS = 10.0
"""How long the whole check may take."""


async def probe(target: HealthTarget, check: CertificateCheck, clock: Clock) -> Verdict:
    """Whether the certificate is good. Who issued it is told, and decides nothing."""
    if target.domain is None:
        return failed(f"{target.kind}/{target.name} has no domain to ask for")
    try:
        async with asyncio.timeout(SECONDS):
            shown = await _shown(target, target.domain, any_certificate())
            certificate = x509.load_der_x509_certificate(shown)
            problem = _problem(certificate, (target.domain, *target.aliases), check, clock())
            if problem:
                return failed(problem)
            issuer = await _issuer(target, target.domain, certificate)
    except TimeoutError:
        return failed(f"no certificate was shown within {SECONDS:g} s")
    except ssl.SSLError as error:
        return failed(
            f"no TLS at {target.address} port {target.https_port}: {error.reason or 'it broke off'}"
        )
    except OSError as error:
        why = error.strerror or "it broke off"
        return failed(f"no connection to {target.address} port {target.https_port}: {why}")
    except ValueError:
        return failed("the certificate that was shown cannot be read")
    left = _days(certificate.not_valid_after_utc - clock())
    return passed(f"valid for {count(left, 'day')}, until {stamp(certificate.not_valid_after_utc)}; {issuer}")


async def _shown(target: HealthTarget, domain: str, context: ssl.SSLContext) -> bytes:
    _, writer = await asyncio.open_connection(
        target.address, target.https_port, ssl=context, server_hostname=domain
    )
    try:
        found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if found is None:
        raise ValueError("no certificate")
    return found


def _problem(
    certificate: x509.Certificate, names: tuple[str, ...], check: CertificateCheck, now: datetime
) -> str:
    if now < certificate.not_valid_before_utc:
        return f"the certificate is not valid before {stamp(certificate.not_valid_before_utc)}"
    end = certificate.not_valid_after_utc
    if now > end:
        return f"the certificate expired at {stamp(end)}"
    covered = names_of(certificate)
    missing = [name for name in names if not any(covers(pattern, name) for pattern in covered)]
    if missing:
        good_for = ", ".join(covered[:5]) or "no name at all"
        return f"the certificate is not good for {', '.join(missing)}; it is for {good_for}"
    left = _days(end - now)
    if left < check.min_days:
        return f"the certificate ends in {count(left, 'day')}, at {stamp(end)}; expected {check.min_days} or more"
    return ""


async def _issuer(target: HealthTarget, domain: str, certificate: x509.Certificate) -> str:
    if certificate.issuer == certificate.subject:
        return "self-signed"
    try:
        await _shown(target, domain, await asyncio.to_thread(_trust))
    except ssl.SSLCertVerificationError as error:
        return f"not trusted here: {error.verify_message}"
    except (OSError, ValueError):
        return "its issuer could not be checked"
    return "trusted"


@cache
def _trust() -> ssl.SSLContext:
    # reads all certificates of the system, hence once and in a thread; names and dates were judged already
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


def _days(length: timedelta) -> int:
    return length // timedelta(days=1)
