"""Who may do what, line by line: the answers that the compiled module must give over every policy family.

`allowed`, or what refuses: `type` (no rule for the types) or `categories` (a rule, but another site's level). One column
for each family where they differ, Enterprise Linux first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.selinux.policy import Answer
from tests.selinux.stub import FAMILIES, Family

_WORDS: dict[str, Answer] = {"yes": "allowed", "type": "type", "site": "categories"}

# `one` and `two` are sites (s0:c100,c101 and s0:c102,c103), `half` is s0:c100, `none` is s0
_TABLE = """
# a site's PHP and its own files
php/one  site_content_t/one     dir   search read                       yes
php/one  site_content_t/one     file  read                              yes
php/one  site_content_t/one     file  write append create unlink        type
php/one  site_content_t/one     dir   add_name                          type
php/one  laravel_env_t/one      file  read                              yes
php/one  laravel_env_t/one      file  write                             type
php/one  laravel_app_rw_t/one   file  create read write append unlink   yes
php/one  laravel_app_rw_t/one   dir   add_name remove_name              yes
php/one  laravel_php_fpm_tmp_t/one  file  create read write unlink      yes
php/one  laravel_php_fpm_run_t/one  sock_file  create                   yes
php/one  laravel_app_rw_t/one   file  execute                           type
# and another site's, with whatever Unix permissions
php/one  site_content_t/two     dir   search read                       site
php/one  site_content_t/two     file  read                              site
php/one  laravel_env_t/two      file  read                              site
php/one  laravel_app_rw_t/two   file  read write append unlink          site
php/one  laravel_app_rw_t/two   dir   search add_name                   site
php/one  laravel_php_fpm_tmp_t/two  file  read                          site
php/one  laravel_php_fpm_run_t/two  sock_file  create                   site
php/one  php/two                process  signal sigkill sigstop         site
# getattr is constrained in neither family, open in Debian's only: search of the folder is what hides names
php/one  site_content_t/two     file  getattr                           yes
php/one  site_content_t/two     file  open                              yes site
php/one  site_content_t/two     lnk_file  read                          site
# what has fewer categories is open to every site that has them: single categories must not be given, nor s0 left
php/one  site_content_t/half    file  read                              yes
php/one  site_content_t/none    file  read                              yes
php/half site_content_t/one     file  read                              site
php/none site_content_t/one     file  read                              site
# no way between two sites' PHP by a socket: in Enterprise Linux categories do not come into it, so types must
php/one  php/two                unix_stream_socket  connectto           type
php/one  php/one                unix_stream_socket  connectto           type
php/one  laravel_php_fpm_run_t/two  sock_file  write                    type
php/one  laravel_php_fpm_run_t/one  sock_file  write                    type
# PHP beyond its site
php/one  shell_exec_t/none      file  execute                           type
php/one  bin_t/none             file  execute                           type
php/one  ssh_port_t/none        tcp_socket  name_connect                type
php/one  http_port_t/none       tcp_socket  name_connect                yes
php/one  smtp_port_t/none       tcp_socket  name_connect                yes
php/one  dns_port_t/none        tcp_socket  name_connect                yes
php/one  unreserved_port_t/none tcp_socket  name_connect name_bind      type
php/one  redis_port_t/none      tcp_socket  name_connect                yes
php/one  mysqld_port_t/none     tcp_socket  name_connect                yes
php/one  postgresql_port_t/none tcp_socket  name_connect                yes
php/one  mysqld_t/none          unix_stream_socket  connectto           yes
php/one  mysqld_var_run_t/none  sock_file  write                        yes
php/one  user_home_t/none       file  read                              type
php/one  laravel_ssh_key_var_lib_t/none  file  read                     type
php/one  laravel_ssh_key_var_run_t/none  file  read                     type
php/one  laravel_app_var_lib_t/none      file  read                     type
php/one  laravel_etc_t/none     file  write                             type
php/one  laravel_unit_t/none    file  read                              type
php/one  laravel_ssh_key_exec_t/none     file  execute                  type
php/one  nginx/none             process  signal                         type
php/one  auditd_log_t/none      file  read                              type
php/one  semanage_store_t/none  file  read                              type
# jobs of a site: programs, and its own code too
job/one  shell_exec_t/none      file  entrypoint execute execute_no_trans  yes
job/one  bin_t/none             file  entrypoint execute execute_no_trans  yes
job/one  site_content_t/one     dir   search read add_name remove_name create  yes
job/one  site_content_t/one     file  read create write append unlink   yes
job/one  site_content_t/one     file  execute execute_no_trans          yes
job/one  laravel_env_t/one      file  read                              yes
job/one  laravel_env_t/one      file  write unlink                      type
job/one  laravel_app_rw_t/one   file  create read write append unlink   yes
# a program that PHP could have written is not run
job/one  laravel_app_rw_t/one   file  execute                           type
job/one  laravel_php_fpm_tmp_t/one  file  create read write unlink      yes
job/one  laravel_php_fpm_tmp_t/one  file  execute                       type
job/one  site_content_t/two     dir   search read add_name              site
job/one  site_content_t/two     file  read write execute unlink         site
job/one  laravel_env_t/two      file  read                              site
job/one  laravel_app_rw_t/two   file  read write append unlink          site
job/one  laravel_app_rw_t/two   dir   search add_name                   site
job/one  laravel_php_fpm_tmp_t/two  file  read                          site
job/one  job/one                process  signal sigkill                 yes
job/one  job/two                process  signal sigkill sigstop         site
job/one  job/one                fifo_file  read write                   yes
job/one  job/two                unix_stream_socket  connectto           type
job/one  php/one                unix_stream_socket  connectto           type
job/one  php/two                process  signal                         type
php/one  job/one                process  transition signal              type
job/one  laravel_php_fpm_run_t/one  sock_file  write                    type
job/half site_content_t/one     file  read                              site
job/none site_content_t/one     file  read                              site
job/one  site_content_t/none    file  read                              yes
# the network as for PHP
job/one  mysqld_port_t/none     tcp_socket  name_connect                yes
job/one  mysqld_var_run_t/none  sock_file  write                        yes
job/one  postgresql_t/none      unix_stream_socket  connectto           yes
job/one  http_port_t/none       tcp_socket  name_connect                yes
job/one  smtp_port_t/none       tcp_socket  name_connect                yes
job/one  ssh_port_t/none        tcp_socket  name_connect                type
job/one  unreserved_port_t/none tcp_socket  name_connect name_bind      type
# nothing that makes more of it than the site's user at the site's level
job/one  su_exec_t/none         file  execute                           type
job/one  crontab_exec_t/none    file  execute                           type
job/one  ssh_exec_t/none        file  execute                           type
job/one  httpd_exec_t/none      file  execute                           type
job/one  useradd_exec_t/none    file  execute                           type
job/one  semanage_exec_t/none   file  execute                           type
job/one  laravel_ssh_key_exec_t/none  file  execute                     type
job/one  user_cron_spool_t/none file  read write create                 type
job/one  system_dbusd_t/none    unix_stream_socket  connectto           type
job/one  init/none              unix_stream_socket  connectto           type
job/one  laravel_unit_t/none    file  read write                        type
job/one  laravel_unit_t/none    service  start                          type
job/one  laravel_etc_t/none     file  read write                        type
job/one  laravel_ssh_key_var_lib_t/none  file  read                     type
job/one  laravel_ssh_key_var_run_t/none  file  read                     type
job/one  laravel_app_var_lib_t/none      file  read                     type
job/one  user_home_t/none       file  read                              type
job/one  auditd_log_t/none      file  read                              type
# an application behind the web server: a worker that listens on a socket below its home, to the web server alone
job/one  laravel_app_rw_t/one   sock_file  create unlink                yes
job/one  laravel_app_rw_t/two   sock_file  create                       site
job/one  laravel_app_rw_t/one   sock_file  write                        type
job/one  laravel_app_rw_t/two   sock_file  write                        type
php/one  laravel_app_rw_t/one   sock_file  create write                 type
nginx/none  laravel_app_rw_t/two   sock_file  write                     yes
nginx/none  job/two             unix_stream_socket  connectto           yes
nginx/none  unreserved_port_t/none tcp_socket  name_connect             type
# the web server: files of every site, no .env, no writing, no shell, no other network
nginx/none  site_content_t/two    file  read                            yes
nginx/none  laravel_app_rw_t/one  file  read                            yes
nginx/none  laravel_env_t/one     file  read open getattr               type
nginx/none  site_content_t/one    file  write                           type
nginx/none  laravel_app_rw_t/one  file  write                           type
nginx/none  laravel_php_fpm_run_t/two  sock_file  write                 yes
nginx/none  php/two               unix_stream_socket  connectto         yes
nginx/none  http_port_t/none      tcp_socket  name_bind                 yes
nginx/none  ssh_port_t/none       tcp_socket  name_connect              type
nginx/none  mysqld_port_t/none    tcp_socket  name_connect              type
nginx/none  shell_exec_t/none     file  execute                         type
# handed over by systemd, which has opened it
nginx/none  laravel_ssh_key_var_run_t/none  file  open                  type
# private keys: the web server's alone, made by the agent; what answers a CA
nginx/none  laravel_etc_t/none    dir   search                          yes
nginx/none  laravel_tls_t/none    dir   search                          yes
nginx/none  laravel_tls_t/none    file  read open                       yes
nginx/none  laravel_tls_t/none    file  write                           type
nginx/none  httpd_sys_content_t/none  file  read                        yes
php/one     laravel_tls_t/none    file  read open                       type
job/one     laravel_tls_t/none    file  read open                       type
app/none    laravel_tls_t/none    file  read open                       type
agent/none  laravel_tls_t/none    file  create write unlink rename      yes
agent/none  laravel_tls_t/none    dir   create add_name remove_name     yes
agent/none  httpd_sys_content_t/none  file  create write unlink         yes
agent/none  httpd_sys_content_t/none  dir   create add_name             yes
# a site's Redis: its data and its socket, for PHP and jobs of the site
redis/one  redis_exec_t/none         file  entrypoint execute           yes
redis/one  bin_t/none                file  entrypoint                   yes
redis/one  bin_t/none                file  execute_no_trans             type
redis/one  shell_exec_t/none         file  execute                      type
redis/one  laravel_etc_t/none        file  read                         yes
redis/one  laravel_redis_db_t/one    file  create read write rename unlink  yes
redis/one  laravel_redis_db_t/one    file  execute                      type
redis/one  laravel_redis_db_t/two    file  read write unlink            site
redis/one  laravel_redis_db_t/two    dir   search add_name              site
redis/one  laravel_redis_run_t/one   sock_file  create unlink           yes
redis/one  laravel_redis_run_t/two   sock_file  create                  site
redis/one  site_content_t/one        file  read write create            type
redis/one  laravel_app_rw_t/one      file  read write create            type
redis/one  laravel_env_t/one         file  read                         type
redis/one  redis_port_t/none         tcp_socket  name_bind name_connect  type
redis/one  http_port_t/none          tcp_socket  name_connect           type
redis/one  redis/one                 unix_stream_socket  connectto      type
redis/one  php/one                   unix_stream_socket  connectto      type
redis/one  php/one                   process  signal                    type
php/one    laravel_redis_run_t/one   dir   search                       yes
php/one    laravel_redis_run_t/one   sock_file  write                   yes
php/one    redis/one                 unix_stream_socket  connectto      yes
php/one    laravel_redis_db_t/one    file  read write                   type
job/one    laravel_redis_run_t/one   sock_file  write                   yes
job/one    redis/one                 unix_stream_socket  connectto      yes
job/one    laravel_redis_db_t/one    file  read                         type
# another site's: on Enterprise Linux what guards is the socket's file, not who is behind it
php/one    laravel_redis_run_t/two   dir   search                       site
php/one    laravel_redis_run_t/two   sock_file  write                   site
php/one    redis/two                 unix_stream_socket  connectto      yes site
job/one    laravel_redis_run_t/two   dir   search                       site
job/one    laravel_redis_run_t/two   sock_file  write                   site
nginx/none laravel_redis_run_t/one   sock_file  write                   type
nginx/none laravel_redis_db_t/one    file  read                         type
nginx/none redis/one                 unix_stream_socket  connectto      type
init/none  redis/one                 process   transition               yes
init/none  redis/one                 process2  nnp_transition           yes
agent/none laravel_redis_db_t/two    dir   create relabelto             yes
agent/none redis/one                 process  sigkill                   yes
# caddy: its logs, and its administration, which is the agent's and its own
nginx/none laravel_caddy_log_t/none  file  create append rename unlink  yes
nginx/none httpd_log_t/none          file  unlink rename                type
nginx/none httpd_var_run_t/none      sock_file  create write unlink     yes
nginx/none nginx/none                unix_stream_socket  connectto      yes
agent/none nginx/none                unix_stream_socket  connectto      yes
agent/none httpd_var_run_t/none      sock_file  write                   yes
php/one    httpd_var_run_t/none      sock_file  write                   type
php/one    nginx/none                unix_stream_socket  connectto      type
job/one    httpd_var_run_t/none      sock_file  write                   type
job/one    nginx/none                unix_stream_socket  connectto      type
php/one    laravel_caddy_log_t/none  file  read                         type
# systemd starts everything, at the site's level
init/none  php/one              process   transition                    yes
init/none  php/one              process2  nnp_transition                yes
init/none  job/one              process   transition                    yes
init/none  job/one              process2  nnp_transition                yes
init/none  nginx/none           process   transition                    yes
init/none  app/none             process   transition                    yes
init/none  agent/none           process   transition                    yes
php/one    httpd_exec_t/none    file      entrypoint execute            yes
php/one    php/two              process   transition                    type
# the agent, from sudo and from systemd, by its own file only
login/none  agent/login         process   transition                    yes
agent/none  laravel_ssh_key_exec_t/none  file  entrypoint               yes
agent/none  bin_t/none          file  entrypoint                        type
php/one     agent/none          process   transition                    type
app/none    agent/none          process   transition                    type
agent/none  laravel_ssh_key_var_lib_t/none  file  create read write     yes
agent/none  laravel_env_t/two   file  create write relabelfrom relabelto  yes
agent/none  site_content_t/two  dir   create relabelfrom relabelto      yes
agent/none  etc_t/none          file  write unlink                      type
agent/none  laravel_etc_t/none  file  create write unlink               yes
agent/none  laravel_unit_t/none service  start reload                   yes
agent/none  bin_t/none          file  write create                      type
agent/none  shell_exec_t/none   file  relabelto                         type
agent/none  laravel_app_var_lib_t/none  file  read                      type
agent/none  setfiles_t/none     process  transition                     yes
agent/none  job/one             process  sigkill                        yes
# the host beneath the sites: the link of the time zone, swap, the keys of people, sshd's settings; not its keys
agent/none  etc_t/none          lnk_file  create rename unlink          yes
agent/none  locale_t/none       file  write create                      type
agent/none  swapfile_t/none     file  create write unlink               yes
agent/none  fsadm_t/none        process  transition                     yes
agent/none  fsadm_exec_t/none   file  execute_no_trans                  type
agent/none  ssh_home_t/none     file  create write rename unlink        yes
agent/none  ssh_home_t/none     dir   create add_name remove_name       yes
agent/none  sshd_exec_t/none    file  execute_no_trans                  yes
agent/none  sshd_exec_t/none    file  write                             type
agent/none  sshd_t/none         process  transition signal              type
agent/none  sshd_key_t/none     file  read open                         yes
agent/none  sshd_key_t/none     file  write create unlink               type
agent/none  iptables_t/none     process  transition                     yes
agent/none  iptables_exec_t/none  file  execute_no_trans                type
sshd_t/none      laravel_etc_t/none  file  read open                    yes
sshd_t/none      laravel_etc_t/none  file  write                        type
iptables_t/none  laravel_etc_t/none  file  read open                    yes
iptables_t/none  laravel_etc_t/none  file  write                        type
fail2ban_t/none  laravel_etc_t/none  file  read open                    yes
php/one     swapfile_t/none     file  read write                        type
job/one     swapfile_t/none     file  read write                        type
php/one     ssh_home_t/none     file  read write                        type
job/one     ssh_home_t/none     file  read write                        type
php/one     sshd_key_t/none     file  read                              type
job/one     sshd_key_t/none     file  read                              type
nginx/none  sshd_key_t/none     file  read                              type
nginx/none  ssh_home_t/none     file  read                              type
app/none    ssh_home_t/none     file  write                             type
# SELinux on the node: modules, booleans and contexts by their programs only
agent/none  semanage_exec_t/none  file   execute                        yes
agent/none  semanage_exec_t/none  file   execute_no_trans               type
agent/none  semanage_t/none     process  transition                     yes
agent/none  setfiles_exec_t/none  file   execute                        yes
agent/none  semanage_store_t/none file   read                           yes
agent/none  semanage_store_t/none file   write create                   type
agent/none  file_context_t/none   file   read                           yes
agent/none  file_context_t/none   file   write create                   type
agent/none  selinux_config_t/none file   read                           yes
agent/none  selinux_config_t/none file   write                          type
agent/none  security_t/none     file     read                           yes
agent/none  security_t/none     security setenforce setbool load_policy  type
agent/none  auditd_log_t/none   file     read open                      yes
agent/none  auditd_log_t/none   file     write append unlink            type
semanage_t/none  laravel_ssh_key_var_lib_t/none  file  read             yes
semanage_t/none  agent/none     fifo_file  write                        yes
semanage_t/none  agent/none     process  sigchld                        yes
agent/none  init_var_run_t/none service  start stop                     yes
agent/none  httpd_exec_t/none   file  execute_no_trans                  yes
agent/none  http_port_t/none    tcp_socket  name_connect                yes
agent/none  laravel_php_fpm_run_t/one  sock_file  write                 yes
agent/none  php/one             unix_stream_socket  connectto           yes
agent/none  ssh_port_t/none     tcp_socket  name_connect                type
agent/none  user_cron_spool_t/none  file  unlink                        yes
agent/none  user_cron_spool_t/none  file  write create                  type
logrotate_t/none  laravel_app_rw_t/two  file  create write unlink       yes
logrotate_t/none  laravel_env_t/two     file  read                      type
# the daemon: out by ssh, http and mail, its own files, nobody else's
app/none  ssh_port_t/none       tcp_socket  name_connect                yes
app/none  http_port_t/none      tcp_socket  name_connect                yes
app/none  http_port_t/none      tcp_socket  name_bind                   type
app/none  laravel_app_var_lib_t/none  file  create read write           yes
app/none  site_content_t/none   file  read                              type
app/none  laravel_env_t/none    file  read                              type
app/none  laravel_ssh_key_var_lib_t/none  file  read                    type
app/none  laravel_ssh_key_exec_t/none  file  execute                    type
app/none  etc_t/none            file  write                             type
"""

USERS = """
{who}  useradd_exec_t/none   file     execute
{who}  useradd_t/none        process  transition
{who}  groupadd_exec_t/none  file     execute
{who}  groupadd_t/none       process  transition
"""
"""What `panel_can_manage_users` gates."""

RELOADS = """
{who}  nginx/none     process  signal
{who}  {unit}/none    service  reload
"""
"""What `panel_can_reload_nginx` gates; `unit` is the type of nginx.service."""

BASE = """
semanage_t/none  semanage_store_t/none  file  create write              yes
semanage_t/none  file_context_t/none    file  create write              yes
semanage_t/none  load_policy_t/none     process  transition             yes
semanage_t/none  setfiles_t/none        process  transition             yes
setfiles_t/none  laravel_env_t/two      file  relabelfrom relabelto     yes
setfiles_t/none  site_content_t/two     dir   read search relabelto     yes
init/none  site_content_t/two           dir   search mounton            yes
init/none  laravel_php_fpm_run_t/two    dir   create relabelto          yes
init/none  laravel_unit_t/none          file  read                      yes
"""
"""What only a whole policy answers: the programs of the base do what the agent and the units need of them."""

SETSEBOOL = """
agent/none  setsebool_exec_t/none  file     execute     yes
agent/none  setsebool_t/none       process  transition  yes
"""
"""Enterprise Linux alone has a domain for setsebool."""

NGINX_UNIT: dict[Family, str] = {"el": "httpd_unit_file_t", "refpolicy": "systemd_unit_t"}

_LEVELS = {"one": "s0:c100,c101", "two": "s0:c102,c103", "half": "s0:c100", "none": "s0"}
_DOMAINS = {
    "php": "laravel_php_fpm_t",
    "job": "laravel_job_t",
    "redis": "laravel_redis_t",
    "nginx": "laravel_nginx_t",
    "app": "laravel_app_t",
    "agent": "laravel_ssh_key_t",
    "init": "init_t",
}
_PROCESSES = (
    "fail2ban_t",
    "fsadm_t",
    "groupadd_t",
    "iptables_t",
    "load_policy_t",
    "logrotate_t",
    "mysqld_t",
    "postgresql_t",
    "semanage_t",
    "setfiles_t",
    "setsebool_t",
    "sshd_t",
    "system_dbusd_t",
    "useradd_t",
)


@dataclass(frozen=True)
class Question:
    """One access, and its answer when the table gives one."""

    source: str
    target: str
    kind: str
    permission: str
    answer: Answer | None = None

    def __str__(self) -> str:
        return f"{self.source} {self.target} {self.kind} {self.permission}"


def _context(short: str) -> str:
    name, level = short.split("/")
    if name == "login" or level == "login":
        domain = _DOMAINS.get(name, "unconfined_t")
        return f"unconfined_u:unconfined_r:{domain}:s0-s0:c0.c1023"
    if name in _DOMAINS:
        return f"system_u:system_r:{_DOMAINS[name]}:{_LEVELS[level]}"
    role = "system_r" if name in _PROCESSES else "object_r"
    return f"system_u:{role}:{name}:{_LEVELS[level]}"


def questions(family: Family, table: str = _TABLE) -> list[Question]:
    """The table's questions, one for each permission."""
    found = []
    for line in table.strip().splitlines():
        if line.startswith("#"):
            continue
        source, target, kind, *rest = line.split()
        words = [word for word in rest if word in _WORDS]
        answer = _WORDS[words[min(FAMILIES.index(family), len(words) - 1)]] if words else None
        found += [
            Question(_context(source), _context(target), kind, permission, answer)
            for permission in rest[: len(rest) - len(words)]
        ]
    return found
