"""What nodes say of their certificates, as conditions and alerts of sites."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.app.alerting import firing
from reconciler.converge.observer import Observation
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.kit.canonical import Json
from reconciler.kit.clock import utc_now
from reconciler.loop import certificates
from reconciler.nodes import answers
from reconciler.nodes.answers import CertificateFact, Malformed
from reconciler.plan.recorded import Recorded, RecordedResource
from reconciler.secrets.box import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import conditions

SHOP = Key(Kind.SITE, "shop")
RECORDED = Recorded({SHOP: RecordedResource(SHOP, {}, "web1", revision="c" * 40)})


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates") / "state.sqlite"
    Store.create(made, Box([b"k" * 32])).close()
    return made


@pytest.fixture
def store(empty: Path, tmp_path: Path) -> Iterator[Store]:
    shutil.copy(empty, tmp_path / "state.sqlite")
    opened = Store.open(tmp_path / "state.sqlite", Box([b"k" * 32]))
    yield opened
    opened.close()


def fact(days: float) -> CertificateFact:
    ends = utc_now() + timedelta(days=days)
    return CertificateFact("shop", ("shop.test", "www.shop.test"), ends, "CN=Some CA", self_signed=False)


def noted(store: Store, *found: CertificateFact, server: str = "web1") -> tuple[str, str, str] | None:
    def unit(tx: Tx) -> tuple[str, str, str] | None:
        certificates.note(tx, RECORDED, Observation(certificates={server: found}))
        known = conditions.get(tx, "Site", "shop", "CertificateValid")
        return (known.status, known.reason, known.message) if known else None

    return store.write(unit)


def test_a_site_says_until_when_its_certificate_is_valid(store: Store) -> None:
    status, reason, said = noted(store, fact(60)) or ("", "", "")
    assert (status, reason) == ("True", "Valid")
    assert said.endswith("for 2 names, issued by CN=Some CA")
    assert store.read(firing) == []


@pytest.mark.parametrize(
    ("days", "reason", "severity"), [(20.5, "EndsSoon", "warning"), (-1, "Expired", "error")]
)
def test_one_that_ends_is_a_condition_and_an_alert(
    store: Store, days: float, reason: str, severity: str
) -> None:
    status, found, said = noted(store, fact(days)) or ("", "", "")
    assert (status, found) == ("False", reason)
    (alert,) = store.read(firing)
    assert (alert.type, alert.severity, alert.message) == ("CertificateEnds", severity, said)
    # renewed: it is over
    noted(store, fact(60))
    assert store.read(firing) == []


def test_a_site_without_one_says_nothing(store: Store) -> None:
    assert noted(store, fact(5)) is not None
    # another server has nothing to say of it
    assert noted(store, fact(60), server="web2") == noted(store, fact(5))
    assert noted(store) is None


def test_agents_of_before_tell_of_none_and_nonsense_is_refused() -> None:
    told: dict[str, Json] = {
        "agent": "a", "python": "3.9", "bundle": None, "running": None, "fence": 0,
        "facts": {"os_id": "debian", "package_manager": "apt", "selinux": "disabled"},
    }  # fmt: skip
    assert answers.hello(told).certificates == ()
    good: dict[str, Json] = {
        "site": "shop",
        "names": ["a.test"],
        "ends": 0,
        "issuer": "CN=x",
        "self_signed": True,
    }
    assert answers.hello({**told, "certificates": [good]}).certificates[0].names == ("a.test",)
    many: list[Json] = [{**good, "ends": 1 << 80}, {**good, "names": "a"}, {**good, "self_signed": 1}, "x"]
    for bad in many:
        with pytest.raises(Malformed):
            answers.hello({**told, "certificates": [bad]})
