from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.selinux import audit, labels, mcs
from reconciler.selinux.audit import Context, Denial
from reconciler.selinux.explain import Explanation, explain
from tests.selinux import matrix, policy, samples
from tests.selinux.stub import FAMILIES, Family

SITES = {mcs.number_of({100, 101}) or 0: "shop", mcs.number_of({102, 103}) or 0: "blog"}
WANTED = labels.of_site("shop", "web1", "generic", "s0:c100,c101")


def denial(source: str, target: str, tclass: str, *permissions: str, path: str | None = None) -> Denial:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    contexts = Context.of(source), Context.of(target)
    return Denial("AVC", "denied", at, 1, permissions, *contexts, tclass, comm="php-fpm", path=path)


def of(text: str) -> Explanation:
    (found,) = audit.parse(text.splitlines())
    return explain(found, sites=SITES, wanted=WANTED)


def php(target: str, tclass: str, *permissions: str, path: str | None = None) -> Explanation:
    source = "system_u:system_r:laravel_php_fpm_t:s0:c100,c101"
    return explain(denial(source, target, tclass, *permissions, path=path), sites=SITES, wanted=WANTED)


def test_another_sites_home_is_isolation_and_both_sites_are_named() -> None:
    found = of(samples.OTHER_HOME)
    assert found.cause == "isolation"
    assert found.said == "PHP of site shop may not reach what is of site blog"
    assert found.suggestion == ""


def test_a_site_that_is_not_known_is_named_by_its_level() -> None:
    (found,) = audit.parse(samples.OTHER_HOME.splitlines())
    assert "s0:c102,c103" in explain(found).said


@pytest.mark.parametrize(
    ("target", "tclass", "permission", "word"),
    [
        ("laravel_php_fpm_t:s0:c102,c103", "unix_stream_socket", "connectto", "php-fpm"),
        ("laravel_php_fpm_run_t:s0:c100,c101", "sock_file", "write", "php-fpm"),
        ("site_content_t:s0:c100,c101", "file", "write", "code"),
        ("laravel_env_t:s0:c100,c101", "file", "append", "code"),
        ("shell_exec_t:s0", "file", "execute", "programs"),
        ("ssh_port_t:s0", "tcp_socket", "name_connect", "ssh_port_t"),
    ],
)
def test_what_the_module_refuses_on_purpose_gets_no_rule(
    target: str, tclass: str, permission: str, word: str
) -> None:
    found = php(f"system_u:object_r:{target}", tclass, permission)
    assert (found.cause, found.suggestion) == ("isolation", "")
    if "c102" not in target:
        assert word in found.said


@pytest.mark.parametrize(
    ("target", "tclass", "permission", "word"),
    [
        ("laravel_env_t:s0:c100,c101", "file", "write", ".env"),
        ("laravel_app_rw_t:s0:c100,c101", "file", "execute", "PHP can write"),
        ("laravel_php_fpm_tmp_t:s0:c100,c101", "file", "execute_no_trans", "PHP can write"),
        ("laravel_php_fpm_run_t:s0:c100,c101", "sock_file", "write", "php-fpm"),
        ("laravel_php_fpm_t:s0:c100,c101", "unix_stream_socket", "connectto", "php-fpm"),
        ("su_exec_t:s0", "file", "execute", "another user"),
        ("crontab_exec_t:s0", "file", "execute", "manifest"),
        ("sendmail_exec_t:s0", "file", "execute", "sendmail"),
        ("ssh_port_t:s0", "tcp_socket", "name_connect", "ssh_port_t"),
        ("site_content_t:s0:c102,c103", "dir", "search", "a job of site shop"),
    ],
)
def test_what_a_job_is_refused_on_purpose_gets_no_rule(
    target: str, tclass: str, permission: str, word: str
) -> None:
    source = "system_u:system_r:laravel_job_t:s0:c100,c101"
    found = explain(denial(source, f"system_u:object_r:{target}", tclass, permission), sites=SITES)
    assert (found.cause, found.suggestion) == ("isolation", "")
    assert word in found.said


def test_the_web_server_and_env_files_is_isolation() -> None:
    env = "system_u:object_r:laravel_env_t:s0:c100,c101"
    found = explain(
        denial("system_u:system_r:laravel_nginx_t:s0", env, "file", "read", path="/home/web1/.env")
    )
    assert (found.cause, found.said) == ("isolation", "the web server may not read .env files")


def test_a_file_left_without_its_level_is_a_wrong_label() -> None:
    nginx = "system_u:system_r:laravel_nginx_t:s0"
    refused = denial(
        nginx, "system_u:object_r:site_content_t:s0", "file", "write", path="/home/web1/tmp/it's.txt"
    )
    found = explain(refused, wanted=WANTED)
    assert found.cause == "wrong label"
    assert "should be laravel_app_rw_t:s0:c100,c101" in found.said
    command = "chcon -h -u system_u -t laravel_app_rw_t -l s0:c100,c101 '/home/web1/tmp/it'\\''s.txt'"
    assert found.suggestion == command


