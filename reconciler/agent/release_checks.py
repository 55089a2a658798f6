"""Whether a release answers as it should: asked of PHP before it is served, and of the web server once it is."""

import http.client
import os
import socket
import ssl
import time
from contextlib import closing
from typing import Any, Callable, Dict

from . import cancel, fastcgi, places
from .faults import cause
from .vocabulary import Step

_PAUSE = 0.5
_READ = 4 * 1024 * 1024
_GONE = (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)


def before(step: Step, root: str) -> str:
    """What is wrong with a release that is not served yet, empty when nothing is, or nobody can tell.

    `root` is the release's document root. Only PHP that runs can be asked: on a site without it, or at its first apply,
    the check after the switch is all there is.
    """
    wanted = step.get("check")
    if not wanted or not wanted.get("socket"):
        return ""
    script = _script(root, wanted["path"].partition("?")[0])
    if not script:
        return ""

    def ask() -> str:
        try:
            answer = fastcgi.ask(wanted["socket"], _params(wanted, root, script), wanted["seconds"])
        except _GONE:
            return ""
        except PermissionError:
            return ""  # SELinux keeps us from the site's PHP; the web server is asked after the switch
        except (OSError, ValueError) as error:
            return "no answer: {}".format(_why(error))
        return _judge(wanted, answer.status, answer.body)

    return _patiently(ask, wanted["seconds"])


def _script(root: str, path: str) -> str:
    """The script below the document root that a path leads to, empty when PHP is not what answers it."""
    if path.endswith(".php") and ".." not in path and os.path.isfile(places.real(root + path)):
        return path
    if path != "/" and os.path.isfile(places.real(root + path)):
        return ""
    return "/index.php" if os.path.isfile(places.real(root + "/index.php")) else ""


def _params(wanted: Dict[str, Any], root: str, script: str) -> Dict[str, str]:
    path, _, query = wanted["path"].partition("?")
    secure = wanted["scheme"] == "https"
    params = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "SCRIPT_FILENAME": root + script,
        "SCRIPT_NAME": script,
        "DOCUMENT_ROOT": root,
        "DOCUMENT_URI": path,
        "REQUEST_URI": wanted["path"],
        "QUERY_STRING": query,
        "REQUEST_SCHEME": wanted["scheme"],
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "reconciler",
        "SERVER_NAME": wanted["host"],
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "443" if secure else "80",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "REDIRECT_STATUS": "200",
        "HTTP_HOST": wanted["host"],
        "HTTP_USER_AGENT": "reconciler",
        "HTTP_ACCEPT": "*/*",
    }
    if secure:
        params["HTTPS"] = "on"
    return params


def after(step: Step) -> str:
    """What is wrong with how the web server answers for the site now, empty when nothing is."""
    wanted = step.get("check")
    if not wanted:
        return ""
    return _patiently(lambda: _over_http(wanted), wanted["patience"])


def _over_http(wanted: Dict[str, Any]) -> str:
    port = 443 if wanted["scheme"] == "https" else 80
    headers = {"Host": wanted["host"], "User-Agent": "reconciler", "Connection": "close", "Accept": "*/*"}
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=wanted["seconds"])) as line:
            line.connect()
            if port == 443:
                # whom the certificate is for is not the question here, and we ask ourselves
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                line.sock = context.wrap_socket(line.sock, server_hostname=wanted["host"])
            line.request("GET", wanted["path"], headers=headers)
            answer = line.getresponse()
            return _judge(wanted, answer.status, answer.read(_READ) if wanted.get("contains") else b"")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return "no answer: {}".format(_why(error))


def _judge(wanted: Dict[str, Any], status: int, body: bytes) -> str:
    right = wanted.get("status")
    if right is None and status >= 500:
        return "the answer is {}".format(status)
    if right is not None and status not in right:
        return "the answer is {}, not {}".format(status, " or ".join(str(one) for one in right))
    text = wanted.get("contains")
    if text and text.encode("utf-8") not in body:
        return "the answer ({}) does not hold {}".format(status, ascii(text)[:100])
    return ""


def _patiently(ask: Callable[[], str], seconds: float) -> str:
    """Ask until the answer is right or the time is over; what was wrong last."""
    deadline = time.monotonic() + seconds
    while True:
        wrong = ask()
        if not wrong or time.monotonic() >= deadline or cancel.requested():
            return wrong
        time.sleep(_PAUSE)


def _why(error: Exception) -> str:
    if isinstance(error, socket.timeout):
        return "not in time"
    return cause(error) if isinstance(error, OSError) else str(error)
