"""The daemon's settings: what a file gives, every problem with its place, secrets, defaults, reloads."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.app import config, config_schema
from reconciler.app.config import Config
from reconciler.app.config_channels import CHANNELS
from reconciler.app.config_model import SettingsFile
from reconciler.app.config_values import Listen
from reconciler.desired import fields
from reconciler.desired.problems import Problem
from reconciler.errors import InvalidSettings, SettingsFault, SourceFault
from reconciler.kit.secret import Secret
from reconciler.notify.settings import ALERT_TYPES, MailChannel, MatrixChannel, SlackChannel, WebhookChannel

CANARY = "canary-secret-91"
LEAST = "fleets:\n  - remotes: [/srv/git/infra.git]\n"


class Desk:
    """A folder with a settings file and the files that it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "reconciler.yaml"
        self.secret = self.put("secret", CANARY + "\n")
        self.key = self.put("id", "a key\n")
        self.known_hosts = self.put("known_hosts", "host key\n")
        self.signers = self.put("signers", "ada@example.test ssh-ed25519 AAAA\n")

    def put(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def load(self, text: str, **environ: str) -> Config:
        self.file.write_text(text)
        self.file.chmod(0o640)
        return config.load(self.file, environ)

    def problems(self, text: str, **environ: str) -> list[str]:
        """What is wrong with a text, without the file's path: `line:col: message (hint)`."""
        with pytest.raises(InvalidSettings) as caught:
            self.load(text, **environ)
        assert CANARY not in str(caught.value) + repr(caught.value.problems)
        return [str(p).removeprefix(f"{self.file}:") for p in caught.value.problems]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def whole(desk: Desk) -> str:
    return f"""\
fleets:
  - name: prod
    remotes: [ssh://git@git.example.test/infra.git, https://git.example.test/infra.git]
    branch: release
    path: ./hosting/prod/
    poll: 90s
    signatures: {{policy: strict, signers: {desk.signers}}}
    webhookSecret: {{file: {desk.secret}}}
  - name: lab
    remotes: [file:///srv/git/lab.git]
    webhookSecret: [{{env: HOOK}}, {{credential: hook.old}}]
git: {{protocols: [ssh, https, file], sshKey: {{file: {desk.key}}}, knownHosts: {desk.known_hosts}, timeout: 1m30s}}
limits: {{nodes: 4, perFleet: 2, applyWithin: 1h, retry: {{first: 1s, longest: 1m}}}}
guards: {{massDeletion: {{floor: 0, share: "25%"}}}}
http: {{listen: "unix:/run/reconciler/http.sock"}}
log: {{format: text, level: debug}}
checks: {{smoke: [/bin/echo, "{{domain}}", "--at={{address}}"]}}
notifications:
  - {{name: ops, type: webhook, url: {{file: {desk.secret}}}, secret: {{env: HOOK}}, remind: 1h, on: [Stalled, LeaseLost]}}
  - {{name: mail, type: mail, to: [ops@example.test], from: reconciler@example.test, server: "[::1]:2525", startTls: false}}
  - {{name: chat, type: slack, url: "https://chat.example.test/hook"}}
  - {{name: room, type: matrix, homeserver: "https://matrix.example.test", room: "!abc:example.test", token: {{env: HOOK}}}}
"""


def test_every_section_is_read(desk: Desk) -> None:
    desk.put("secret", "https://hooks.example.test/x\n")
    (desk.folder / "hook.old").write_text("older")
    found = desk.load(whole(desk), HOOK="newer", CREDENTIALS_DIRECTORY=str(desk.folder))
    prod, lab = found.fleets
    assert (prod.name, prod.branch, prod.path, prod.poll) == ("prod", "release", "hosting/prod", 90.0)
    assert prod.addresses == ("ssh://git@git.example.test/infra.git", "https://git.example.test/infra.git")
    assert (prod.signatures.policy, prod.signatures.signers) == ("strict", desk.signers)
    assert lab.webhook_secret == (Secret("newer"), Secret("older"))
    assert (lab.branch, lab.path, lab.poll) == ("main", "", 60.0)
    assert (found.git.ssh_key, found.git.known_hosts, found.git.timeout) == (desk.key, desk.known_hosts, 90.0)
    limits = found.limits
    assert (limits.nodes, limits.per_fleet, limits.apply_within) == (4, 2, 3600.0)
    assert (limits.retry.first, limits.retry.longest) == (1.0, 60.0)
    assert (found.guards.mass_deletion.floor, found.guards.mass_deletion.share) == (0, 0.25)
    assert found.http is not None
    assert found.http.listen == Listen(path=Path("/run/reconciler/http.sock"))
    assert (found.log.format, found.log.level) == ("text", "debug")
    assert found.checks == {"smoke": ("/bin/echo", "{domain}", "--at={address}")}
    assert found.path == desk.file
    assert found.warnings == ()


def test_channels_become_those_of_notify(desk: Desk) -> None:
    desk.put("secret", "https://hooks.example.test/x\n")
    (desk.folder / "hook.old").write_text("older")
    found = desk.load(whole(desk), HOOK="newer", CREDENTIALS_DIRECTORY=str(desk.folder))
    hook = Secret("https://hooks.example.test/x")
    day = timedelta(days=1)
    assert found.notifications == (
        WebhookChannel(
            "ops", hook, (Secret("newer"),), frozenset({"Stalled", "LeaseLost"}), timedelta(hours=1)
        ),
        MailChannel(
            "mail", ("ops@example.test",), "reconciler@example.test", "::1", 2525, start_tls=False, remind=day
        ),
        SlackChannel("chat", Secret("https://chat.example.test/hook"), ALERT_TYPES, day),
        MatrixChannel("room", Secret("https://matrix.example.test"), "!abc:example.test", Secret("newer")),
    )


def test_a_file_needs_no_more_than_a_remote(desk: Desk) -> None:
    found = desk.load(LEAST)
    (fleet,) = found.fleets
    assert (fleet.name, fleet.addresses) == ("main", ("/srv/git/infra.git",))
    assert found.http is None
    assert found.notifications == ()
    assert (found.limits.nodes, found.guards.mass_deletion.floor) == (16, 3)


@pytest.mark.parametrize(
    ("server", "tls", "host", "port"),
    [
        ("mail.example.test", "true", "mail.example.test", 587),
        ("mail.example.test", "false", "mail.example.test", 25),
        ("mail.example.test:465", "true", "mail.example.test", 465),
        ('"[::1]"', "false", "::1", 25),
    ],
)
def test_a_mail_server_has_the_usual_port(desk: Desk, server: str, tls: str, host: str, port: int) -> None:
    text = f"  - {{name: m, type: mail, to: [a@b.test], from: c@d.test, server: {server}, startTls: {tls}}}\n"
    (channel,) = desk.load(f"{LEAST}notifications:\n{text}").notifications
    assert isinstance(channel, MailChannel)
    assert (channel.host, channel.port) == (host, port)


# -- problems


def test_all_problems_come_in_one_pass_with_their_places(desk: Desk) -> None:
    problems = desk.problems(
        f"""\
fleets:
  - name: Main
    remotes: [ext::sh -c x, git@host.example.test:x.git]
    brnch: main
    branch: a..b
    poll: 1 minute
    webhookSecret: {CANARY}
    signatures: {{policy: heads, signers: /nowhere/signers}}
  - remotes: []
git: {{protocols: [https], sshKey: {{env: HOME}}}}
limits: {{nodes: 0, retry: {{first: 1h, longest: 1m}}, perFlet: 3}}
guards: {{massDeletion: {{share: 10}}}}
http: {{listen: 8420}}
log: {{level: verbose}}
checks: {{smoke: [/nowhere/smoke], other: [/bin/echo, "{{doman}}"]}}
notifications:
  - {{name: a, type: webhok}}
  - {{name: a, type: webhook, url: "https://x.test/", on: [Stall], remind: 1s}}
  - {{name: m, type: mail, to: [x@y.test], from: y@z.test, sender: q@r.test}}
  - {{name: s, type: slack, url: "ftp://{CANARY}"}}
"""
    )
    at = {problem.partition(": ")[0]: problem.partition(": ")[2] for problem in problems}
    expected = {
        "2:11": r"fleets\[0\]\.name is \"Main\".*only lower case",
        "3:15": r"fleets\[0\]\.remotes\[0\] is no address of a repository",
        "3:29": r"git\.(protocols leaves out|knownHosts is missing)",
        "4:5": r"fleets\[0\]\.brnch is no known field \(did you mean 'branch'\?\)",
        "5:13": "is not the name of a branch",
        "6:11": "must be a duration, such as",
        "7:20": r"must be \{file: /path\}.*never in the settings in clear",
        "8:26": r"one of none, head, strict \(did you mean 'head'\?\)",
        "8:42": "/nowhere/signers, which cannot be read: No such file",
        "9:5": r"fleets\[1\]\.(remotes must not be empty|name is missing)",
        "10:27": "ssh reads its key from a file",
        "11:17": "limits.nodes is 0, not a whole number from 1 to 1024",
        "11:20": "first wait that is longer",
        "11:53": r"limits\.perFlet is no known field \(did you mean 'perFleet'\?\)",
        "12:32": r"guards\.massDeletion\.share must be text",
        "13:16": "must be text: such as 127.0.0.1:8420",
        "14:14": 'log.level is "verbose"',
        "15:10": "/nowhere/smoke, which is no program that can be run here",
        "15:35": r"unknown placeholder \{doman\}; did you mean 'domain'\?",
        "17:21": r"one of webhook, mail, slack, matrix \(did you mean 'webhook'\?\)",
        "18:12": r"as that of notifications\[0\]",
        "18:59": r"did you mean 'Stalled'\?",
        "18:75": "is 1s; it must be from 1m to 720h",
        "19:59": r"notifications\[2\]\.sender is no known field",
        "20:5": "its url is not one",
    }
    for place, words in expected.items():
        assert place in at, f"{place} in {problems}"
        assert re.search(words, at[place]), (place, at[place])
    assert set(at) == set(expected), problems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the settings are empty"),
        ("# nothing\n", "the settings are empty"),
        ("- a list\n", "1:1: the settings must be a map"),
        ("fleets: [\n", "not YAML"),
        (f"{LEAST}---\n{LEAST}", "4:1: the settings are one YAML document, and this is another"),
        (f"{LEAST}log: &a {{level: info}}\n", "anchors"),
        (f"{LEAST}log: {{level: info}}\nlog: {{level: info}}\n", "the key 'log' is in this map twice"),
        ("[" * 5000, "nests more than"),
        ("log: {level: info}\n", "fleets is missing"),
    ],
)
def test_what_is_no_settings_file_is_told_with_its_place(desk: Desk, text: str, said: str) -> None:
    assert any(said in problem for problem in desk.problems(text)), desk.problems(text)


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        ("http://git.example.test/x.git", "no address of a repository"),
        ("git://git.example.test/x.git", "no address of a repository"),
        ("ext::sh -c true", "no address of a repository"),
        ("--upload-pack=x", "no address of a repository"),
        ("ssh://-oProxyCommand=x/y", "no address of a repository"),
        ("infra.git", "no address of a repository"),
        (f"https://bot:{CANARY}@git.example.test/x.git", "holds a login in clear"),
        (f"https://{CANARY}@git.example.test/x.git", "holds a login in clear"),
        ("git@git.example.test:x.git", "git.knownHosts is missing"),
        ("ssh://git@git.example.test/x.git", "git.sshKey is missing"),
    ],
)
def test_remotes_that_git_must_not_see_are_refused(desk: Desk, remote: str, said: str) -> None:
    problems = desk.problems(f'fleets:\n  - remotes: ["{remote}"]\n')
    assert any(p.startswith("2:15: fleets[0].remotes[0]") and said in p for p in problems), problems


