"""Asking a CA for a certificate, through certbot and the web server that runs (RFC 8555, http-01)."""

import http.client
import os
import re
import secrets
from typing import Any, Dict, List, Optional

from .. import cancel, certificates, places, process
from ..faults import StepFault, Unissued
from . import units
from .contract import Run

HOOK = "/etc/panel/acme/deploy"
TRUST = "/etc/panel/acme/trust.pem"
_CHALLENGES = certificates.WEBROOT + "/.well-known/acme-challenge"
_SECONDS = 240
_PROBE_SECONDS = 5.0
_PORT = 80
_LOOKS = 20
_PAUSE = 0.1


def live(site: str) -> str:
    """Where certbot keeps a site's certificate."""
    return "{}/live/{}".format(certificates.LINEAGES, certificates.lineage(site))


def issue(step: Dict[str, Any], run: Run) -> None:
    """Have certbot ask for the certificate of a step. Raises Unissued with the CA's words, StepFault, Cancelled, OSError.

    The CA is not asked while the web server of this node would not answer it, or soon after it refused the same.
    """
    site, asked = step["site"], certificates.request(step)
    early = certificates.too_early(site, asked)
    if early:
        raise Unissued(early)
    _be_served(step, run)
    settings = ["REQUESTS_CA_BUNDLE=" + TRUST] if step["trust"] else []
    done = _certbot(site, _arguments(step), settings, run)
    if done.ok():
        return
    said = words(done.out + done.err) or done.reason("certbot")
    certificates.refused(site, asked, said)
    raise Unissued(said)


def _be_served(step: Dict[str, Any], run: Run) -> None:
    """See to it that the web server hands out what is put into the webroot, under each name."""
    unserved = _unserved(step["names"])
    if unserved is None or unserved:
        run.reload_owed(step["unit"])
        unserved = _settled(step["names"])
    if unserved:
        message = "the web server of this node does not answer http://{}/.well-known/acme-challenge/ yet: {}"
        name = sorted(unserved)[0]
        raise Unissued(message.format(name, unserved[name]), bearable=True)


def _settled(names: List[str]) -> Optional[Dict[str, str]]:
    """As `_unserved`, once a reload has had a moment: a web server tells nobody when its new processes have taken over."""
    for _ in range(_LOOKS):
        unserved = _unserved(names)
        if not unserved:
            break
        cancel.pause(_PAUSE)
    return unserved


def _unserved(names: List[str]) -> Optional[Dict[str, str]]:
    """The names under which a file in the webroot is not answered here, and what is instead; None when a policy keeps the
    agent from asking. Raises OSError."""
    folder = places.real(_CHALLENGES)
    for path in (os.path.dirname(folder), folder):
        if not os.path.isdir(path):
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)
    token = "panel-" + secrets.token_hex(16)
    path = os.path.join(folder, token)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)
        os.write(fd, token.encode("ascii"))
        os.close(fd)
        answers = {name: _answer(name, token) for name in names}
    except PermissionError:
        return None
    finally:
        os.unlink(path)
    return {name: answer for name, answer in answers.items() if answer != token}


def _answer(name: str, token: str) -> str:
    """What this node answers for a token under a name. Raises PermissionError."""
    connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/.well-known/acme-challenge/" + token, headers={"Host": name})
        answer = connection.getresponse()
        body = answer.read(1000).decode("utf-8", "replace")
        return body if answer.status == 200 else "status {}".format(answer.status)
    except PermissionError:
        raise
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def _arguments(step: Dict[str, Any]) -> List[str]:
    argv = ["certonly", "--non-interactive", "--agree-tos", "--email", step["email"]]
    argv += ["--webroot", "--webroot-path", certificates.WEBROOT, "--server", step["directory"]]
    argv += ["--cert-name", certificates.lineage(step["site"]), "--renew-with-new-domains"]
    argv += ["--deploy-hook", HOOK]
    known = certificates.directory_of(step["site"])
    # another CA's certificate for these names is no reason to keep it
    argv.append("--force-renewal" if known and known != step["directory"] else "--keep-until-expiring")
    for name in step["names"]:
        argv += ["--domain", name]
    return argv


def _certbot(site: str, arguments: List[str], settings: List[str], run: Run) -> process.Finished:
    """Run certbot as a unit of its own: it speaks with the network and writes its own folders, which this agent's domain
    need not be allowed. What it says is in the journal under the unit's name. Raises Cancelled."""
    argv = ["certbot", *arguments]
    if places.testing() or not places.has_systemd():
        return process.run(["env", *settings, *argv], timeout=_SECONDS, listener=run.log)
    unit = "panel-certbot-{}-{}-{}.service".format(arguments[0], site, run.deployment.lower())
    unit_settings = ["--property=RuntimeMaxSec={}".format(_SECONDS)]
    unit_settings += ["--setenv=" + setting for setting in [*settings, "LC_ALL=C.UTF-8"]]
    start = ["systemd-run", "--quiet", "--wait", "--collect", "--unit=" + unit, *unit_settings]
    start += ["--description=Certificate of {}".format(site), "--", *argv]
    done = process.run(start, timeout=_SECONDS + 60, stop=cancel.stop_waiting)
    if done.stopped:
        units.take_back(unit)
        raise cancel.Cancelled()
    told = _journal(unit, wanted="" if done.ok() else "Detail:")
    for line in told.splitlines(keepends=True):
        run.log("stdout", line)
    return done._replace(out=told, err=told or done.err)


def _journal(unit: str, wanted: str) -> str:
    """What a unit that has ended said. The journal may lag behind: a moment is waited for a word that is `wanted`."""
    argv = ["journalctl", "-u", unit, "-o", "cat", "--no-pager", "-q"]
    for _ in range(_LOOKS):
        told = process.run(argv, timeout=20).out
        if wanted in told:
            break
        cancel.pause(_PAUSE)
    return told


def words(text: str) -> str:
    """What the CA said, from certbot's output; empty when it said nothing that is known."""
    problems = re.findall(r"^\s*Domain:\s*(\S+)\s*\n\s*Type:\s*(\S+)\s*\n\s*Detail:\s*(.+)$", text, re.M)
    if problems:
        told = ["{}: {} ({})".format(name, detail.strip()[:300], kind) for name, kind, detail in problems[:5]]
        more = ["and {} more".format(len(problems) - 5)] if len(problems) > 5 else []
        return "the CA could not verify " + "; ".join(told + more)
    unexpected = re.search(r"An unexpected error occurred:\s*\n(.+)", text)
    if unexpected:
        return "certbot: " + unexpected.group(1).strip()[:600]
    return ""


def forget(site: str, run: Run) -> None:
    """Have certbot forget a site's certificate, so that it is not renewed for nobody. Raises StepFault, OSError."""
    certificates.settled(site)
    if not certificates.directory_of(site):
        return
    arguments = ["delete", "--non-interactive", "--cert-name", certificates.lineage(site)]
    done = _certbot(site, arguments, [], run)
    if not done.ok():
        raise StepFault("certbot cannot delete it: {}".format(done.reason("certbot delete")))
