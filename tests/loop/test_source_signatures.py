"""Whose commits a fleet's source accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.desired import signers
from reconciler.desired.signers import Signers
from reconciler.errors import UsageFault
from reconciler.loop.source import Head
from tests.desired.signing import SshKey
from tests.loop.repository import Fleet


def _user(repo: Fleet, name: str, *signing: SshKey) -> None:
    keys = [key.public for key in signing]
    repo.put("User", name, email=f"{name}@example.test", signingKeys=keys)


def _allowed(path: Path, name: str, key: SshKey) -> Signers:
    path.write_text(f'{name}@example.test namespaces="git" {key.public}\n')
    return signers.read(path)


async def test_the_first_revision_is_signed_by_somebody_of_the_settings(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    fleet.restart(policy="head")
    assert await fleet.look() is None
    assert (await fleet.state()).state == "unsigned"
    assert await fleet.says() == "False SourceUnsigned"
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    signed = ada.sign(fleet)  # type: ignore[arg-type]
    assert await fleet.look() == Head(signed, new=True)


async def test_users_of_the_accepted_revision_may_sign_the_next_one(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada, ben = keys("ada"), keys("ben")
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="head")
    ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.bootstrap = Signers
    _user(fleet, "ben", ben)
    own = ben.sign(fleet, "Let me in")  # type: ignore[arg-type]
    assert await fleet.followed() != own
    state = await fleet.state()
    assert state.state == "unsigned"
    assert "unknown key" in state.message
    vouched = ada.sign(fleet, "Let Ben in")  # type: ignore[arg-type]
    assert await fleet.look() == Head(vouched, new=True)
    theirs = ben.sign(fleet, "Ben's turn")  # type: ignore[arg-type]
    assert await fleet.look() == Head(theirs, new=True)


async def test_strict_asks_for_every_commit(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="strict")
    first = ada.sign(fleet)  # type: ignore[arg-type]
    assert await fleet.look() == Head(first, new=True)
    careless = fleet.add("two")
    tip = ada.sign(fleet, "On top")  # type: ignore[arg-type]
    assert await fleet.look() == Head(first, new=False)
    assert careless[:12] in (await fleet.state()).message
    fleet.restart(policy="head")
    assert await fleet.look() == Head(tip, new=True)


async def test_no_operator_overrides_the_policy(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="head")
    first = ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.git("commit", "-q", "--amend", "--no-gpg-sign", "-m", "Not signed any more")
    assert await fleet.look() == Head(first, new=False)
    await fleet.accept(fleet.head)
    assert await fleet.look() == Head(first, new=False)
    assert (await fleet.state()).state == "unsigned"
    with pytest.raises(UsageFault, match="signature policy"):
        await fleet.accept(fleet.head)


async def test_an_accepted_rewrite_is_judged_by_the_keys_of_before_it(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada, ben = keys("ada"), keys("ben")
    base = fleet.head
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="strict")
    first = ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.bootstrap = Signers
    fleet.git("reset", "-q", "--hard", base)
    fleet.add("unsigned")
    _user(fleet, "ben", ben)
    ben.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    await fleet.accept(fleet.head)
    assert await fleet.look() == Head(first, new=False)
    assert "unknown key" in (await fleet.state()).message
    fleet.git("reset", "-q", "--hard", base)
    _user(fleet, "ada", ada)
    again = ada.sign(fleet, "Once more")  # type: ignore[arg-type]
    await fleet.look()
    await fleet.accept(again)
    assert await fleet.look() == Head(again, new=True)


async def test_what_was_accepted_is_not_judged_again_when_the_remote_comes_back(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="strict")
    signed = ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.bootstrap = Signers
    fleet.away()
    await fleet.look()
    fleet.away(away=False)
    assert await fleet.look() == Head(signed, new=False)
    assert (await fleet.state()).state == "ok"


async def test_signers_that_cannot_be_read_are_said_and_nothing_is_accepted(
    fleet: Fleet, tmp_path: Path
) -> None:
    first = fleet.head
    await fleet.look()
    fleet.bootstrap = lambda: signers.read(tmp_path / "missing")
    fleet.restart(policy="head")
    fleet.add("two")
    assert await fleet.look() == Head(first, new=False)
    state = await fleet.state()
    assert state.state == "refused"
    assert "missing" in state.message