def test_a_remote_with_a_login_is_read_from_a_file(desk: Desk) -> None:
    address = f"https://bot:{CANARY}@git.example.test/x.git"
    file = desk.put("remote", address + "\n")
    found = desk.load(f"fleets:\n  - remotes: [{{file: {file}}}]\n")
    assert found.fleets[0].addresses == (address,)
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    "listen", ["8420", "localhost", ":8420", "127.0.0.1:99999", "unix:run/x", "unix:/" + "x" * 120]
)
def test_addresses_that_nobody_can_listen_on_are_refused(desk: Desk, listen: str) -> None:
    (problem,) = desk.problems(f'{LEAST}http: {{listen: "{listen}"}}\n')
    assert problem.startswith("3:16: http.listen ")


def test_a_check_must_not_let_manifests_choose_the_program(desk: Desk) -> None:
    (problem,) = desk.problems(f'{LEAST}checks: {{x: ["/bin/{{domain}}"]}}\n')
    assert "manifests must not choose what runs here" in problem


def test_a_login_to_a_mail_server_needs_encryption(desk: Desk) -> None:
    start = f"{LEAST}notifications:\n  - {{name: m, type: mail, to: [a@b.test], from: c@d.test, user: u, "
    assert (
        "would send a password without TLS"
        in desk.problems(f"{start}startTls: false, password: {{file: {desk.secret}}}}}\n")[0]
    )
    assert "needs both a user and a password" in desk.problems(f"{start}startTls: true}}\n")[0]


