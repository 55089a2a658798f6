"""The package that nodes get: its format, its file contexts, and that it builds as the Makefile says."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

import pytest

from reconciler.blueprint.places import Places
from reconciler.platforms import NAMES, for_os
from reconciler.selinux import labels
from tests.selinux import policy, stub

MODULE = (policy.SOURCE / "panel.te").read_text()
CONTEXTS = [
    line.split()
    for line in (policy.SOURCE / "panel.fc").read_text().splitlines()
    if line and not line.startswith("#")
]
DECLARED = set(re.findall(r"^type (\w+);", MODULE, re.MULTILINE))


def type_of(path: str) -> str:
    """As the last expression that fits says; the file lists the special ones after the general ones."""
    found = [fields[-1] for fields in CONTEXTS if re.fullmatch(fields[0], path)]
    return found[-1].split(":")[2] if found else ""


def test_make_builds_the_package_in_the_format_that_the_oldest_platform_reads(tmp_path: Path) -> None:
    for name in ("Makefile", "panel.te", "panel.fc"):
        shutil.copy(policy.SOURCE / name, tmp_path)
    policy.run("make", "-s", cwd=tmp_path)
    raw = (tmp_path / "panel.mod").read_bytes()
    # magic, length and text of the kind, then policy kind (2: a module) and format version (libsepol, module.h)
    magic, length = struct.unpack_from("<II", raw)
    kind, version = struct.unpack_from("<II", raw, 8 + length)
    assert (magic, raw[8 : 8 + length], kind, version) == (0xF97CFF8D, b"SE Linux Module", 2, 19)
    assert (tmp_path / "panel.pp").stat().st_size > len(raw)
    policy.run("make", "-s", "clean", cwd=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Makefile", "panel.fc", "panel.te"]


def test_the_domains_types_and_booleans_of_the_plan_are_there() -> None:
    plan = {
        "laravel_app_t",
        "laravel_php_fpm_t",
        "laravel_nginx_t",
        "laravel_ssh_key_t",
        "site_content_t",
        "laravel_app_rw_t",
    }
    assert plan <= DECLARED
    assert re.findall(r"^bool (\w+) (\w+);", MODULE, re.MULTILINE) == [
        ("panel_can_manage_users", "false"),
        ("panel_can_reload_nginx", "false"),
        ("panel_can_relay", "false"),
    ]


def test_every_context_has_a_type_that_exists_and_no_level_of_a_site() -> None:
    for fields in CONTEXTS:
        user, role, kind, level = fields[-1].split(":")
        assert (user, role, level) == ("system_u", "object_r", "s0")
        assert kind in DECLARED | {
            "httpd_config_t",
            "httpd_exec_t",
            "httpd_sys_content_t",
            "httpd_var_lib_t",
            "httpd_var_run_t",
            "swapfile_t",
        }


@pytest.mark.parametrize(
    ("one", "other"), [("/run/", "/var/run/"), ("/etc/systemd/system/", "/usr/lib/systemd/system/")]
)
def test_paths_that_families_look_up_differently_are_given_in_both_ways(one: str, other: str) -> None:
    by_path = {fields[0]: fields[1:] for fields in CONTEXTS}
    mine = {path.removeprefix(one): rest for path, rest in by_path.items() if path.startswith(one)}
    assert mine
    assert mine == {
        path.removeprefix(other): rest for path, rest in by_path.items() if path.startswith(other)
    }


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/usr/bin/panel-ssh-manager", "laravel_ssh_key_exec_t"),
        ("/usr/bin/reconciler", "laravel_app_exec_t"),
        ("/var/lib/panel", "laravel_ssh_key_var_lib_t"),
        ("/var/lib/panel/archive/web1-01J.tar.gz", "laravel_ssh_key_var_lib_t"),
        ("/var/lib/panel-login/.ssh/authorized_keys", ""),
        ("/run/panel/blobs/00", "laravel_ssh_key_var_run_t"),
        ("/etc/sudoers.d/panel-reconciler", "laravel_etc_t"),
        ("/etc/panel/tls/shop/privkey.pem", "laravel_tls_t"),
        ("/var/lib/panel-sites/acme/.well-known/acme-challenge/token", "httpd_sys_content_t"),
        ("/etc/systemd/system/certbot-renew.service.d/panel-trust.conf", "laravel_unit_t"),
        ("/etc/sudoers.d/others", ""),
        ("/usr/bin/caddy", "httpd_exec_t"),
        ("/etc/panel/caddy/shop.caddy", "httpd_config_t"),
        ("/run/caddy/admin.sock", "httpd_var_run_t"),
        ("/var/log/caddy/panel-shop.access.log", "laravel_caddy_log_t"),
        ("/etc/systemd/system/caddy.service.d/panel-selinux.conf", "laravel_unit_t"),
        ("/var/lib/reconciler/state.db", "laravel_app_var_lib_t"),
        ("/var/www/panel/index.php", "site_content_t"),
        ("/var/www/panel/public/a.css", "site_content_t"),
        ("/var/www/panel/storage/logs", "laravel_app_rw_t"),
        ("/var/www/panel/bootstrap/cache/a", "laravel_app_rw_t"),
        ("/var/www/panel/bootstrap/app.php", "site_content_t"),
    ],
)
def test_the_panels_own_paths_have_their_types(path: str, kind: str) -> None:
    assert type_of(path) == kind


@pytest.mark.parametrize("os", NAMES)
def test_what_a_site_has_outside_of_its_home_is_labelled_on_every_platform(os: str) -> None:
    platform = for_os(os)
    here = Places("shop", "web1", "shop.example", platform, platform.nginx, "/home/web1/public_html")
    assert type_of(here.fpm_config) == "laravel_etc_t"
    assert type_of(here.logrotate) == "laravel_etc_t"
    assert type_of(here.unit_file) == "laravel_unit_t"
    for unit in (
        f"{here.cron('a-b')}.service",
        f"{here.cron('a-b')}.timer",
        f"{here.worker('queue')}@.service",
    ):
        assert type_of(f"{here.unit_folder}/{unit}") == "laravel_unit_t"
    assert type_of(here.runtime) == type_of(here.socket) == labels.RUNTIME
    assert type_of(f"{here.unit_folder}/{here.redis_unit}") == "laravel_unit_t"
    assert type_of(here.redis_config) == "laravel_etc_t"
    assert type_of(here.redis_runtime) == labels.REDIS_RUNTIME
    if platform.package_manager == "dnf":
        assert type_of(platform.php.binary_of("8.3")) == "httpd_exec_t"


def test_every_type_that_labels_name_is_one_of_the_module() -> None:
    named = {label.type for label in labels.of_site("shop", "web1", "laravel", "s0:c1,c2", redis=True)}
    assert named <= DECLARED
    assert labels.SITE_DOMAINS <= DECLARED


def test_a_name_that_is_not_known_to_be_of_a_family_is_noticed() -> None:
    added = MODULE + "optional { require { type brand_new_t; } allow laravel_app_t brand_new_t:file read; }\n"
    with pytest.raises(KeyError, match="brand_new_t"):
        stub.base(added, "el")
