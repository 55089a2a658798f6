"""Certificates of sites: self-signed, made here, or asked for at a CA by certbot. The keys never leave the node."""

import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

from .. import atomic, certificates, observe, places, process, walk
from ..certificates import Info, Pair
from ..faults import StepFault, Unissued, os_fault
from ..observe import World
from ..vocabulary import Step
from . import acme, paths
from .contract import Change, Finding, Handler, Run, absent, change

_DAY = 86400
_SELF_DAYS = 397  # more than that browsers do not believe, whoever issued it
_RENEW_SELF = 30 * _DAY
_RENEW_LATE = 5 * _DAY
"""certbot's own timer renews 30 days before the end (or after two thirds); this late something must be wrong with it."""


def _files(step: Step) -> List[str]:
    return [certificates.certificate_path(step["site"]), certificates.key_path(step["site"])]


class Certificates(Handler):
    """`certificate`: the pair in a site's folder below /etc/panel/tls."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare what the pair says, and for a CA's with what certbot has."""
        site = step["site"]
        try:
            pair = certificates.pair_of(site)
            if absent(step):
                there = any(walk.examine(path) for path in _files(step)) or certificates.directory_of(site)
                return Finding("delete", []) if there else None
            known = certificates.info(pair) if pair is not None else None
            if known is None:
                return Finding("create", [change(n, None, step[n]) for n in ("issuer", "names")])
            changes, note = _differences(step, known)
            if step["issuer"] == "acme":
                more, words = _of_lineage(step, pair)
                changes, note = changes + more, note or words
            changes += _metadata(step, world)
        except OSError as error:
            raise os_fault("look at", certificates.certificate_path(site), error) from None
        return Finding("update", changes, note) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The files that stand there."""
        return {"files": [paths.record(path, run) for path in _files(step)]}

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Put them back. What certbot has stays: the next attempt finds it."""
        done = [paths.restore(found, copies, run) for found in record["files"]]
        return all(done)

    def apply(self, step: Step, run: Run) -> None:
        """Make the pair, or have it issued. Raises StepFault; Unissued when the CA gives none."""
        site = step["site"]
        try:
            if absent(step):
                acme.forget(site, run)
                for path in _files(step):
                    with walk.parent_of(path) as parent:
                        paths.remove(parent)
                return
            if step["issuer"] == "self":
                acme.forget(site, run)
                _put(step, _self_signed(step, run))
                return
            _from_ca(step, run)
        except FileNotFoundError:
            if not absent(step):
                raise StepFault("the folder {}/{} is missing".format(certificates.FOLDER, site)) from None
        except OSError as error:
            raise os_fault("write", certificates.certificate_path(site), error) from None


