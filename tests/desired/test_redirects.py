"""No visitor of a site whose manifest has no problem is sent in circles."""

from __future__ import annotations

import itertools

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reconciler.desired import redirects
from reconciler.desired.kinds.serving import Redirect

HOSTS = ("shop.test", "www.shop.test")
PARTS = ("a", "b", "c")
PATHS = ["/" + "/".join(parts) for length in range(5) for parts in itertools.product(PARTS, repeat=length)]

_PATH = st.lists(st.sampled_from(PARTS), max_size=2).map(lambda parts: "/" + "/".join(parts))
_HOST = st.sampled_from(["", "http://shop.test", "https://www.shop.test", "https://other.test"])


def _below(path: str) -> str:
    return f"{path.rstrip('/')}/*"


def _redirect(source: str, target: str) -> Redirect:
    return Redirect.model_validate({"from": source, "to": target})


_EXACT = st.builds(lambda a, h, b: _redirect(a, h + b), _PATH, _HOST, _PATH)
_CARRYING = st.builds(lambda a, h, b: _redirect(_below(a), h + _below(b)), _PATH, _HOST, _PATH)
_GATHERING = st.builds(lambda a, h, b: _redirect(_below(a), h + b), _PATH, _HOST, _PATH)


def _arrives(listed: list[Redirect], path: str) -> bool:
    """Follows redirects as a patient browser would."""
    for _ in range(60):
        hit = next((r for r in listed if redirects.covers(r, path)), None)
        if hit is None:
            return True
        target = hit.to[:-1] + path[len(hit.from_) - 1 :] if hit.to.endswith("*") else hit.to
        host = target.split("/")[2] if "://" in target else ""
        if host and host not in HOSTS:
            return True
        path = "/" + target.split("/", 3)[3] if host and target.count("/") > 2 else target
        path = "/" if "://" in path else path
    return False


@settings(deadline=None, max_examples=300)
@given(st.lists(_EXACT | _CARRYING | _GATHERING, max_size=4))
def test_where_nothing_is_found_every_visitor_arrives(listed: list[Redirect]) -> None:
    assume(not any(redirects.endless(listed, HOSTS, one) for one in listed))
    assert [path for path in PATHS if not _arrives(listed, path)] == []


@settings(deadline=None, max_examples=300)
@given(st.lists(_EXACT, min_size=1, max_size=5))
def test_a_circle_of_exact_paths_is_found_just_where_there_is_one(listed: list[Redirect]) -> None:
    for one in listed:
        assert (redirects.endless(listed, HOSTS, one) is None) == _arrives(listed, one.from_)
