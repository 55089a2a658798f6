"""Certificates on this node: what ours say, what certbot keeps of them, and how often a CA was asked in vain."""

import calendar
import hashlib
import json
import os
import re
import time
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional

from . import atomic, places, process, walk

FOLDER = "/etc/panel/tls"
WEBROOT = "/var/lib/panel-sites/acme"
LINEAGES = "/etc/letsencrypt"
_KNOWN = places.STATE + "/certificates.json"
_ASKED = places.STATE + "/certificates-asked.json"
_MOST = 512 * 1024
_WAITS = (120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0)
"""Seconds before a CA is asked again after so many failures: Let's Encrypt lets five an hour and name fail."""


class Info(NamedTuple):
    """What a certificate says. `ends` is an epoch; `fits` tells whether the key beside it is its own."""

    names: List[str]
    ends: int
    issuer: str
    self_signed: bool
    fits: bool


class Pair(NamedTuple):
    """A certificate with its chain, and its private key, as they are in their files."""

    certificate: bytes
    key: bytes


def certificate_path(site: str) -> str:
    """Where a site's certificate is."""
    return "{}/{}/fullchain.pem".format(FOLDER, site)


def key_path(site: str) -> str:
    """Where its key is."""
    return "{}/{}/privkey.pem".format(FOLDER, site)


def lineage(site: str) -> str:
    """What certbot calls a site's certificate."""
    return "panel-" + site


def pair_of(site: str) -> Optional[Pair]:
    """What stands in a site's folder; None when one of the two is missing. Raises StepFault, OSError."""
    return _pair(certificate_path(site), key_path(site))


def lineage_of(site: str) -> Optional[Pair]:
    """What certbot has for a site; None when it has nothing, or only one of the two. Raises StepFault, OSError."""
    live = "{}/live/{}".format(LINEAGES, lineage(site))
    found = [os.path.realpath(places.real(live + name)) for name in ("/fullchain.pem", "/privkey.pem")]
    below = os.path.realpath(places.real(LINEAGES)) + "/"
    if not all(path.startswith(below) for path in found):
        return None
    plain = [path[len(os.path.realpath(places.ROOT)) if places.ROOT else 0 :] for path in found]
    return _pair(*plain)


def _pair(certificate: str, key: str) -> Optional[Pair]:
    first, second = _read(certificate), _read(key)
    return Pair(first, second) if first is not None and second is not None else None


def _read(path: str) -> Optional[bytes]:
    try:
        with walk.parent_of(path) as parent:
            fd = walk.open_file(parent)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as source:
        return source.read(_MOST)


def directory_of(site: str) -> str:
    """The directory of the CA that certbot has a site's certificate from, empty when it has none."""
    path = places.real("{}/renewal/{}.conf".format(LINEAGES, lineage(site)))
    try:
        with open(path, "rb") as source:
            text = source.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(r"^server\s*=\s*(\S+)\s*$", text, re.M)
    return found.group(1) if found else "unknown"


def info(pair: Pair) -> Optional[Info]:
    """What a pair says; None when openssl cannot read the certificate. Known ones are not read again."""
    digest = hashlib.sha256(pair.certificate + b"\0" + pair.key).hexdigest()
    known = _load(_KNOWN)
    if digest in known:
        with suppress(TypeError):
            return Info(**known[digest])
    found = _ask_openssl(pair)
    if found is not None:
        rest = sorted(known.items(), key=lambda item: item[0])[-2000:]
        with suppress(OSError):  # it is only a memory
            atomic.save_json(_KNOWN, dict(rest, **{digest: dict(found._asdict())}), durable=False)
    return found


def _ask_openssl(pair: Pair) -> Optional[Info]:
    argv = ["openssl", "x509", "-noout", "-subject", "-issuer", "-enddate", "-nameopt", "RFC2253"]
    said = process.run([*argv, "-ext", "subjectAltName"], stdin=pair.certificate, timeout=30)
    fields = dict(re.findall(r"^(subject|issuer|notAfter)=\s*(.*)$", said.out, re.M))
    if not said.ok() or len(fields) != 3:
        return None
    public = process.run(["openssl", "x509", "-noout", "-pubkey"], stdin=pair.certificate, timeout=30)
    own = process.run(["openssl", "pkey", "-pubout"], stdin=pair.key, timeout=30)
    fits = public.ok() and own.ok() and public.out.strip() == own.out.strip()
    try:
        ends = calendar.timegm(time.strptime(fields["notAfter"], "%b %d %H:%M:%S %Y GMT"))
    except ValueError:
        return None
    names = [name.lower() for name in re.findall(r"DNS:([^,\s]+)", said.out)]
    return Info(names, ends, fields["issuer"], fields["subject"] == fields["issuer"], fits)


def listed() -> List[Dict[str, Any]]:
    """The certificates of this node's sites, by name: what the `hello` answer tells of them."""
    try:
        sites = sorted(os.listdir(places.real(FOLDER)))
    except OSError:
        return []
    found = []
    for site in sites:
        if site == "_":  # it is nobody's
            continue
        try:
            pair = pair_of(site)
        except Exception:  # noqa: BLE001, S112 (what stands in the way there is told by a check)
            continue
        known = info(pair) if pair is not None else None
        if known is not None:
            found.append(
                {
                    "site": site,
                    "names": known.names[:100],
                    "ends": known.ends,
                    "issuer": known.issuer[:200],
                    "self_signed": known.self_signed,
                }
            )
    return found[:2000]


# what a CA was asked


def request(step: Dict[str, Any]) -> str:
    """A digest of what is asked: another request is not made to wait for an old one's failures."""
    asked = [sorted(step["names"]), step["email"], step["directory"], step["trust"]]
    return hashlib.sha256(json.dumps(asked).encode("utf-8")).hexdigest()


def too_early(site: str, asked: str) -> str:
    """Why the CA must not be asked now, with what it said last; empty when it may be."""
    known = _load(_ASKED).get(site)
    if not isinstance(known, dict) or known.get("request") != asked:
        return ""
    wait = _WAITS[min(int(known["failures"]), len(_WAITS)) - 1]
    passed = time.time() - float(known["at"])
    if not 0 <= passed < wait:
        return ""
    again = time.strftime("%H:%M:%S UTC", time.gmtime(float(known["at"]) + wait))
    return "{} (the CA is asked again after {}, so as not to use up its limits)".format(known["said"], again)


def refused(site: str, asked: str, said: str) -> None:
    """The CA was asked in vain. Raises OSError."""
    known = _load(_ASKED)
    before = known.get(site)
    failures = 0
    if isinstance(before, dict) and before.get("request") == asked:
        failures = int(before["failures"])
    known[site] = {"request": asked, "failures": failures + 1, "at": time.time(), "said": said}
    atomic.save_json(_ASKED, known)


def settled(site: str) -> None:
    """The site has its certificate, or needs none any more. Raises OSError."""
    known = _load(_ASKED)
    if known.pop(site, None) is not None:
        atomic.save_json(_ASKED, known)


def _load(path: str) -> Dict[str, Any]:
    try:
        value = atomic.load_json(path)
    except (ValueError, OSError):
        return {}
    return value if isinstance(value, dict) else {}
