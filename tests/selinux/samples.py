"""Records as auditd writes them (raw and enriched), with the sites and files of this project in them."""

from __future__ import annotations

_PHP = "system_u:system_r:laravel_php_fpm_t:s0:c100,c101"
_SYSCALL = (
    "type=SYSCALL msg=audit(1769860800.123:412): arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7f2a items=1"
    ' ppid=1030 pid=1042 auid=4294967295 uid=1000 gid=1000 tty=(none) ses=4294967295 comm="php-fpm8.2"'
    f' exe="/usr/sbin/php-fpm8.2" subj={_PHP} key=(null)\x1dARCH=x86_64 SYSCALL=openat AUID="unset" UID="web1"'
)

OTHER_HOME = (
    'type=AVC msg=audit(1769860800.123:412): avc:  denied  { search } for  pid=1042 comm="php-fpm8.2" name="web2" dev="vda"'
    f" ino=131085 scontext={_PHP} tcontext=system_u:object_r:site_content_t:s0:c102,c103 tclass=dir permissive=0\n"
    f"{_SYSCALL}\n"
    "type=PROCTITLE msg=audit(1769860800.123:412): proctitle=7068702D66706D3A20706F6F6C2070616E656C2D73686F70\n"
)
PERMISSIVE = OTHER_HOME.replace("permissive=0", "permissive=1")

TWO_IN_ONE = (
    'type=AVC msg=audit(1769860800.123:412): avc:  denied  { write } for  pid=1042 comm="php-fpm8.2" name="public_html"'
    f' dev="vda" ino=77 scontext={_PHP} tcontext=system_u:object_r:site_content_t:s0:c100,c101 tclass=dir permissive=1\n'
    'type=AVC msg=audit(1769860800.123:412): avc:  denied  { create } for  pid=1042 comm="php-fpm8.2" name="new.php"'
    f" scontext={_PHP} tcontext=system_u:object_r:site_content_t:s0:c100,c101 tclass=file permissive=1\n{_SYSCALL}\n"
)

ODD_NAME = (
    'type=AVC msg=audit(1769860800.123:412): avc:  denied  { read } for  pid=1042 comm="php-fpm8.2"'
    f' name=61206220C3A92E747874 dev="vda" ino=131090 scontext={_PHP}'
    " tcontext=system_u:object_r:laravel_app_rw_t:s0:c102,c103 tclass=file permissive=0\n"
    "type=PATH msg=audit(1769860800.123:412): item=0 name=2F686F6D652F776562322F73746F726167652F61206220C3A92E747874"
    " inode=131090 dev=fe:00 mode=0100666 ouid=1001 ogid=1001 rdev=00:00 nametype=NORMAL\n"
)

RELATIVE = (
    'type=AVC msg=audit(1769860801.000:500): avc:  denied  { write } for  pid=1042 comm="php-fpm8.2" name="x.txt" dev="vda"'
    f" ino=91 scontext={_PHP} tcontext=system_u:object_r:site_content_t:s0:c100,c101 tclass=file permissive=0\n"
    'type=CWD msg=audit(1769860801.000:500): cwd="/home/web1/public_html"\n'
    'type=PATH msg=audit(1769860801.000:500): item=0 name="data/" inode=90 nametype=PARENT\n'
    'type=PATH msg=audit(1769860801.000:500): item=1 name="data/x.txt" inode=91 nametype=NORMAL\n'
)

RELOAD = (
    "type=USER_AVC msg=audit(1769860802.500:600): pid=1 uid=0 auid=4294967295 ses=4294967295"
    " subj=system_u:system_r:init_t:s0 msg='avc:  denied  { reload } for auid=n/a uid=0 gid=0"
    ' path="/lib/systemd/system/nginx.service" cmdline="systemctl --no-ask-password reload -- nginx.service"'
    ' function="bus_unit_method_start_generic" scontext=system_u:system_r:laravel_ssh_key_t:s0'
    " tcontext=system_u:object_r:systemd_unit_t:s0 tclass=service permissive=0"
    ' exe="/usr/lib/systemd/systemd" sauid=0 hostname=? addr=? terminal=?\'\x1dUID="root" AUID="unset" SAUID="root"'
)

BUS = (
    "type=USER_AVC msg=audit(1769860803.000:700): pid=901 uid=81 auid=4294967295 ses=4294967295"
    " subj=system_u:system_r:system_dbusd_t:s0-s0:c0.c1023 msg='avc:  denied  { send_msg } for msgtype=method_return"
    " dest=:1.21 spid=944 tpid=2299 scontext=system_u:system_r:systemd_logind_t:s0"
    " tcontext=system_u:system_r:laravel_ssh_key_t:s0 tclass=dbus permissive=0"
    '  exe="/usr/bin/dbus-daemon" sauid=81 hostname=? addr=? terminal=?\''
)

NO_NEW_PRIVILEGES = (
    "type=SELINUX_ERR msg=audit(1769860804.000:800): op=security_bounded_transition seresult=denied"
    f" oldcontext=system_u:system_r:init_t:s0 newcontext={_PHP}"
)
INVALID = (
    "type=SELINUX_ERR msg=audit(1769860805.000:801): op=security_compute_sid"
    " invalid_context=unconfined_u:unconfined_r:rpm_t:s0-s0:c0.c1023"
    " scontext=unconfined_u:unconfined_r:laravel_ssh_key_t:s0-s0:c0.c1023 tcontext=system_u:object_r:rpm_exec_t:s0 tclass=process"
)
INVALID_QUOTED = INVALID.replace(
    "invalid_context=unconfined_u:unconfined_r:rpm_t:s0-s0:c0.c1023",
    'invalid_context="unconfined_u:unconfined_r:rpm_t:s0-s0:c0.c1023"',
)
INVALID_OLD = (
    "type=SELINUX_ERR msg=audit(1405902620.246:135): security_compute_sid:  invalid context"
    " system_u:system_r:logwatch_mail_t:s0-s0:c0.c1023 for scontext=system_u:system_r:logwatch_t:s0-s0:c0.c1023"
    " tcontext=system_u:object_r:sendmail_exec_t:s0 tclass=process"
)

NOTICE = (
    "type=USER_AVC msg=audit(1769860806.000:10): pid=1 uid=0 auid=4294967295 ses=4294967295"
    " subj=system_u:system_r:init_t:s0 msg='avc:  received policyload notice (seqno=2)"
    '  exe="/usr/lib/systemd/systemd" sauid=0 hostname=? addr=? terminal=?\''
)
LOGIN = (
    "type=USER_LOGIN msg=audit(1769860807.000:11): pid=411 uid=0 auid=998 ses=3"
    " subj=system_u:system_r:sshd_t:s0-s0:c0.c1023 msg='op=login id=998 exe=\"/usr/sbin/sshd\" res=success'"
)