# -- secrets


def test_secrets_are_read_without_their_line_end_and_never_shown(desk: Desk) -> None:
    found = desk.load(f"{LEAST}    webhookSecret: {{file: {desk.secret}}}\n")
    (secret,) = found.fleets[0].webhook_secret or ()
    assert secret.reveal() == CANARY
    for text in (repr(found), str(found), f"{found.fleets[0]}", repr(found.fleets[0].model_dump())):
        assert CANARY not in text
    assert "•••" in repr(found)
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("{file: /nowhere/secret}", "names /nowhere/secret, which cannot be read: No such file or directory"),
        ("{file: FOLDER}", "which is no plain file"),
        ("{file: EMPTY}", "which is empty"),
        ("{file: BINARY}", "which is not UTF-8 text"),
        ("{file: HUGE}", "has more than 64 KiB"),
        ("{env: NOT_SET}", "the environment variable NOT_SET, which is not set"),
        ("{env: BLANK}", "the environment variable BLANK, which is empty"),
        ("{credential: hook}", "only a unit with LoadCredential=hook:… has it"),
        ("{credential: ../hook}", "names no systemd credential (what it names is not shown"),
        (f"{{file: {CANARY}}}", "names no absolute path of a file (what it names is not shown"),
        (f"{{env: {CANARY}}}", "names no environment variable (what it names is not shown"),
        (CANARY, "never in the settings in clear"),
        ("12345", "never in the settings in clear"),
        ("{}", "must be exactly one of"),
        ("{file: /a, env: B}", "must be exactly one of"),
        ("{fil: /a}", "the unknown field 'fil'; did you mean 'file'?"),
        ("{file: 5}", "with a text"),
        ("[]", "at least one of"),
    ],
)
def test_a_secret_that_cannot_be_had_is_named_by_its_place(desk: Desk, place: str, said: str) -> None:
    desk.put("empty", "\n")
    desk.put("huge", "x" * 70_000)
    (desk.folder / "binary").write_bytes(b"\xff\xfe\x00")
    for word in ("empty", "binary", "huge"):
        place = place.replace(word.upper(), str(desk.folder / word))
    place = place.replace("FOLDER", str(desk.folder))
    (problem,) = desk.problems(f"{LEAST}    webhookSecret: {place}\n", BLANK=" \n")
    assert problem.startswith("3:"), problem
    assert "fleets[0].webhookSecret " in problem
    assert said in problem


