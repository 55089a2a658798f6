"""The compiled module answers as the table says, and lets go when the lines that isolation depends on are taken out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.selinux import matrix, policy
from tests.selinux.policy import Answer, Policy
from tests.selinux.stub import FAMILIES, Family

MODULE = (policy.SOURCE / "panel.te").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("selinux")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    name: Family = request.param
    return name


@pytest.fixture(scope="module")
def whole(family: Family, folder: Path) -> Policy:
    return policy.linked(MODULE, family, folder / family)


def asked(of: Policy, questions: list[matrix.Question]) -> dict[str, Answer]:
    return {str(q): of.ask(q.source, q.target, q.kind, q.permission) for q in questions}


def wanted(questions: list[matrix.Question]) -> dict[str, Answer | None]:
    return {str(q): q.answer for q in questions}


def without(*lines: str) -> str:
    """The module less some lines, each of which it must have once."""
    source = MODULE
    for line in lines:
        assert source.count(line) == 1, line
        source = source.replace(line, "")
    return source


def test_each_access_is_answered_as_the_table_says(family: Family, whole: Policy) -> None:
    questions = matrix.questions(family)
    assert asked(whole, questions) == wanted(questions)


def test_without_the_constraint_every_site_is_open_to_every_other(
    family: Family, whole: Policy, folder: Path
) -> None:
    lines = [f"typeattribute laravel_{name}_t mcs_constrained_type;" for name in ("php_fpm", "job", "redis")]
    mutant = policy.linked(without(*lines), family, folder / f"{family}-unconstrained")
    questions = matrix.questions(family)
    before, after = asked(whole, questions), asked(mutant, questions)
    flipped = {name for name in before if before[name] != after[name]}
    assert flipped == {name for name, answer in before.items() if answer == "categories"}
    assert {after[name] for name in flipped} == {"allowed"}


@pytest.mark.parametrize("name", ["php_fpm", "job", "redis"])
def test_each_domain_of_a_site_has_a_constraint_of_its_own(
    family: Family, whole: Policy, folder: Path, name: str
) -> None:
    line = f"typeattribute laravel_{name}_t mcs_constrained_type;"
    mutant = policy.linked(without(line), family, folder / f"{family}-{name}-unconstrained")
    questions = matrix.questions(family)
    before, after = asked(whole, questions), asked(mutant, questions)
    flipped = {str(q) for q in questions if before[str(q)] != after[str(q)]}
    of_domain = {str(q) for q in questions if f":laravel_{name}_t:" in q.source}
    assert flipped == {q for q in of_domain if before[q] == "categories"}


def test_setsebool_is_run_in_its_domain_where_there_is_one(
    folder: Path, whole: Policy, family: Family
) -> None:
    if family == "el":
        questions = matrix.questions(family, matrix.SETSEBOOL)
        assert asked(whole, questions) == wanted(questions)
    else:
        assert "setsebool_t" not in (folder / family / "base.te").read_text()


def test_php_that_may_connect_to_itself_reaches_other_sites_on_enterprise_linux(folder: Path) -> None:
    source = MODULE + "allow laravel_php_fpm_t self:unix_stream_socket connectto;\n"
    one, two = (f"system_u:system_r:laravel_php_fpm_t:s0:c{n},c{n + 1}" for n in (100, 102))
    answers = {
        family: policy.linked(source, family, folder / f"{family}-connect").ask(
            one, two, "unix_stream_socket", "connectto"
        )
        for family in FAMILIES
    }
    assert answers == {"el": "allowed", "refpolicy": "categories"}


@pytest.mark.parametrize("who", ["app", "agent"])
def test_users_are_managed_only_while_the_boolean_is_on(family: Family, whole: Policy, who: str) -> None:
    questions = matrix.questions(family, matrix.USERS.format(who=f"{who}/none"))
    assert set(asked(whole, questions).values()) == {"type"}
    assert set(asked(whole.with_boolean("panel_can_manage_users"), questions).values()) == {"allowed"}
    assert set(asked(whole.with_boolean("panel_can_reload_nginx"), questions).values()) == {"type"}


@pytest.mark.parametrize("who", ["app", "agent"])
def test_the_web_server_is_reloaded_only_while_the_boolean_is_on(
    family: Family, whole: Policy, who: str
) -> None:
    table = matrix.RELOADS.format(who=f"{who}/none", unit=matrix.NGINX_UNIT[family])
    questions = matrix.questions(family, table)
    assert set(asked(whole, questions).values()) == {"type"}
    assert set(asked(whole.with_boolean("panel_can_reload_nginx"), questions).values()) == {"allowed"}
    assert set(asked(whole.with_boolean("panel_can_manage_users"), questions).values()) == {"type"}


def test_the_web_server_reaches_applications_behind_ports_only_while_the_boolean_is_on(
    family: Family, whole: Policy
) -> None:
    table = "{who}  {port}/none  tcp_socket  name_connect"
    upstream = matrix.questions(family, table.format(who="nginx/none", port="unreserved_port_t"))
    assert set(asked(whole, upstream).values()) == {"type"}
    relaying = whole.with_boolean("panel_can_relay")
    assert set(asked(relaying, upstream).values()) == {"allowed"}
    others = matrix.questions(family, table.format(who="nginx/none", port="ssh_port_t"))
    others += matrix.questions(family, table.format(who="php/one", port="unreserved_port_t"))
    assert set(asked(relaying, others).values()) == {"type"}


def test_booleans_gate_nothing_else(family: Family, whole: Policy) -> None:
    questions = matrix.questions(family)
    declared = re.findall(r"^bool (\w+) false;", MODULE, re.M)
    assert len(declared) == 3
    switched = whole
    for name in declared:
        switched = switched.with_boolean(name)
    # the one line of the table that a boolean is about: the table says what holds while it is off
    table = "nginx/none  unreserved_port_t/none  tcp_socket  name_connect"
    relayed = {str(q) for q in matrix.questions(family, table)}
    assert asked(switched, questions) == wanted(questions) | dict.fromkeys(relayed, "allowed")


def test_no_domain_is_permissive_and_none_is_exempt_from_categories() -> None:
    rules = re.sub(r"#.*", "", MODULE)
    assert "permissive" not in rules
    assert re.findall(r"typeattribute (\w+) mcs_constrained_type", rules) == [
        "laravel_php_fpm_t",
        "laravel_job_t",
        "laravel_redis_t",
    ]
    assert not re.search(r"\b(mcs|mls)(?!_constrained_type)\w*", rules)
