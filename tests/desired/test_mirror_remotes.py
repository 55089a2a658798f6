"""Addresses of remotes: which pass, which never reach git, and how ssh is called for them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from reconciler.desired import git_failures, git_process
from reconciler.desired.mirror import Mirror
from reconciler.desired.remotes import parse, ssh_command
from reconciler.errors import SourceFault

HOSTILE = [
    "ext::sh -c touch% /tmp/x", "fd::17", "fd::17/x", "ext::ssh git@host", "::ext", "file::/srv/x", "https::https://h/x", "-oProxyCommand=touch /tmp/x",
    "--upload-pack=touch /tmp/x", "-u", "ssh://-oProxyCommand=x/p", "ssh://-x@host/p", "ssh://u@-oProxyCommand=x/p", "git@-oProxyCommand=x:p",
    "ssh://host/-x", "git@host:-x", "ssh://host:22a/x", "ssh://ho st/x", "ssh://host/x y", "ssh://host", "ssh://host/", "git@host:", "host:path:x y",
    "http://host/x", "git://host/x", "ftp://host/x", "rsync://host/x", "gopher://h/x", "SSH://host/x", "transport::ssh://h/x", "", " ", "relative/path",
    "./x", "../x", "~/x", "$HOME/x", "/srv/x\nssh://h/x", "ssh://host/x\n-x", "ssh://host/x\0", "https://host/x?q#f", "https://ho\\st/x", "file://host/x",
    "https://[::1/x", "x" * 3000, "ssh://`id`/x", "ssh://$(id)/x", "git@$(id):x", "ssh://host;id/x", "https://-host/x", "user:pass@host:path",
]  # fmt: skip
ACCEPTED = [
    ("ssh://git@git.example.test/infra.git", "ssh"),
    ("ssh://git@git.example.test:2222/team/infra.git", "ssh"),
    ("ssh://git@[2001:db8::1]:22/infra.git", "ssh"),
    ("ssh://git.example.test/~ada/infra.git", "ssh"),
    ("git@git.example.test:team/infra.git", "ssh"),
    ("https://git.example.test/infra.git", "https"),
    ("https://git.example.test:8443/a/b/infra.git", "https"),
    ("/srv/git/infra.git", "file"),
    ("file:///srv/git/infra.git", "file"),
    ("/srv/git/with blank/infra.git", "file"),
]


@pytest.mark.parametrize("address", HOSTILE)
def test_a_hostile_address_is_refused_before_git_sees_it(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_process, "run", lambda *_, **__: pytest.fail("a program was run"))
    with pytest.raises(SourceFault, match="is no accepted address") as fault:
        Mirror(tmp_path / "mirror", [address])
    assert "ssh://" in fault.value.hint
    assert not (tmp_path / "mirror").exists()


@pytest.mark.parametrize(("address", "protocol"), ACCEPTED)
def test_ordinary_addresses_pass_and_only_where_their_protocol_is_allowed(
    address: str, protocol: str
) -> None:
    assert parse(address).protocol == protocol
    with pytest.raises(SourceFault, match=f"the protocol {protocol} is not allowed"):
        parse(address, {"ssh", "https", "file"} - {protocol})


def test_no_remote_at_all_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SourceFault, match="has no remote"):
        Mirror(tmp_path / "mirror", [])


def test_credentials_leave_the_address_and_are_shown_nowhere() -> None:
    remote = parse("https://ada:s3cret%40x@git.example.test/infra.git")
    assert remote.address == remote.name == "https://git.example.test/infra.git"
    assert "s3cret" not in repr(remote)
    assert remote.header is not None
    assert remote.header.reveal().startswith("Authorization: Basic ")
    with pytest.raises(SourceFault) as fault:
        parse("http://ada:s3cret@git.example.test/infra.git")
    assert "s3cret" not in fault.value.message
    with pytest.raises(SourceFault) as fault:
        parse("https://ada:s3cret@git.example.test/infra.git", {"ssh"})
    assert "s3cret" not in fault.value.message


def test_ssh_is_called_without_questions_agents_or_programs_and_paths_with_blanks_survive() -> None:
    words = shlex.split(ssh_command(Path("/etc/my keys/id%1"), Path("/etc/known'hosts"), 7.2))
    assert words[:3] == ["ssh", "-F", "/dev/null"]
    options = dict(word.split("=", 1) for word in words[3:] if word != "-o")
    assert options["IdentityFile"] == '"/etc/my keys/id%%1"'
    assert options["UserKnownHostsFile"] == '"/etc/known\'hosts"'
    expected = {
        "BatchMode": "yes", "StrictHostKeyChecking": "yes", "GlobalKnownHostsFile": "/dev/null", "IdentityAgent": "none", "IdentitiesOnly": "yes",
        "ProxyCommand": "none", "PermitLocalCommand": "no", "ControlPath": "none", "ForwardAgent": "no", "ConnectTimeout": "7",
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected
    bare = dict(word.split("=", 1) for word in shlex.split(ssh_command(None, None, 5))[3:] if word != "-o")
    assert (bare["IdentityFile"], bare["UserKnownHostsFile"]) == ("none", "/dev/null")
    with pytest.raises(SourceFault):
        ssh_command(Path('/etc/a"b'), None, 5)


@pytest.mark.parametrize(
    ("error", "retry", "word"),
    [
        ("ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.", True, "refused"),
        ("ssh: Could not resolve hostname h: Name or service not known", True, "resolve"),
        ("fatal: unable to access 'https://h/x/': The requested URL returned error: 503", True, "503"),
        ("fatal: protocol error: bad line length character: HTTP", True, "protocol error"),
        ("fatal: something nobody has seen before", True, "nobody has seen"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", False, "Permission denied"),
        ("No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.", False, "host key"),
        ("remote: Repository not found.\nfatal: repository 'https://h/x/' not found", False, "not found"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", False, "Username"),
        ("error: object 12: badDate: x\nfatal: fsck error in packed object", False, "fsck"),
        ("fatal: sha1 file '/x' write error: No space left on device", False, "No space"),
    ],
)  # fmt: skip
def test_what_git_says_is_told_apart_by_whether_waiting_helps(error: str, retry: bool, word: str) -> None:
    failure = git_failures.classify(error)
    assert failure.retry is retry
    assert word in failure.reason


def test_what_a_server_says_cannot_act_on_a_terminal_or_flood_it() -> None:
    said = git_failures.said("remote: \x1b[31mevil\x07\nfatal: no\n" + "fatal: more\n" * 1000)
    assert said.isprintable()
    assert len(said) <= 300
    assert git_failures.said("") == "no word why"
