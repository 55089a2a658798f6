"""What a broken-in site tries against another one, once all that is not SELinux is out of its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.selinux.audit import Denial

from .denials import Refusal, refusal
from .world import World

Wall = Literal["categories", "types"]

# calls of the C library that PHP itself does not have
PTRACE = "$c = FFI::cdef('long ptrace(long, long, long, long);');"
SHM = "$c = FFI::cdef('int shm_open(const char *, int, int);');"
QUEUE = "$c = FFI::cdef('int mq_open(const char *, int, int, void *);');"
XATTR = "$c = FFI::cdef('int setxattr(const char *, const char *, const char *, size_t, int);');"


@dataclass(frozen=True)
class Escape:
    """PHP code of site one that is true when it got through; what refuses it, and the record that this leaves.

    `wall`: `categories` is what only the level of the site stands against, which is shown by taking it away; `types` is
    refused to every PHP, so also without levels. In the code `PID` is the master of site two's PHP.
    """

    name: str
    code: str
    wall: Wall
    leaves: tuple[str, str, str]
    """Type of what it was about, class, permission."""

    def through(self, world: World, pid: int) -> bool:
        """Try it: whether it got through."""
        code = f"echo json_encode((bool) (function () {{ {self.code} }})());"
        said = world.php("one", code.replace("PID", str(pid)))
        assert said in ("true", "false"), said
        return said == "true"

    def left(self, found: tuple[Denial, ...]) -> bool:
        """Whether a refusal of it is among these, with the level of site one."""
        kind, tclass, permission = self.leaves
        wanted: Refusal = ("laravel_php_fpm_t", kind, tclass, permission)
        return wanted in {refusal(denial) for denial in found}


def _file(name: str, code: str, permission: str = "search") -> Escape:
    return Escape(name, code, "categories", ("site_content_t", "dir", permission))


ESCAPES = (
    _file("read a file", "return @file_get_contents('/home/web2/storage/secret');"),
    _file("write a file", "return @file_put_contents('/home/web2/storage/evil', 'x');"),
    _file("list a home", "return @scandir('/home/web2');", "read"),
    _file("ask for a file's size", "return @stat('/home/web2/storage/secret');"),
    _file("read .env", "return @file_get_contents('/home/web2/.env');"),
    _file("take a session over", "return @file_get_contents('/home/web2/sessions/sess_stolen');"),
    _file("read an upload on its way", "return @file_get_contents('/home/web2/tmp/upload');"),
    _file("include code", "return @include '/home/web2/public_html/settings.php';"),
    _file("remove a file", "return @unlink('/home/web2/storage/old');"),
    _file(
        "read through a symbolic link",
        "@unlink('/home/web1/storage/link'); symlink('/home/web2/storage/secret', '/home/web1/storage/link');"
        "return @file_get_contents('/home/web1/storage/link');",
    ),
    _file(
        "give a file a second name",
        "@unlink('/home/web1/storage/name');"
        "return @link('/home/web2/storage/secret', '/home/web1/storage/name');",
    ),
    Escape(
        "read what lies in a common /tmp",
        "return @file_get_contents('/tmp/of-two');",
        "categories",
        ("laravel_php_fpm_tmp_t", "file", "read"),
    ),
    Escape(
        "change what lies in a common /tmp",
        "return @file_put_contents('/tmp/of-two', 'x');",
        "categories",
        ("laravel_php_fpm_tmp_t", "file", "write"),
    ),
    Escape(
        "look at the files that a process has open",
        "return @scandir('/proc/PID/fd');",
        "categories",
        ("laravel_php_fpm_t", "dir", "search"),
    ),
    Escape(
        "read a process's environment",
        "return @file_get_contents('/proc/PID/environ');",
        "categories",
        ("laravel_php_fpm_t", "dir", "search"),
    ),
    Escape(
        "signal a process",
        "return posix_kill(PID, 18);",
        "categories",
        ("laravel_php_fpm_t", "process", "signal"),
    ),
    Escape(
        "trace a process",
        f"{PTRACE} return $c->ptrace(16, PID, 0, 0) === 0;",
        "types",
        ("laravel_php_fpm_t", "process", "ptrace"),
    ),
    Escape(
        "speak FastCGI to its PHP",
        "return @stream_socket_client('unix:///run/panel-fpm/two/php.sock', $e, $s, 3);",
        "types",
        ("laravel_php_fpm_run_t", "dir", "search"),
    ),
    Escape(
        "share memory of System V",
        "return @shmop_open(77, 'c', 0666, 100);",
        "types",
        ("laravel_php_fpm_t", "shm", "create"),
    ),
    Escape(
        "share memory of POSIX",
        f"{SHM} return $c->shm_open('/common', 66, 0666) >= 0;",
        "types",
        ("tmpfs_t", "dir", "write"),
    ),
    Escape(
        "share a message queue",
        f"{QUEUE} return $c->mq_open('/common', 66, 0666, null) >= 0;",
        "types",
        ("tmpfs_t", "dir", "write"),
    ),
    Escape(
        "run a shell",
        "$p = proc_open('id', [1 => ['pipe', 'w']], $pipes); return $p && stream_get_contents($pipes[1]);",
        "types",
        ("bin_t", "lnk_file", "read"),
    ),
    Escape(
        "run sudo",
        "$p = proc_open(['/usr/bin/sudo', '-n', 'id'], [1 => ['pipe', 'w']], $pipes);"
        "return $p && stream_get_contents($pipes[1]);",
        "types",
        ("sudo_exec_t", "file", "execute"),
    ),
    Escape(
        "run a set-user-id program of its own",
        "$p = proc_open(['/home/web1/storage/rootsh', '-c', 'id'], [1 => ['pipe', 'w']], $pipes);"
        "return $p && stream_get_contents($pipes[1]);",
        "types",
        ("laravel_app_rw_t", "file", "execute"),
    ),
    Escape(
        "take another level",
        "return @file_put_contents('/proc/self/attr/current', 'system_u:system_r:laravel_php_fpm_t:s0:c1,c100');",
        "types",
        ("laravel_php_fpm_t", "process", "setcurrent"),
    ),
    Escape(
        "make files at another level",
        "return @file_put_contents('/proc/self/attr/fscreate', 'system_u:object_r:laravel_app_rw_t:s0:c1,c100');",
        "types",
        ("laravel_php_fpm_t", "process", "setfscreate"),
    ),
    Escape(
        "relabel a file of its own for all to read",
        f"{XATTR} file_put_contents('/home/web1/storage/mine', 'x'); $v = 'system_u:object_r:laravel_app_rw_t:s0';"
        "return $c->setxattr('/home/web1/storage/mine', 'security.selinux', $v, strlen($v) + 1, 0) === 0;",
        "types",
        ("laravel_app_rw_t", "file", "relabelfrom"),
    ),
    Escape(
        "change its own code",
        "return @file_put_contents('/home/web1/public_html/probe.php', 'x');",
        "types",
        ("site_content_t", "file", "write"),
    ),
    Escape(
        "read the node's passwords",
        "return @file_get_contents('/etc/shadow');",
        "types",
        ("shadow_t", "file", "getattr"),
    ),
    Escape(
        "read what the agent keeps",
        "return @scandir('/var/lib/panel');",
        "types",
        ("laravel_ssh_key_var_lib_t", "dir", "read"),
    ),
    Escape(
        "connect to the node's sshd",
        "return @stream_socket_client('tcp://127.0.0.1:22', $e, $s, 3);",
        "types",
        ("ssh_port_t", "tcp_socket", "name_connect"),
    ),
)
