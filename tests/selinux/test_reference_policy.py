"""The module over Debian's own reference policy, not a stub: it loads, breaks no neverallow, and answers alike.

The policy is that of the package selinux-policy-default as the lab's node images hold it; the modules that a web server
has are taken (base, ssh, apache, databases and what these need).
"""

from __future__ import annotations

import bz2
import os
import shutil
from pathlib import Path

import pytest

from lab.images import cache
from tests.lab_fixtures import unavailable
from tests.selinux import matrix, policy
from tests.selinux.policy import Policy

pytestmark = pytest.mark.lab

MODULES = [
    "apache",
    "apt",
    "base",
    "cron",
    "fail2ban",
    "getty",
    "iptables",
    "logrotate",
    "mysql",
    "postgresql",
    "redis",
    "ssh",
    "staff",
    "su",
    "sudo",
    "unconfined",
    "unprivuser",
    "xdg",
    "xserver",
]
TO_CIL = Path("/usr/libexec/selinux/hll/pp")


def store() -> Path:
    """The folder of compiled modules in a node image. Skips the test when there is none."""
    if shutil.which("secilc") is None or not TO_CIL.exists():
        unavailable("no secilc or pp here: apt-get install secilc policycoreutils")
    found = sorted(cache.cache_dir().glob("el-base/*/tree/var/lib/selinux/*/active/modules/100"))
    if not found or not os.access(found[-1], os.R_OK):
        unavailable("no node image with a policy store")
    return found[-1]


def build(folder: Path) -> Policy:
    module = (policy.SOURCE / "panel.te").read_text()
    policy.compiled(module, folder)
    policy.run(str(TO_CIL), "panel.pp", "panel.cil", cwd=folder)
    modules = store()
    for name in MODULES:
        (folder / f"{name}.cil").write_bytes(bz2.decompress((modules / name / "cil").read_bytes()))
    sources = [f"{name}.cil" for name in (*MODULES, "panel")]
    policy.run("secilc", "-M", "true", "-o", "policy", "-f", "contexts", *sources, cwd=folder)
    return Policy(folder / "policy")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return build(tmp_path_factory.mktemp("reference"))


def test_each_access_is_answered_as_over_the_stub(reference: Policy) -> None:
    questions = matrix.questions("refpolicy")
    answers = {str(q): reference.ask(q.source, q.target, q.kind, q.permission) for q in questions}
    assert answers == {str(q): q.answer for q in questions}


@pytest.mark.parametrize("who", ["app", "agent"])
def test_the_booleans_gate_what_the_base_policy_does_not_allow_on_its_own(
    reference: Policy, who: str
) -> None:
    gates = {
        "panel_can_manage_users": matrix.USERS.format(who=f"{who}/none"),
        "panel_can_reload_nginx": matrix.RELOADS.format(
            who=f"{who}/none", unit=matrix.NGINX_UNIT["refpolicy"]
        ),
    }
    for name, table in gates.items():
        on = reference.with_boolean(name)
        for q in matrix.questions("refpolicy", table):
            asked = (q.source, q.target, q.kind, q.permission)
            assert (reference.ask(*asked), on.ask(*asked)) == ("type", "allowed"), q


@pytest.mark.parametrize("domain", ["laravel_php_fpm_t", "laravel_job_t", "laravel_redis_t"])
def test_no_site_reads_secrets_of_the_node(reference: Policy, domain: str) -> None:
    mine = f"system_u:system_r:{domain}:s0:c100,c101"
    for kind in (
        "shadow_t",
        "sshd_key_t",
        "mysqld_db_t",
        "postgresql_db_t",
        "auditd_log_t",
        "policy_config_t",
        "semanage_store_t",
        "user_home_t",
        "var_log_t",
    ):
        assert reference.ask(mine, f"system_u:object_r:{kind}:s0", "file", "read") == "type", kind


def test_a_job_runs_no_program_that_makes_more_of_it(reference: Policy) -> None:
    job = "system_u:system_r:laravel_job_t:s0:c100,c101"
    for kind in (
        "apt_exec_t",
        "chfn_exec_t",
        "crontab_exec_t",
        "dpkg_exec_t",
        "init_exec_t",
        "load_policy_exec_t",
        "mount_exec_t",
        "passwd_exec_t",
        "semanage_exec_t",
        "setfiles_exec_t",
        "ssh_exec_t",
        "su_exec_t",
        "sudo_exec_t",
        "useradd_exec_t",
    ):
        assert reference.ask(job, f"system_u:object_r:{kind}:s0", "file", "execute") == "type", kind
    for domain in ("initrc_t", "semanage_t", "unconfined_t", "laravel_ssh_key_t", "laravel_php_fpm_t"):
        other = f"system_u:system_r:{domain}:s0:c100,c101"
        assert reference.ask(job, other, "process", "transition") in ("type", "role"), domain


def test_the_base_policy_lets_the_programs_do_what_the_agent_runs_them_for(reference: Policy) -> None:
    for question in matrix.questions("refpolicy", matrix.BASE):
        asked = (question.source, question.target, question.kind, question.permission)
        assert reference.ask(*asked) == question.answer, question
