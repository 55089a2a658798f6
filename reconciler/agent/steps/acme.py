"""Asking a CA for a certificate, through certbot and the web server that runs (RFC 8555, http-01)."""

import http.client
import os
import re
import secrets
from typing import Any, Callable, Dict, List

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

Log = Callable[[str, str], None]


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
    done = _certbot(step, run)
    if done.ok():
        return
    said = words(done.out + done.err) or done.reason("certbot")
    certificates.refused(site, asked, said)
    raise Unissued(said)


def _be_served(step: Dict[str, Any], run: Run) -> None:
    """See to it that the web server hands out what is put into the webroot, under each name."""
    unserved = _unserved(step["names"])
    if unserved:
        run.reload_owed(step["unit"])
        unserved = _unserved(step["names"])
    if unserved:
        message = "the web server of this node does not answer http://{}/.well-known/acme-challenge/ yet: {}"
        name = sorted(unserved)[0]
        raise Unissued(message.format(name, unserved[name]), bearable=True)


def _unserved(names: List[str]) -> Dict[str, str]:
    """The names under which a file in the webroot is not answered here, and what is instead. Raises OSError, StepFault."""
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
    finally:
        os.unlink(path)
    return {name: answer for name, answer in answers.items() if answer != token}


def _answer(name: str, token: str) -> str:
    """What this node answers for a token under a name."""
    connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/.well-known/acme-challenge/" + token, headers={"Host": name})
        answer = connection.getresponse()
        body = answer.read(1000).decode("utf-8", "replace")
        return body if answer.status == 200 else "status {}".format(answer.status)
    except PermissionError:
        return token  # a policy keeps the agent from looking; the CA will see for itself
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def _arguments(step: Dict[str, Any]) -> List[str]:
    argv = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--email", step["email"]]
    argv += ["--webroot", "--webroot-path", certificates.WEBROOT, "--server", step["directory"]]
    argv += ["--cert-name", certificates.lineage(step["site"]), "--renew-with-new-domains"]
    argv += ["--deploy-hook", HOOK]
    known = certificates.directory_of(step["site"])
    # another CA's certificate for these names is no reason to keep it
    argv.append("--force-renewal" if known and known != step["directory"] else "--keep-until-expiring")
    for name in step["names"]:
        argv += ["--domain", name]
    return argv


def _certbot(step: Dict[str, Any], run: Run) -> process.Finished:
    """Run certbot as a unit of its own: it speaks with the network and writes its own folders, which this agent's domain
    need not be allowed. What it says is in the journal under the unit's name."""
    settings = ["REQUESTS_CA_BUNDLE=" + TRUST] if step["trust"] else []
    if places.testing() or not places.has_systemd():
        return process.run(["env", *settings, *_arguments(step)], timeout=_SECONDS, listener=run.log)
    unit = "panel-certbot-{}-{}.service".format(step["site"], run.deployment.lower())
    argv = ["systemd-run", "--quiet", "--wait", "--collect", "--unit=" + unit]
    argv += ["--property=RuntimeMaxSec={}".format(_SECONDS)]
    argv += ["--setenv=" + setting for setting in [*settings, "LC_ALL=C.UTF-8"]]
    argv += ["--description=Certificate of {}".format(step["site"]), "--", *_arguments(step)]
    done = process.run(argv, timeout=_SECONDS + 60, stop=cancel.stop_waiting)
    if done.stopped:
        units.take_back(unit)
        raise cancel.Cancelled()
    process.run(["journalctl", "--sync"], timeout=20)
    told = process.run(["journalctl", "-u", unit, "-o", "cat", "--no-pager", "-q"], timeout=20).out
    for line in told.splitlines(keepends=True):
        run.log("stdout", line)
    return done._replace(out=told if done.code != 127 else "")


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


def forget(site: str, log: Log) -> None:
    """Have certbot forget a site's certificate, so that it is not renewed for nobody. Raises StepFault, OSError."""
    certificates.settled(site)
    if not certificates.directory_of(site):
        return
    argv = ["certbot", "delete", "--non-interactive", "--cert-name", certificates.lineage(site)]
    done = process.run(argv, timeout=120, listener=log)
    if not done.ok() and done.code != 127:
        raise StepFault("certbot cannot delete it: {}".format(done.reason("certbot delete")))
