"""From a push to the page: by the hooks, by a webhook, by looking now and then; a real daemon and a real node."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from lab import Lab
from tests.desired.repositories import HttpsServer

from .harness import PROGRAM, Stage, boot, fetch, upload, wait_for
from .newer import offer, withdraw

PAGE = '<?php echo ini_get("memory_limit");'
SECRET = "whatever the sender knows as well"
SETTINGS = """\
fleets: [{{remotes: ["{remote}"], poll: {poll}, webhookSecret: {{file: {secret}}}}}]
http: {{listen: "unix:{socket}"}}
"""


class Ground:
    """A converged server with one site, a bare repository that is pushed to, and a daemon that a test starts."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        self.bare = folder / "infra.git"
        stage.fleet.git("init", "-q", "--bare", "-b", "main", str(self.bare))
        stage.fleet.git("remote", "add", "origin", str(self.bare))
        self.secret, self.socket, self.log = folder / "secret", folder / "http.sock", folder / "daemon.log"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)

    @property
    def settings(self) -> Path:
        return self.folder / "settings.yaml"

    def tip(self) -> str:
        return self.stage.fleet.git("--git-dir", str(self.bare), "rev-parse", "main")

    def push(self, *, ok: bool = True) -> str:
        """Push what is committed; what the pusher sees."""
        done = subprocess.run(
            ["git", "push", "origin", "main"],
            cwd=self.stage.fleet.folder,
            env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stderr
        return done.stderr

    def limit(self, memory: str) -> str:
        """Commit another memory limit of the site's PHP."""
        self.stage.fleet.change("Site", "page", php={"memoryLimit": memory})
        return self.stage.fleet.commit(f"Give it {memory}")

    def page(self) -> str:
        return fetch(self.stage.nodes["web"], "page.test")[1]

    def shows(self, memory: str, seconds: float = 60) -> None:
        """Wait until the page says that it has this memory limit."""
        try:
            wait_for(lambda: self.page() == memory, seconds)
        except AssertionError:
            pytest.fail(f"the page says {self.page()}, not {memory}\n{self.log.read_text()[-3000:]}")

    def trigger(self) -> str:
        """What brought the site's newest deployment about."""
        return str(self.stage.deployments("Site/page")[0]["trigger"])

    def http(self) -> httpx.Client:
        """Speaks with the daemon."""
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), timeout=10)

    @contextlib.contextmanager
    def serving(self, remote: str, poll: str = "24h", **environment: str) -> Iterator[None]:
        """A daemon that follows `remote` and has everything applied when this begins."""
        text = SETTINGS.format(remote=remote, poll=poll, secret=self.secret, socket=self.socket)
        self.settings.write_text(text)
        self.socket.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            daemon = subprocess.Popen(
                [PROGRAM, "serve", "--config", self.settings, "--log-format", "text"],
                env={**self.stage.environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            try:
                wait_for(lambda: daemon.poll() is not None or self._follows(), 90)
            except AssertionError:
                pytest.fail(self.log.read_text()[-3000:])
            assert daemon.poll() is None, self.log.read_text()[-3000:]
            yield
        finally:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        assert "Traceback" not in self.log.read_text()

    def _follows(self) -> bool:
        """Whether the daemon has looked at the repository and has nothing left to do."""
        if not self.socket.exists():
            return False
        with self.http() as client:
            if client.get("http://daemon.test/readyz").status_code != 200:
                return False
        return self.stage.count("revisions", f"\"commit\" = '{self.tip()}' AND status = 'applied'") == 1


@pytest.fixture(scope="module")
def ground(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A server that was converged once, by hand."""
    nodes = boot(lab, web="debian12-web")
    folder = tmp_path_factory.mktemp("push")
    stage = Stage.build(folder)
    made = Ground(stage, folder)
    try:
        stage.enroll("web", nodes["web"])
        stage.site("page", "web", php={"memoryLimit": "64M"})
        stage.fleet.commit("Declare a page")
        stage.apply()
        upload(nodes["web"], stage.user("page"), PAGE)
        made.push()
        assert made.page() == "64M"
        yield made
    finally:
        nodes["web"].remove()


Serving = Callable[[str], contextlib.AbstractContextManager[None]]
"""Starts a daemon that looks by itself as often as the text says."""


@pytest.fixture
def elsewhere(ground: Ground) -> Iterator[Serving]:
    """Starts daemons that reach the repository over https, where nothing can be watched. No hooks are there."""
    ground.stage.run("hook", "uninstall", str(ground.bare))
    server = HttpsServer(ground.folder)
    certificate = {"GIT_SSL_CAINFO": str(server.cert)}
    try:
        yield lambda poll: ground.serving(server.address("infra.git"), poll, **certificate)
    finally:
        server.stop()


def test_a_push_is_checked_shown_and_live_when_the_pusher_has_the_prompt_again(ground: Ground) -> None:
    fleet = ground.stage.fleet
    with ground.serving(str(ground.bare)):
        ground.stage.run(
            "hook", "install", str(ground.bare), "--config", str(ground.settings), "--follow", "120"
        )
        before = ground.tip()
        good = fleet.path("Site", "page").read_text()
        fleet.change("Site", "page", phpVersion="9.9")
        fleet.commit("Ask for what there is not")
        said = ground.push(ok=False)
        assert "is refused: 1 error" in said
        assert "site-page.yaml:" in said
        assert ground.tip() == before
        fleet.git("reset", "-q", "--hard", before)
        assert fleet.path("Site", "page").read_text() == good

        commit = ground.limit("96M")
        said = ground.push()
        assert "compared with what is applied: Plan: 0 to add, 1 to change, 0 to destroy" in said
        assert f"{commit[:12]}" in said
        assert "Site/page: begun" in said
        assert "1 deployment succeeded" in said
        assert ground.page() == "96M"
        assert ground.trigger() == "push"


def test_a_local_repository_is_watched_so_that_no_hook_is_needed(ground: Ground) -> None:
    ground.stage.run("hook", "uninstall", str(ground.bare))
    with ground.serving(str(ground.bare)):
        ground.limit("100M")
        assert "reconciler" not in ground.push()
        ground.shows("100M")
        assert ground.trigger() == "push"


def test_the_hooks_word_is_enough_where_nothing_is_watched(ground: Ground, elsewhere: Serving) -> None:
    with elsewhere("24h"):
        ground.stage.run(
            "hook", "install", str(ground.bare), "--config", str(ground.settings), "--follow", "0"
        )
        ground.limit("104M")
        assert "the daemon looks at main" in ground.push()
        ground.shows("104M")
        assert ground.trigger() == "push"


def test_a_signed_webhook_makes_the_daemon_look_and_an_unsigned_one_does_not(
    ground: Ground, elsewhere: Serving
) -> None:
    body = b'{"ref": "refs/heads/main"}'
    with elsewhere("24h"), ground.http() as client:
        ground.limit("108M")
        ground.push()
        url = "http://daemon.test/api/webhooks/generic/main"
        assert (
            client.post(url, content=body, headers={"X-Signature": f"sha256={'0' * 64}"}).status_code == 401
        )
        row = ground.stage.row("sources", fleet="main")
        assert row is not None
        assert row["head_commit"] != ground.tip()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        answer = client.post(url, content=body, headers={"X-Signature": f"sha256={signature}"})
        assert (answer.status_code, answer.json()["result"]) == (202, "looking")
        ground.shows("108M")
        assert ground.trigger() == "webhook"


def test_looking_now_and_then_is_enough_when_nobody_says_anything(ground: Ground, elsewhere: Serving) -> None:
    with elsewhere("5s"):
        ground.limit("112M")
        ground.push()
        ground.shows("112M", 90)
        assert ground.trigger() == "poll"


def test_an_upgrade_that_is_asked_for_is_made_by_the_daemon_and_waited_for(
    ground: Ground, tmp_path: Path
) -> None:
    node, stage = ground.stage.nodes["web"], ground.stage
    version = offer(node, tmp_path / "newer", 1)
    with ground.serving(str(ground.bare)):
        said = stage.run("software", "upgrade", "web", "nginx", "--yes", "--wait").out
        assert "the daemon upgrades Server/web" in said
        assert "Server/web is ready: 1 step changed on web" in said
        assert node.output("dpkg-query -W -f '${Version}' nginx") == version
        offer(node, tmp_path / "broken", 2, broken=True)
        said = stage.run("software", "upgrade", "web", "nginx", "--yes", "--wait", code=1).text
        assert "Server/web is not ready" in said
        assert "apt-get" in said
        assert fetch(node, "page.test")[0] == 200
    assert stage.count("software_installations", "status IN ('pending', 'installing')") == 0
    assert stage.count("software_installations", "action = 'upgrade' AND status = 'failed'") == 1
    withdraw(node)