def _differences(step: Step, known: Info) -> "tuple[List[Change], str]":
    changes, note = [], ""
    left = known.ends - time.time()
    own = step["issuer"] == "self"
    if own != known.self_signed:
        changes.append(change("issuer", "self" if known.self_signed else "acme", step["issuer"]))
    if sorted(known.names) != sorted(step["names"]):
        changes.append(change("names", known.names, step["names"]))
    if not known.fits:
        changes.append(change("key", "of another certificate", "of this one"))
    if left < (_RENEW_SELF if own else _RENEW_LATE):
        at = time.strftime("%Y-%m-%d", time.gmtime(known.ends))
        changes.append(change("ends", at, "later"))
        note = "it expired" if left <= 0 else "it ends in {:.0f} days".format(left // _DAY)
    return changes, note


def _of_lineage(step: Step, pair: Optional[Pair]) -> "tuple[List[Change], str]":
    directory = certificates.directory_of(step["site"])
    if directory and directory != step["directory"]:
        return [change("directory", directory, step["directory"])], ""
    kept = certificates.lineage_of(step["site"])
    if kept is None:
        return [change("lineage", None, certificates.lineage(step["site"]))], "certbot does not have it"
    if kept != pair:
        return [change("lineage", "renewed", "in use")], "what certbot has is not in use yet"
    return [], ""


def _metadata(step: Step, world: World) -> List[Change]:
    found = []
    for path in _files(step):
        info = walk.examine(path)
        if info is not None:
            wanted = {"owner": "root", "group": step["group"], "mode": "0640"}
            found += paths.metadata_changes(wanted, info, world)
    return found


def _put(step: Step, pair: Pair) -> None:
    """Key first: a pair that a power cut parted is found by the next check."""
    owner = atomic.Owner(observe.uid_of("root"), observe.gid_of(step["group"]), 0o640)
    for path, body in ((_files(step)[1], pair.key), (_files(step)[0], pair.certificate)):
        with walk.parent_of(path) as parent:
            info = walk.look(parent)
            paths.refuse_other_kind(info, path, "file")
            atomic.replace(parent, _writer(body), owner)


def _writer(body: bytes) -> "Any":
    return lambda target: atomic.write_all(target, body)


def _self_signed(step: Step, run: Run) -> Pair:
    """A new key on the curve P-256, and a certificate for it. Raises StepFault, OSError."""
    made = process.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout"], timeout=60)
    if not made.ok():
        raise StepFault("cannot make a private key: {}".format(made.reason("openssl ecparam")))
    key = made.out.encode("ascii", "replace")
    run.scrubber.learn_body(key)
    settings = "{}/certificate-{}.cnf".format(places.STATE, run.deployment)
    atomic.save_bytes(settings, _settings(step["names"]).encode("ascii"), durable=False)
    try:
        argv = ["openssl", "req", "-x509", "-new", "-sha256", "-days", str(_SELF_DAYS), "-key", "/dev/stdin"]
        done = process.run([*argv, "-config", places.real(settings)], stdin=key, timeout=60)
    finally:
        atomic.forget(settings)
    if not done.ok():
        raise StepFault("cannot make a certificate: {}".format(done.reason("openssl req")))
    return Pair(done.out.encode("ascii", "replace"), key)


def _settings(names: List[str]) -> str:
    """openssl's configuration, since `-addext` adds to whatever the system's own one says (a CA, for example)."""
    short = next((name for name in names if len(name) <= 64), "self-signed")
    listed = "\n".join("DNS.{} = {}".format(n, name) for n, name in enumerate(names, 1))
    return (
        "[req]\nprompt = no\ndistinguished_name = who\nx509_extensions = more\n[who]\nCN = {}\n[more]\n"
        "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n"
        "extendedKeyUsage = serverAuth\nsubjectKeyIdentifier = hash\nsubjectAltName = @names\n[names]\n{}\n"
    ).format(short, listed)


def _from_ca(step: Step, run: Run) -> None:
    """Have it issued, unless certbot has it already. Until then a site without any has a self-signed one."""
    site = step["site"]
    before = certificates.pair_of(site)
    known = certificates.info(before) if before is not None else None
    stands_in = known is not None and known.self_signed
    if not _good(step, certificates.lineage_of(site)):
        if known is None or (stands_in and sorted(known.names) != sorted(step["names"])):
            _put(step, _self_signed(step, run))
        try:
            acme.issue(step, run)
        except Unissued as fault:
            raise Unissued(str(fault), bearable=fault.bearable or stands_in) from None
    issued = certificates.lineage_of(site)
    if issued is None:
        raise StepFault(
            "certbot said that it has the certificate, but it is not in {}".format(acme.live(site))
        )
    _put(step, issued)
    with suppress(OSError):
        certificates.settled(site)


def _good(step: Step, kept: Optional[Pair]) -> bool:
    """Whether certbot has what is asked for."""
    known = certificates.info(kept) if kept is not None else None
    return (
        known is not None
        and known.fits
        and certificates.directory_of(step["site"]) == step["directory"]
        and sorted(known.names) == sorted(step["names"])
        and known.ends - time.time() >= _RENEW_LATE
    )