def test_a_fifo_in_place_of_a_secret_does_not_hang_the_daemon(desk: Desk) -> None:
    os.mkfifo(desk.folder / "fifo")
    (problem,) = desk.problems(f"{LEAST}    webhookSecret: {{file: {desk.folder / 'fifo'}}}\n")
    assert "which is no plain file" in problem


def test_a_secret_that_others_may_read_is_a_warning_with_its_place(desk: Desk) -> None:
    desk.secret.chmod(0o644)
    found = desk.load(f"{LEAST}    webhookSecret: [{{file: {desk.secret}}}]\n")
    (warning,) = found.warnings
    assert isinstance(warning, Problem)
    assert str(warning).startswith(f"{desk.file}:3:28: warning: {desk.secret} is open to others (mode 0644)")
    desk.secret.chmod(0o640)
    assert desk.load(f"{LEAST}    webhookSecret: [{{file: {desk.secret}}}]\n").warnings == ()


def test_a_key_that_ssh_would_refuse_is_refused_at_once(desk: Desk) -> None:
    desk.key.chmod(0o640)
    (problem,) = desk.problems(f"{LEAST}git: {{sshKey: {{file: {desk.key}}}}}\n")
    assert f"chmod 600 {desk.key}" in problem


def test_settings_that_anybody_may_write_are_refused(desk: Desk) -> None:
    desk.file.write_text(LEAST)
    desk.file.chmod(0o666)
    with pytest.raises(SettingsFault, match="anybody may write"):
        config.load(desk.file, {})