def test_a_label_of_no_site_is_wrong_also_when_nothing_is_known_of_the_site() -> None:
    home = "unconfined_u:object_r:user_home_t:s0"
    source = "system_u:system_r:laravel_php_fpm_t:s0:c100,c101"
    assert (
        explain(denial(source, home, "file", "read", path="/home/web1/a")).suggestion
        == "restorecon -F '/home/web1/a'"
    )
    nameless = denial(source, home, "dir", "search")
    assert explain(nameless).suggestion == "restorecon -RF /home"
    found_by = "find /home /run -inum 77 -exec restorecon -F {} +"
    assert explain(replace(nameless, ino=77)).suggestion == found_by
    # other programs have their own business there
    assert explain(denial("system_u:system_r:logrotate_t:s0", home, "file", "read")).cause == "missing rule"


@pytest.mark.parametrize(
    ("target", "tclass", "permission", "boolean"),
    [
        ("useradd_exec_t", "file", "execute", "panel_can_manage_users"),
        ("groupadd_exec_t", "file", "execute", "panel_can_manage_users"),
        ("laravel_nginx_t", "process", "signal", "panel_can_reload_nginx"),
        ("httpd_unit_file_t", "service", "reload", "panel_can_reload_nginx"),
    ],
)
def test_a_boolean_that_is_off_is_named(target: str, tclass: str, permission: str, boolean: str) -> None:
    agent = "system_u:system_r:laravel_ssh_key_t:s0"
    found = explain(denial(agent, f"system_u:object_r:{target}:s0", tclass, permission))
    assert (found.cause, found.suggestion) == ("missing rule", f"setsebool -P {boolean} on")
    other = explain(
        denial("system_u:system_r:sshd_t:s0", f"system_u:object_r:{target}:s0", tclass, permission)
    )
    assert other.suggestion.startswith("allow sshd_t ")


def test_the_refused_reload_of_the_web_server_is_explained_from_its_record() -> None:
    assert of(samples.RELOAD).suggestion == "setsebool -P panel_can_reload_nginx on"


def test_faults_of_the_policy_suggest_what_they_lack() -> None:
    assert of(samples.NO_NEW_PRIVILEGES).suggestion == (
        "allow init_t laravel_php_fpm_t:process2 { nnp_transition nosuid_transition };"
    )
    for text in (samples.INVALID, samples.INVALID_QUOTED):
        assert of(text).suggestion == "role unconfined_r types rpm_t;"


def test_a_grant_and_a_record_without_contexts_suggest_nothing() -> None:
    (found,) = audit.parse(samples.OTHER_HOME.splitlines())
    assert explain(replace(found, verdict="granted")).cause == "granted"
    assert explain(replace(found, source=None)) == explain(replace(found, target=None))
    assert explain(replace(found, target=None)).cause == "unreadable"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_suggested_rule_makes_the_module_allow_what_it_refused(family: Family, tmp_path: Path) -> None:
    nginx, unit = "system_u:system_r:laravel_nginx_t:s0", "system_u:object_r:laravel_unit_t:s0"
    found = explain(denial(nginx, unit, "file", "read", "open"))
    assert found.cause == "missing rule"
    module = (policy.SOURCE / "panel.te").read_text()
    assert policy.linked(module, family, tmp_path / "before").ask(nginx, unit, "file", "read") == "type"
    after = policy.linked(module + found.suggestion + "\n", family, tmp_path / "after")
    assert after.ask(nginx, unit, "file", "read") == "allowed"


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_the_policy_refuses_for_its_level_is_called_isolation(family: Family) -> None:
    refused = [q for q in matrix.questions(family) if q.answer == "categories"]
    assert refused
    for question in refused:
        found = explain(denial(question.source, question.target, question.kind, question.permission))
        assert found.cause == "isolation", question


CONTEXTS = st.builds(
    "system_u:{}:{}:{}".format,
    st.sampled_from(["system_r", "object_r", "x"]),
    st.sampled_from(["laravel_php_fpm_t", "laravel_nginx_t", "laravel_env_t", "user_home_t", "y"]),
    st.sampled_from(["s0", "s0:c1,c2", "s0:c3,c4", "", "z", "s0-s0:c0.c1023"]),
)


@given(
    CONTEXTS,
    CONTEXTS,
    st.sampled_from(["file", "dir", "service", "", "process"]),
    st.lists(st.text(max_size=8)),
)
def test_every_denial_has_an_explanation(
    source: str, target: str, tclass: str, permissions: list[str]
) -> None:
    refused = denial(source, target, tclass, *permissions, path="/home/web1/a")
    for found in (explain(refused), explain(refused, sites=SITES, wanted=WANTED)):
        assert found.said
        assert (found.suggestion == "") == (found.cause in {"isolation", "unreadable", "granted"})
