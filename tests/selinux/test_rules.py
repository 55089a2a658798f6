"""Rules of the fleet's own: what is taken, what is refused, and that what comes of them compiles and does what it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.selinux import rules


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (
            "allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;",
            "allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;",
        ),
        (
            "  allow  laravel_php_fpm_t\tldap_port_t:tcp_socket {name_connect} ;",
            "allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;",
        ),
        (
            "dontaudit laravel_nginx_t etc_t:{dir file} { search read };",
            "dontaudit laravel_nginx_t etc_t:{ dir file } { read search };",
        ),
        ("allow laravel_php_fpm_t self:process execmem;", "allow laravel_php_fpm_t self:process execmem;"),
    ],
)
def test_a_rule_is_read_and_written_in_one_form(line: str, written: str) -> None:
    assert str(rules.parse(line)) == written
    assert str(rules.parse(written)) == written


@pytest.mark.parametrize(
    "line",
    [
        "",
        "allow a b:c d",
        "allow a b:c d; allow e f:g h;",
        "typeattribute laravel_php_fpm_t mcs_constrained_type;",
        "permissive laravel_php_fpm_t;",
        "allow { a b } c:d e;",
        "allow a b:c *;",
        "allow a b:c ~read;",
        "allow a b:c { };",
        "auditallow a b:c d;",
        "allow a b:c d; # why",
        "allow a-b c:d e;",
    ],
)
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="must be one rule such as"):
        rules.parse(line)


@pytest.mark.parametrize(
    "line",
    [
        "allow laravel_php_fpm_t self:unix_stream_socket connectto;",
        "allow laravel_php_fpm_t laravel_php_fpm_t:unix_stream_socket { connectto read };",
        "allow laravel_job_t laravel_php_fpm_t:process ptrace;",
    ],
)
def test_what_would_open_sites_to_each_other_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="would open sites to each other"):
        rules.parse(line)
    assert rules.parse(line.replace("allow", "dontaudit")).verb == "dontaudit"


def test_the_source_names_everything_once_and_compiles(tmp_path: Path) -> None:
    made = [
        rules.parse(line)
        for line in (
            "allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;",
            "allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;",
            "allow laravel_php_fpm_t self:process execmem;",
            "dontaudit laravel_nginx_t etc_t:{ dir file } { search };",
        )
    ]
    text = rules.source_of(made)
    assert text.count("ldap_port_t:tcp_socket name_connect;") == 1
    assert "type self" not in text
    source = tmp_path / f"{rules.LOCAL}.te"
    source.write_text(text)
    done = subprocess.run(
        ["checkmodule", "-M", "-m", "-c", "19", "-o", tmp_path / f"{rules.LOCAL}.mod", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
