"""A folder node with SELinux: switches in a folder as the kernel shows them, and stand-ins for the tools that need a kernel.

checkmodule and semodule_package are the real ones. The stand-ins keep their state where the real tools keep it and take
the lines and options that the agent gives them; tests/vm runs the same steps with the real ones on an enforcing kernel.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .talking import Here

_SEMODULE = """
store=$root/var/lib/selinux/targeted/active/modules/400
echo "semodule $*" >> $root/calls
[ -e $root/fail-semodule ] && { echo "libsemanage: it does not fit" >&2; exit 1; }
case "$1" in
  -X) name=$(basename "$4" .pp); name=${name%-*}; mkdir -p "$store/$name"; cp "$4" "$store/$name/hll";;
  -r) rm -r "$store/$2";;
  *) echo "unknown option $1" >&2; exit 1;;
esac
"""
_SETSEBOOL = """
echo "setsebool $*" >> $root/calls
[ "$1" = -P ] || exit 1
shift
for word; do case "${word#*=}" in on) value=1;; off) value=0;; *) exit 1;; esac
  [ -e "$root/sys/fs/selinux/booleans/${word%%=*}" ] || exit 1
  echo "$value $value" > "$root/sys/fs/selinux/booleans/${word%%=*}"
done
"""
_TOOLS = r"""
import os, re, shlex, sys
root, tool = sys.argv[1:3]
path = root + "/etc/selinux/targeted/contexts/files/file_contexts.local"
lines = open(path).read().splitlines() if os.path.exists(path) else []
known = {line.split()[0]: line.split()[-1] for line in lines}
open(root + "/calls", "a").write(" ".join(sys.argv[2:]).replace(root, "") + "\n")
if tool == "semanage" and sys.argv[3] == "port":
    store = root + "/var/lib/selinux/targeted/active/ports.local"
    lines = open(store).read().splitlines() if os.path.exists(store) else []
    ports = {line.split()[2]: line for line in lines}
    number, verb = sys.argv[-1], sys.argv[4]
    if verb == "-a" and number in (*ports, "8443"):
        sys.exit("ValueError: Port tcp/%s already defined" % number)
    if verb == "-d":
        del ports[number]
    else:
        ports[number] = "portcon tcp %s system_u:object_r:%s:s0" % (number, sys.argv[6])
    os.makedirs(os.path.dirname(store), exist_ok=True)
    open(store, "w").write("".join(line + "\n" for line in ports.values()))
elif tool == "semanage":
    assert sys.argv[3:] == ["import"]
    for line in sys.stdin.read().splitlines():
        words = shlex.split(line)
        assert words[0] == "fcontext" and words[-2] != "-f", line
        pattern = words[-1]
        if words[1] == "-d":
            if known.pop(pattern, None) is None:
                sys.exit("ValueError: File context for %s is not defined" % pattern)
        else:
            given = dict(zip(words[2:-1:2], words[3:-1:2]))
            assert words[1] == "-a" and set(given) == {"-f", "-s", "-t", "-r"}, line
            if pattern in known:
                sys.exit("ValueError: File context for %s already defined" % pattern)
            known[pattern] = "%s:object_r:%s:%s" % (given["-s"], given["-t"], given["-r"])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write("\n".join("%s    %s" % item for item in known.items()) + "\n")
else:
    def label(place):
        name = place[len(root):]
        for pattern, context in reversed(list(known.items())):
            if re.fullmatch(pattern, name) or re.fullmatch(pattern, "/var" + name):
                os.setxattr(place, "security.selinux", context.encode() + b"\0", follow_symlinks=False)
                return
        os.setxattr(place, "security.selinux", b"system_u:object_r:default_t:s0\0", follow_symlinks=False)
    assert sys.argv[3:6] == ["-R", "-F", "--"], sys.argv
    for top in sys.argv[6:]:
        label(top)
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                label(os.path.join(folder, name))
"""


def prepare(here: Here, mode: str = "1") -> Here:
    """Make a folder node one with SELinux; both of the panel's switches are there, and off."""
    here.write("/etc/selinux/config", "SELINUX=enforcing\n# SELINUXTYPE=mls\nSELINUXTYPE=targeted\n")
    here.write("/sys/fs/selinux/enforce", mode)
    here.write("/sys/fs/selinux/policyvers", "33")
    for name in ("panel_can_manage_users", "panel_can_reload_nginx"):
        here.write(f"/sys/fs/selinux/booleans/{name}", "0 0\n")
    here.program_on_path("semodule", _SEMODULE)
    here.program_on_path("setsebool", _SETSEBOOL)
    script = here.write("/usr/sbin/selinux-tools.py", _TOOLS)
    for tool in ("semanage", "restorecon"):
        here.program_on_path(tool, f'exec {sys.executable} {script} "$root" {tool} "$@"')
    return here


def calls(here: Here) -> list[str]:
    """What the tools were asked since the last look."""
    path = here.path("/calls")
    found = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return found


def context(path: Path) -> str:
    """The label of a file; empty without one."""
    try:
        return os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0").decode()
    except OSError:
        return ""
