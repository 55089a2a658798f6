"""What `load` promises beyond its problems: order, places of fields, unreadable parts, one pass over everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.desired.problems import Problem, Source, format_problem, problem_json
from reconciler.desired.tree import load

from .cases import CASES, files_of

SITE = Key(Kind.SITE, "shop")


def _defaulted() -> dict[str, bytes]:
    return files_of(CASES / "defaults-are-merged" / "input")


def test_a_field_is_found_in_the_manifest_that_sets_it() -> None:
    locate = load(_defaulted()).fleet.locate
    assert locate(SITE, ("spec", "domain")) == Source("shop.yaml", 8, 3)
    assert locate(SITE, ("spec", "php", "maxChildren")) == Source("shop.yaml", 9, 9)
    assert locate(SITE, ("spec", "aliases", 0)) == Source("shop.yaml", 10, 13)


def test_a_defaulted_field_is_found_in_its_defaults() -> None:
    locate = load(_defaulted()).fleet.locate
    assert locate(SITE, ("spec", "phpVersion")) == Source("defaults.yaml", 8, 5)
    assert locate(SITE, ("spec", "php", "memoryLimit")) == Source("defaults.yaml", 10, 7)


def test_a_field_that_nobody_sets_is_found_at_what_is_around_it() -> None:
    locate = load(_defaulted()).fleet.locate
    assert locate(SITE, ("spec", "state")) == Source("shop.yaml", 6, 1)
    assert locate(Key(Kind.SITE, "nobody"), ("spec",)) is None


def test_problems_are_in_the_order_of_path_line_and_column() -> None:
    problems = load(files_of(CASES / "all-problems-at-once" / "input")).problems
    assert [p.source for p in problems] == sorted(p.source for p in problems)


def test_problems_of_reading_the_files_make_the_fleet_not_whole_and_stop_what_may_have_had_defaults() -> None:
    problem = Problem(Source("defaults"), "symlink", "symbolic links are not followed")
    loaded = load(files_of(CASES / "a-fleet-without-problems" / "input"), [problem])
    assert not loaded.fleet.whole
    assert not loaded.fleet.entries
    assert SITE in loaded.fleet.broken
    assert problem in loaded.problems


@settings(max_examples=60, deadline=None)
@given(st.permutations(sorted(files_of(CASES / "domain-taken" / "input"))))
def test_the_order_in_which_files_are_given_does_not_matter(order: list[str]) -> None:
    files = files_of(CASES / "domain-taken" / "input")
    assert load({path: files[path] for path in order}) == load(files)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_breaking_one_file_leaves_no_sound_resource_that_was_not_there(data: st.DataObject) -> None:
    """Cutting a file anywhere may break resources, but none changes and none is lost without the fleet saying so."""
    files = _defaulted()
    sound = load(files).fleet
    path = data.draw(st.sampled_from(sorted(files)))
    cut = data.draw(st.integers(0, len(files[path])))
    broken = load({**files, path: files[path][:cut]}).fleet
    if not broken.whole:
        for key, entry in broken.entries.items():
            assert key in sound.entries
            # A cut within a value can leave a valid, shorter manifest only when YAML itself is whole.
            if entry.origin.source.path != path:
                assert entry.manifest == sound.entries[key].manifest


def test_a_problem_prints_as_a_line_that_cannot_act_on_a_terminal() -> None:
    problem = Problem(Source("a\x1b[2J\n.yaml", 3, 4), "bad-value", "is \u202e\x1b]0;x\x07", "write it\nanew")
    text = format_problem(problem)
    assert text == "a\\x1b[2J\\n.yaml:3:4: is \\u202e\\x1b]0;x\\x07 (write it\\nanew)"
    assert text.isprintable()
    assert problem_json(problem)["line"] == 3
    assert problem_json(problem)["code"] == "bad-value"