# -- where they are


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, system = tmp_path / "state", tmp_path / "etc.yaml"
    state.mkdir()
    given, named = tmp_path / "given.yaml", tmp_path / "named.yaml"
    monkeypatch.setattr(config, "SYSTEM", system)
    environ = {config.VARIABLE: str(named)}
    assert config.find(None, state, {}) is None
    system.touch()
    assert config.find(None, state, {}) == system
    (state / config.FILE).touch()
    assert config.find(None, state, {}) == state / config.FILE
    with pytest.raises(SettingsFault, match=re.escape(str(named))):
        config.find(None, state, environ)
    named.touch()
    assert config.find(None, state, environ) == named
    with pytest.raises(SettingsFault, match=re.escape(str(given))):
        config.find(given, state, environ)
    given.touch()
    assert config.find(given, state, environ) == given


def test_without_a_file_one_local_repository_is_served(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "-b", "main", tmp_path / "infra"], check=True)
    (tmp_path / "infra/hosting").mkdir()
    found = Config.default(tmp_path / "infra/hosting", branch="prod", subpath="sites")
    assert found.fleet("main").addresses == (str(tmp_path / "infra"),)
    assert (found.fleets[0].branch, found.fleets[0].path) == ("prod", "hosting/sites")
    assert found.path is None
    with pytest.raises(SourceFault):
        Config.default(tmp_path)
    with pytest.raises(SettingsFault) as caught:
        found.fleet("mian")
    assert caught.value.hint == "did you mean 'main'?"


def test_a_reload_takes_what_changed(desk: Desk) -> None:
    before = desk.load(f"{LEAST}    webhookSecret: {{file: {desk.secret}}}\n")
    assert config.reload(before, {}).changed == ()
    desk.put("secret", "another")
    done = config.reload(before, {})
    assert done.changed == ("fleets",)
    assert (done.config.fleets[0].webhook_secret or ())[0].reveal() == "another"
    assert str(done) == "the settings changed: fleets"
    desk.file.write_text(f"{LEAST}limits: {{nodes: 2}}\nlog: {{level: debug}}\n")
    assert config.reload(done.config, {}).changed == ("fleets", "limits", "log")


def test_a_reload_of_a_broken_file_keeps_the_old_settings_and_says_so(desk: Desk) -> None:
    before = desk.load(LEAST)
    desk.file.write_text(f"{LEAST}limits: {{nodes: many}}\n")
    done = config.reload(before, {})
    assert done.config is before
    assert isinstance(done.fault, InvalidSettings)
    assert "kept as they were" in str(done)
    assert "has 1 problem" in str(done)
    desk.file.unlink()
    gone = config.reload(before, {})
    assert gone.config is before
    assert "No such file" in str(gone)
    assert config.reload(Config.default(repository(desk.folder)), {}).fault is None


def repository(folder: Path) -> Path:
    subprocess.run(["git", "init", "-q", folder / "infra"], check=True)
    return folder / "infra"


# -- what is written about them

ROOT = Path(__file__).resolve().parents[2]


def test_the_schema_is_the_models() -> None:
    assert (ROOT / config_schema.FILE).read_text() == config_schema.render(), (
        "write it anew: python -m reconciler.app.config_schema"
    )


def test_every_field_is_documented() -> None:
    text = (ROOT / "docs/daemon.md").read_text()
    for field in fields.walk(SettingsFile):
        if field.model is None and field.path != ("notifications",):
            path = ".".join(field.path).replace("fleets.", "fleets[].")
            assert f"| `{path}` |" in text, path
    for name, model in CHANNELS.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        for field in fields.walk(model):
            if field.name in ("name", "type", "on", "remind"):
                assert f"| `notifications[].{field.name}` |" in text
            else:
                assert f"`{field.name}`" in row, field.name


def test_the_example_of_the_documentation_is_good(desk: Desk) -> None:
    lines = (ROOT / "docs/daemon.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line == "    fleets:")
    block = lines[start : next(i for i in range(start, len(lines)) if not lines[i].startswith("    "))]
    text = "\n".join(line[4:] for line in block).replace("/etc/reconciler", str(desk.folder))
    for name in ("webhook", "id_git", "ops.secret"):
        desk.put(name, "something\n")
    found = desk.load(text.replace("/usr/local/bin/smoke", "/bin/true"))
    assert [channel.name for channel in found.notifications] == ["ops", "mail"]
