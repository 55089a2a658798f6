from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.blueprint.places import Places
from reconciler.platforms import for_os
from reconciler.selinux import labels

LEVEL = "s0:c7,c300"


def type_of(path: str, app_type: labels.AppType = "generic") -> str:
    found = labels.wanted(path, labels.of_site("shop", "web1", app_type, LEVEL))
    return found.type if found else ""


def places() -> Places:
    return Places(
        "shop", "web1", "shop.example", for_os("alma_9"), for_os("alma_9").nginx, "/home/web1/public_html"
    )


def test_each_place_of_a_site_has_the_type_that_its_use_needs() -> None:
    here = places()
    assert type_of(here.home) == "site_content_t"
    assert type_of(f"{here.public}/index.php") == "site_content_t"
    assert type_of(here.env) == "laravel_env_t"
    # jobs start in the one and have their TMPDIR in the other
    assert type_of(here.public) == "site_content_t"
    for folder in (here.temporary, here.sessions, here.logs):
        assert type_of(folder) == type_of(f"{folder}/file") == "laravel_app_rw_t"
    assert type_of(here.runtime) == type_of(here.socket) == "laravel_php_fpm_run_t"


def test_an_application_writes_where_it_has_to_and_nowhere_else() -> None:
    public = places().public
    assert type_of(f"{public}/storage/logs/a", "laravel") == "laravel_app_rw_t"
    assert type_of(f"{public}/bootstrap/cache/a.php", "laravel") == "laravel_app_rw_t"
    assert type_of(f"{public}/bootstrap/app.php", "laravel") == "site_content_t"
    assert type_of(f"{public}/wp-content/uploads/a.png", "wordpress") == "laravel_app_rw_t"
    assert type_of(f"{public}/wp-config.php", "wordpress") == "site_content_t"
    assert type_of(f"{public}/storage/a", "generic") == "site_content_t"


@pytest.mark.parametrize("app_type", ["static", "proxy"])
def test_a_site_without_php_has_its_home_and_no_folder_of_sockets(app_type: labels.AppType) -> None:
    here = places()
    assert type_of(here.public, app_type) == "site_content_t"
    assert (
        type_of(here.temporary, app_type)
        == type_of(f"{here.home}/storage/a.sock", app_type)
        == "laravel_app_rw_t"
    )
    assert type_of(here.env, app_type) == "laravel_env_t"
    assert type_of(here.socket, app_type) == ""


@pytest.mark.parametrize(
    "path", ["/home/web10", "/home/web1x/.env", "/home/web2/.env", "/run/panel-fpm/shop2", "/home"]
)
def test_neighbours_are_not_touched(path: str) -> None:
    assert type_of(path) == ""


def test_names_are_names_not_expressions() -> None:
    found = labels.of_site("a.b", "u-x", "generic", LEVEL)
    assert labels.wanted("/run/panel-fpm/aXb", found) is None
    assert labels.wanted("/run/panel-fpm/a.b", found) is not None


@pytest.mark.parametrize("run", ["/run", "/var/run"])
@pytest.mark.parametrize("path", ["/run/panel-fpm/shop/php.sock", "/var/run/panel-fpm/shop/php.sock"])
def test_both_ways_to_write_run_are_one(run: str, path: str) -> None:
    found = labels.wanted(path, labels.of_site("shop", "web1", "generic", LEVEL, run=run))
    assert found is not None
    assert found.pattern.startswith(f"{run}/panel-fpm/")


def test_every_label_is_at_the_level_of_the_site() -> None:
    found = labels.of_site("shop", "web1", "laravel", LEVEL)
    assert {label.level for label in found} == {LEVEL}
    assert found[0].context == f"system_u:object_r:site_content_t:{LEVEL}"
    assert labels.process(LEVEL, labels.JOB) == f"system_u:system_r:laravel_job_t:{LEVEL}"
    assert labels.process(LEVEL) == f"system_u:system_r:laravel_php_fpm_t:{LEVEL}"


@given(st.text(max_size=60))
def test_any_path_may_be_asked_for(path: str) -> None:
    labels.wanted(path, labels.of_site("shop", "web1", "laravel", LEVEL))


def test_a_redis_of_a_site_has_its_data_and_its_socket() -> None:
    here = places()
    with_redis = labels.of_site("shop", "web1", "static", LEVEL, redis=True)
    for path, kind in (
        (f"{here.redis_data}/dump.rdb", "laravel_redis_db_t"),
        (here.redis_socket, "laravel_redis_run_t"),
        (f"{here.home}/storage/a", "laravel_app_rw_t"),
    ):
        label = labels.wanted(path, with_redis)
        assert label is not None
        assert (label.type, label.level) == (kind, LEVEL)
    assert type_of(f"{here.redis_data}/dump.rdb") == "laravel_app_rw_t"
    assert type_of(here.redis_socket) == ""


def test_what_releases_share_and_what_an_application_writes_in_one_may_be_written() -> None:
    found = labels.of_site("shop", "web1", "laravel", LEVEL, deployed=True)
    home = "/home/web1"
    writable = (f"{home}/shared/storage/x", f"{home}/releases/1-a/bootstrap/cache/x")
    for path in writable:
        label = labels.wanted(path, found)
        assert label is not None
        assert (label.type, label.level) == (labels.WRITABLE, LEVEL)
    for path in (f"{home}/releases/1-a/app/x", f"{home}/current", f"{home}/releases/1-a/.env"):
        label = labels.wanted(path, found)
        assert label is not None
        assert label.type == labels.SITE_CONTENT
