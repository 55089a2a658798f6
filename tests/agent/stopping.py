"""A folder node whose programs can be made to wait, for tests of what a cancel stops."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reconciler.agent import canonical, journal, lock

from .building import bundle, file, section, unit
from .talking import Here, Talk, ulid

NGINX = {"type": "nginx"}
SITES = "/etc/nginx/conf.d"
UNITS = "/etc/systemd/system"
RELOAD = "reload nginx.service"

NGINX_SCRIPT = f"""
echo test >> $root/calls
for file in $root{SITES}/*.conf; do
  [ -e "$file" ] || continue
  if grep -q bad "$file"; then echo "nginx: [emerg] bad directive in $file:1" >&2; exit 1; fi
  if grep -q hang "$file"; then $root/usr/bin/cancel-this; exec sleep 60; fi
done
"""
# A unit whose file says "slow" never comes up; one that says "cancel" has its own apply cancelled, then never comes up.
SYSTEMCTL_SCRIPT = f"""
verb=; units=
for word; do case "$word" in --*) ;; *) if [ -z "$verb" ]; then verb=$word; else units="$units $word"; fi;; esac; done
mkdir -p $root/units
if [ $verb = show ]; then
  for unit in $units; do
    active=inactive; enabled=disabled
    if [ $unit = nginx.service ]; then active=active; enabled=enabled; fi
    if [ -e $root/units/$unit.active ]; then active=active; fi
    if [ -e $root/units/$unit.enabled ]; then enabled=enabled; fi
    printf "LoadState=loaded\\nActiveState=$active\\nSubState=any\\nUnitFileState=$enabled\\n"
    printf "Result=success\\nNRestarts=2\\nDescription=the unit $unit\\n\\n"
  done
  exit
fi
echo "$verb$units" >> $root/calls
for unit in $units; do
  case $verb in
    start)
      if grep -q cancel $root{UNITS}/$unit; then $root/usr/bin/cancel-this; fi
      if grep -q "slow\\|cancel" $root{UNITS}/$unit; then echo $$ > $root/waiting; exec sleep 60; fi
      touch $root/units/$unit.active;;
    stop) rm -f $root/units/$unit.active;;
    enable) touch $root/units/$unit.enabled;;
    disable) rm -f $root/units/$unit.enabled;;
    reload) if grep -q late $root{SITES}/*.conf; then $root/usr/bin/cancel-this; fi;;
  esac
done
"""
# What the agent's own cancel leaves on the disk, of the newest deployment.
CANCEL_SCRIPT = "for last in $root/var/lib/panel/journal/*; do :; done; echo '{}' > $last/cancel.json"


def dress(here: Here) -> Here:
    """Put the programs in place."""
    here.path(SITES).mkdir()
    here.program_on_path("nginx", NGINX_SCRIPT)
    here.program_on_path("systemctl", SYSTEMCTL_SCRIPT)
    here.program_on_path("journalctl", "true")
    here.program_on_path("../bin/cancel-this", CANCEL_SCRIPT)
    return here


def undress(here: Here) -> None:
    """End the program that still waits, if its runner was killed."""
    path = here.path("/waiting")
    if path.exists() and path.read_text().strip():
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


def name_of(site: str) -> str:
    return f"panel-fpm-{site}.service"


def vhost(site: str, text: str) -> dict[str, Any]:
    return file(f"{SITES}/{site}.conf", text.encode(), validate=NGINX)


def service(site: str, text: str = "") -> list[dict[str, Any]]:
    """A unit file and its unit."""
    path = f"{UNITS}/{name_of(site)}"
    return [file(path, text.encode()), unit(name_of(site), active=True, enabled=True)]


SERVER = section("Server/web1", unit("nginx.service", active=True, reload_on=["file:/etc/nginx/*"]))
BODIES = (b"", b"slow", b"cancel", b"hang", b"late", b"bad", b"new", b"1", b"2", b"3", b"4")


def made(*sections: dict[str, Any]) -> dict[str, Any]:
    return bundle(SERVER, *sections)


def wait_for(what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def begin(talk: Talk, number: int, wanted: dict[str, Any], fence: int = 1) -> None:
    """Ask for an apply without waiting for its end."""
    digest = talk.hand_over(wanted, *BODIES)
    talk.request("apply", deployment=ulid(number), digest=digest, sections=None, fence=fence)


def cancel(node: Here, number: int, fence: int = 1) -> str:
    """Cancel from a conversation of its own; what it said."""
    with node.talk() as other:
        return str(other.ask("cancel", deployment=ulid(number), fence=fence)["state"])


def states(outcome: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """State and message of each section but the server's."""
    return {
        name.removeprefix("Site/"): (part["state"], part["message"])
        for name, part in outcome["sections"].items()
        if name != "Server/web1"
    }


def calls(node: Here) -> list[str]:
    """What nginx and systemctl were told since the last look, without reading unit files again."""
    path = node.path("/calls")
    found = path.read_text().splitlines() if path.exists() else []
    found = [line for line in found if line != "daemon-reload"]
    path.write_text("")
    return found


def conf(node: Here) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(node.path(SITES).iterdir())}


def accepted(node: Here, number: int, wanted: dict[str, Any], fence: int = 1) -> str:
    """An apply as the agent has written it down before its runner begins; the deployment. Only with `inside`."""
    with node.talk() as talk:
        digest = talk.hand_over(wanted, *BODIES)
    ids = [part["id"] for part in wanted["sections"]]
    intent = {"digest": digest, "ids": None, "sections": ids, "fence": fence, "at": journal.now()}
    journal.create(ulid(number), intent, canonical.dumps(wanted))
    lock.admit(fence)
    lock.claim(ulid(number))
    return ulid(number)
