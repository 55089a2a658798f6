"""The YAML reader against input that ends other readers, and its scalars."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.desired.tree import load
from reconciler.desired.yamldoc import MAX_DEPTH, MAX_FILE_BYTES, parse


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 50_000 + b"]" * 50_000,
        b"- " * 60_000 + b"x",
        b"{a: " * 20_000,
        b"? " * 60_000,
        b"[" * 200_000,
        b"a: &a [*a]\n" * 10,
    ],
    ids=["brackets", "dashes", "maps", "keys", "open", "cycle"],
)
def test_a_bomb_ends_as_a_problem_with_a_line(content: bytes) -> None:
    parsed = parse("bomb.yaml", content)
    assert parsed.problems
    assert parsed.problems[0].source.line == 1


def test_a_bomb_does_not_end_the_process_that_reads_it() -> None:
    """In a process of its own, since PyYAML's composer would end it by a signal."""
    program = (
        "from reconciler.desired.tree import load\n"
        "loaded = load({'a.yaml': b'[' * 50000 + b']' * 50000, 'b.yaml': b'- ' * 60000 + b'x'})\n"
        "print([p.code for p in loaded.problems])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "['too-deep', 'too-deep']"), done.stderr


def test_the_deepest_nesting_that_is_allowed_is_read() -> None:
    depth = MAX_DEPTH
    assert parse("a.yaml", b"[" * depth + b"]" * depth).problems == ()
    assert parse("a.yaml", b"[" * (depth + 1) + b"]" * (depth + 1)).problems[0].code == "too-deep"


def test_a_file_of_too_many_nodes_and_one_of_too_many_bytes_are_refused() -> None:
    many = parse("a.yaml", b"[" + b"a," * 60_000 + b"]")
    assert [p.code for p in many.problems] == ["too-many-nodes"]
    assert not many.whole
    large = parse("a.yaml", b"# " + b"x" * MAX_FILE_BYTES)
    assert [p.code for p in large.problems] == ["file-too-large"]
    assert not large.whole
    assert parse("a.yaml", b"#" * MAX_FILE_BYTES).problems == ()


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("True", "True"), ("NULL", "NULL"), ("n", "n"),
        ("12:30:45", "12:30:45"), ("2024-01-31", "2024-01-31"), ("2024-01-31 10:00:00", "2024-01-31 10:00:00"),
        ("1.2.3", "1.2.3"), ("1e", "1e"), ("198.51.100.7", "198.51.100.7"), ("+", "+"), ("...x", "...x"),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("0", 0), ("-7", -7), ("8.30", 8.3), ("1e3", 1000.0), ('"no"', "no"), ("'1'", "1"), ("|-\n  1", "1"),
        ("= x", "= x"), ("<<x", "<<x"),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_json_and_everything_else_is_text(written: str, value: object) -> None:
    parsed = parse("a.yaml", f"key: {written}\n".encode())
    assert parsed.problems == ()
    # As JSON, since True == 1 and 8.0 == 8 in Python.
    assert json.dumps([d.data for d in parsed.documents]) == json.dumps([{"key": value}])


@pytest.mark.parametrize(
    "written",
    [
        "010",
        "0o17",
        "0x1F",
        "0b1",
        "1_000",
        "+1",
        ".5",
        "5.",
        ".inf",
        "-.INF",
        ".nan",
        "1e999",
        "9" * 19,
        "08.5",
    ],
)
def test_numbers_that_readers_disagree_on_are_refused(written: str) -> None:
    assert [p.code for p in parse("a.yaml", f"key: {written}".encode()).problems] == ["ambiguous-number"]


def test_places_are_those_of_keys_and_values() -> None:
    content = b"a: 1\nb:\n  - x\n  - {c: 8.30}\n---\na: 2\n"
    first, second = parse("a.yaml", content, places=True).places
    assert first["b", 1, "c"].key == (4, 6)
    assert first["b", 1, "c"].value == (4, 9)
    assert first["b", 1, "c"].written == "8.30"
    assert first["b", 0].value == (3, 5)
    assert second["a",].key == (6, 1)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_loader_raise(content: bytes) -> None:
    loaded = load({"a.yaml": content})
    assert not loaded.fleet.entries
    if not loaded.problems:
        assert loaded.fleet.whole


_YAML = st.text(alphabet=st.sampled_from(list("ab:-?[]{}&*!|>'\"%@`#, \n\t~<0.1ée\\\u2028")), max_size=120)
_HEAD = "apiVersion: reconciler/v1\nkind: Site\nmetadata: {name: x}\nspec:\n"


@settings(max_examples=400, deadline=None)
@given(_YAML, st.booleans())
def test_no_text_of_yaml_characters_makes_the_loader_raise(text: str, manifest: bool) -> None:
    content = (_HEAD if manifest else "") + text
    load({"a.yaml": content.encode()})


# Without control characters and line separators, which YAML wants escaped and JSON does not.
_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cn", "Co", "Zl", "Zp")), max_size=12
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(_JSON)
def test_json_is_read_as_what_it_is(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert [d.data for d in parse("a.yaml", text.encode()).documents] == [value]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["server", "domain", "aliases", "php", "env", "phpVersion", "x-y"]), _JSON
    )
)
def test_any_spec_gives_problems_or_a_site_but_never_an_exception(spec: dict[str, object]) -> None:
    document = {"apiVersion": "reconciler/v1", "kind": "Site", "metadata": {"name": "x"}, "spec": spec}
    loaded = load({"a.yaml": json.dumps(document).encode()})
    assert loaded.problems  # there is no server it could be on
    assert not loaded.fleet.entries
