"""The steps of SELinux in a folder node. That the real tools do what the stand-ins do is shown by tests/vm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .building import bundle, directory, file, gone, section
from .selinux_node import calls, context, prepare
from .talking import Here, Refused, Talk

POLICY = Path(__file__).parents[2] / "selinux"
TE, FC = (POLICY / "panel.te").read_bytes(), (POLICY / "panel.fc").read_bytes()
SOURCE = "/etc/panel/selinux"
LOCAL = b"""module panel_local 1.0.0;
require { type laravel_php_fpm_t; type ldap_port_t; class tcp_socket { name_connect }; }
allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;
"""
LEVEL = "s0:c0,c100"
Step = dict[str, Any]


@pytest.fixture
def node(here: Here) -> Here:
    probe = here.write("/home/probe", "")
    try:
        os.setxattr(probe, "security.selinux", b"system_u:object_r:default_t:s0\0")
    except OSError as error:
        pytest.skip(f"labels cannot be written here: {error.strerror}")
    probe.unlink()
    return prepare(here)


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


def module(name: str, *, contexts: bool = False) -> Step:
    more = {"contexts": f"{SOURCE}/{name}.fc"} if contexts else {}
    return {
        "type": "selinux_module",
        "key": f"selinux_module:{name}",
        "name": name,
        "source": f"{SOURCE}/{name}.te",
        **more,
    }


def booleans(**wanted: bool) -> Step:
    return {"type": "selinux_booleans", "key": "selinux_booleans:node", "booleans": wanted}


def labels(site: str, user: str, level: str = LEVEL, **more: Any) -> Step:
    listed = [
        {"pattern": f"/home/{user}(/.*)?", "type": "site_content_t", "level": level},
        {"pattern": f"/home/{user}/storage(/.*)?", "type": "laravel_app_rw_t", "level": level},
        {"pattern": f"/home/{user}/\\.env", "type": "laravel_env_t", "level": level},
        {"pattern": f"/var/run/panel-fpm/{site}(/.*)?", "type": "laravel_php_fpm_run_t", "level": level},
    ]
    roots = [f"/home/{user}", f"/run/panel-fpm/{site}"]
    return {
        "type": "selinux_labels",
        "key": f"selinux_labels:{site}",
        "site": site,
        "roots": roots,
        "labels": listed,
        **more,
    }


def policy(te: bytes = TE, *more: Step) -> dict[str, Any]:
    return bundle(
        section(
            "Server/web1",
            directory(SOURCE),
            file(f"{SOURCE}/panel.te", te),
            file(f"{SOURCE}/panel.fc", FC),
            module("panel", contexts=True),
            *more,
        )
    )


def state(outcome: dict[str, Any], name: str = "Server/web1") -> str:
    return str(outcome["sections"][name]["state"])


def check(talk: Talk, made: dict[str, Any]) -> list[str]:
    digest = talk.ask("bundle", bundle=made)["digest"]
    return [found["key"] for found in talk.ask("prepare", digest=digest, sections=None)["differences"]]


def test_the_facts_tell_what_the_kernel_and_the_store_say(node: Here, talk: Talk) -> None:
    facts = talk.ask("hello", protocol=1)["facts"]
    assert (facts["selinux"], facts["selinux_policy"], facts["selinux_policy_version"]) == (
        "enforcing",
        "targeted",
        "33",
    )
    assert facts["selinux_module"] == ""
    talk.apply(1, policy(), TE, FC)
    assert len(talk.ask("hello", protocol=1)["facts"]["selinux_module"]) == 64


def test_the_module_is_built_installed_and_its_files_are_relabelled(node: Here, talk: Talk) -> None:
    assert state(talk.apply(1, policy(), TE, FC)) == "succeeded"
    done = calls(node)
    assert [line.split()[0] for line in done] == ["semodule", "restorecon"]
    assert "/etc/panel" in done[1].split()
    assert "/var/lib/panel" in done[1].split()
    assert not [word for word in done[1].split() if word.startswith("/home")]
    assert check(talk, policy()) == []
    assert state(talk.apply(2, policy())) == "unchanged"
    assert calls(node) == []


def test_a_module_that_somebody_removed_or_exchanged_is_drift(node: Here, talk: Talk) -> None:
    talk.apply(1, policy(), TE, FC)
    store = node.path("/var/lib/selinux/targeted/active/modules/400/panel/hll")
    kept = store.read_bytes()
    store.write_bytes(b"another")
    assert check(talk, policy()) == ["selinux_module:panel"]
    store.unlink()
    assert check(talk, policy()) == ["selinux_module:panel"]
    assert state(talk.apply(2, policy())) == "succeeded"
    assert store.read_bytes() == kept


def test_a_source_that_cannot_be_built_leaves_the_policy_as_it_was(node: Here, talk: Talk) -> None:
    talk.apply(1, policy(), TE, FC)
    calls(node)
    broken = TE + b"\nallow nobody_t nothing_t:file read;\n"
    outcome = talk.apply(2, policy(broken), broken)
    assert state(outcome) == "failed"
    assert "unknown type nobody_t" in outcome["sections"]["Server/web1"]["message"]
    assert check(talk, policy()) == []
    assert not [line for line in calls(node) if line.startswith("semodule -r")]


def test_a_change_that_fails_later_brings_the_module_of_before_back(node: Here, talk: Talk) -> None:
    talk.apply(1, policy(), TE, FC)
    store = node.path("/var/lib/selinux/targeted/active/modules/400/panel/hll")
    before = store.read_bytes()
    other = TE + b"\n# more\nallow laravel_php_fpm_t self:process getsession;\n"
    other = other.replace(b"class process { execmem", b"class process { getsession execmem")
    outcome = talk.apply(2, policy(other, booleans(no_such_boolean=True)), other)
    assert state(outcome) == "failed"
    assert "has no boolean no_such_boolean" in outcome["sections"]["Server/web1"]["message"]
    assert store.read_bytes() == before
    assert check(talk, policy()) == []


def test_rules_of_ones_own_are_a_module_that_goes_when_they_go(node: Here, talk: Talk) -> None:
    rules = file(f"{SOURCE}/panel_local.te", LOCAL)
    talk.apply(1, policy(TE, rules, module("panel_local")), TE, FC, LOCAL)
    store = node.path("/var/lib/selinux/targeted/active/modules/400/panel_local")
    assert store.is_dir()
    outcome = talk.apply(2, policy(TE, gone(module("panel_local")), gone(rules)))
    assert state(outcome) == "succeeded"
    assert not store.exists()
    assert check(talk, policy(TE, gone(module("panel_local")))) == []


def test_booleans_are_set_in_one_call_and_kept(node: Here, talk: Talk) -> None:
    wanted = bundle(
        section("Server/web1", booleans(panel_can_manage_users=True, panel_can_reload_nginx=True))
    )
    assert state(talk.apply(1, wanted)) == "succeeded"
    assert calls(node) == ["setsebool -P panel_can_manage_users=on panel_can_reload_nginx=on"]
    node.write("/sys/fs/selinux/booleans/panel_can_reload_nginx", "0 0\n")
    talk.apply(2, wanted)
    assert calls(node) == ["setsebool -P panel_can_reload_nginx=on"]
    assert check(talk, wanted) == []


def port(number: int) -> Step:
    return {"type": "selinux_port", "key": f"selinux_port:{number}", "port": number, "label": "ssh_port_t"}


def test_a_port_gets_its_label_once_and_keeps_it(node: Here, talk: Talk) -> None:
    wanted = bundle(section("Server/web1", port(2222), port(8443)))
    assert check(talk, wanted) == ["selinux_port:2222", "selinux_port:8443"]
    assert state(talk.apply(1, wanted)) == "succeeded"
    verbs = [line.split()[2] + " " + line.split()[-1] for line in calls(node)]
    # the policy has a label for 8443: that one is changed
    assert verbs == ["-a 2222", "-a 8443", "-m 8443"]
    assert check(talk, wanted) == []
    assert state(talk.apply(2, wanted)) == "unchanged"
    node.write(
        "/var/lib/selinux/targeted/active/ports.local", "portcon tcp 2222 system_u:object_r:http_port_t:s0\n"
    )
    assert check(talk, wanted) == ["selinux_port:2222", "selinux_port:8443"]


def test_the_label_of_a_port_goes_back_when_its_section_fails(node: Here, talk: Talk) -> None:
    failing = bundle(section("Server/web1", port(2222), booleans(no_such_switch=True)))
    assert state(talk.apply(1, failing)) != "succeeded"
    assert "2222" not in node.path("/var/lib/selinux/targeted/active/ports.local").read_text()


def test_the_contexts_of_all_sites_are_one_transaction(node: Here, talk: Talk) -> None:
    for user in ("web1", "web2"):
        node.write(f"/home/{user}/storage/a.txt", "")
        node.write(f"/home/{user}/.env", "")
    made = bundle(
        section("Site/a", labels("a", "web1")), section("Site/b", labels("b", "web2", "s0:c1,c100"))
    )
    outcome = talk.apply(1, made)
    assert (state(outcome, "Site/a"), state(outcome, "Site/b")) == ("succeeded", "succeeded")
    assert [line.split()[0] for line in calls(node)] == ["semanage", "restorecon", "restorecon"]
    assert context(node.path("/home/web1/.env")) == "system_u:object_r:laravel_env_t:s0:c0,c100"
    assert context(node.path("/home/web2/storage/a.txt")) == "system_u:object_r:laravel_app_rw_t:s0:c1,c100"
    assert check(talk, made) == []


@pytest.mark.parametrize(
    "label",
    [
        "system_u:object_r:site_content_t:s0",
        "system_u:object_r:site_content_t:s0:c1,c100",
        "system_u:object_r:etc_t:s0:c0,c100",
        "",
    ],
)
def test_a_file_with_another_level_or_type_is_drift_and_is_put_right(
    node: Here, talk: Talk, label: str
) -> None:
    page = node.write("/home/web1/public_html/index.php", "")
    made = bundle(section("Site/a", labels("a", "web1")))
    talk.apply(1, made)
    assert check(talk, made) == []
    if label:
        os.setxattr(page, "security.selinux", label.encode() + b"\0")
    else:
        os.removexattr(page, "security.selinux")
    digest = talk.ask("bundle", bundle=made)["digest"]
    found = talk.ask("prepare", digest=digest, sections=None)["differences"]
    assert [item["key"] for item in found] == ["selinux_labels:a"]
    assert found[0]["changes"] == [{"field": "labels", "from": "1 wrong", "to": "0 wrong"}]
    assert "/home/web1/public_html/index.php is " in found[0]["note"]
    assert state(talk.apply(2, made), "Site/a") == "succeeded"
    assert context(page) == "system_u:object_r:site_content_t:s0:c0,c100"


def test_contexts_in_another_order_are_set_anew_for_the_last_one_counts(node: Here, talk: Talk) -> None:
    node.write("/home/web1/storage/a.txt", "")
    made = bundle(section("Site/a", labels("a", "web1")))
    talk.apply(1, made)
    local = node.path("/etc/selinux/targeted/contexts/files/file_contexts.local")
    lines = local.read_text().splitlines()
    local.write_text("\n".join(reversed(lines)) + "\n")
    assert check(talk, made) == ["selinux_labels:a"]
    talk.apply(2, made)
    assert local.read_text().splitlines() == lines


def test_a_site_that_goes_takes_its_contexts_and_nobody_elses(node: Here, talk: Talk) -> None:
    made = bundle(
        section("Site/a", labels("a", "web1")), section("Site/b", labels("b", "web10", "s0:c9,c100"))
    )
    talk.apply(1, made)
    going = {
        "type": "selinux_labels",
        "key": "selinux_labels:a",
        "site": "a",
        "roots": ["/home/web1", "/run/panel-fpm/a"],
    }
    rest = bundle(section("Site/a", {**going, "state": "absent"}), made["sections"][1])
    assert state(talk.apply(2, rest), "Site/a") == "succeeded"
    text = node.path("/etc/selinux/targeted/contexts/files/file_contexts.local").read_text()
    assert "web10" in text
    assert "/home/web1(" not in text
    assert "panel-fpm/a(" not in text
    assert check(talk, rest) == []


def test_a_section_that_fails_has_the_contexts_of_before(node: Here, talk: Talk) -> None:
    node.write("/home/web1/x", "")
    before = bundle(section("Site/a", labels("a", "web1")))
    talk.apply(1, before)
    node.write("/etc/nginx/in-the-way/file", "")
    bad = file("/etc/nginx/in-the-way", b"x")
    outcome = talk.apply(2, bundle(section("Site/a", labels("a", "web1", "s0:c7,c100"), bad)), b"x")
    assert state(outcome, "Site/a") == "failed"
    assert context(node.path("/home/web1/x")).endswith(":s0:c0,c100")
    assert check(talk, before) == []


@pytest.mark.parametrize("step", [policy, lambda: bundle(section("Server/web1", labels("a", "web1")))])
def test_without_selinux_in_the_kernel_it_says_so(here: Here, step: Any) -> None:
    prepare(here)
    here.path("/sys/fs/selinux/enforce").unlink()
    with here.talk() as talk:
        outcome = talk.apply(1, step(), TE, FC)
    assert state(outcome) == "failed"
    assert "SELinux is off on this node" in outcome["sections"]["Server/web1"]["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("roots", ["/etc"]),
        ("roots", ["/home"]),
        ("roots", ["/home/web1/x"]),
        ("roots", ["/run/panel-fpm/../../etc"]),
        ("labels", [{"pattern": "/etc(/.*)?", "type": "site_content_t", "level": LEVEL}]),
        ("labels", [{"pattern": "/home/../etc(/.*)?", "type": "site_content_t", "level": LEVEL}]),
        ("labels", [{"pattern": "/home/.*", "type": "site_content_t", "level": LEVEL}]),
        ("labels", [{"pattern": "/home/a'\nboolean", "type": "site_content_t", "level": LEVEL}]),
        ("labels", [{"pattern": "/home/web1", "type": "shadow_t", "level": LEVEL}]),
        ("labels", [{"pattern": "/home/web1", "type": "site_content_t", "level": "s0"}]),
        ("labels", [{"pattern": "/home/web1", "type": "site_content_t", "level": "s0:c0.c1023"}]),
        ("labels", []),
    ],
)
def test_labels_that_no_site_has_are_refused(node: Here, talk: Talk, field: str, value: object) -> None:
    with pytest.raises(Refused, match=field):
        talk.ask("bundle", bundle=bundle(section("Site/a", {**labels("a", "web1"), field: value})))
    assert calls(node) == []
