"""What a daemon serves: settings before what other verbs work on, and a folder that was named before both."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.app.config import Config
from reconciler.errors import SettingsFault
from reconciler.http import running
from reconciler.testing.builders import Repository


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RECONCILER_CONFIG", raising=False)
    monkeypatch.delenv("RECONCILER_FLEET", raising=False)
    made = tmp_path / "state"
    made.mkdir()
    return made


def configured(state: Path, fleet: Path | None = None) -> Config:
    return running._configured(state, None, fleet, "main", "", None)


def remotes(config: Config) -> list[str]:
    return [Path(address).name for fleet in config.fleets for address in fleet.addresses]


def test_the_fleet_of_the_environment_does_not_hide_the_settings(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for word in ("environment", "settings", "command"):
        made[word] = state.parent / word
        Repository(made[word])
    monkeypatch.setenv("RECONCILER_FLEET", str(made["environment"]))
    assert remotes(configured(state)) == ["environment"]
    (state / "reconciler.yaml").write_text(f"fleets: [{{remotes: [{made['settings']}]}}]\n")
    assert remotes(configured(state)) == ["settings"]
    assert remotes(configured(state, made["command"])) == ["command"]


def test_with_nothing_to_serve_it_says_what_to_do(state: Path) -> None:
    with pytest.raises(SettingsFault, match="no settings file and no fleet"):
        configured(state)
