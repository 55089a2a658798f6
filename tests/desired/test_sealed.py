"""Encrypted values: their form is judged without a key, what they hold with one; nothing shows it."""

from __future__ import annotations

import base64
import json
import textwrap

import pytest

from reconciler.desired import armor, sealed
from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Kind, Site
from reconciler.desired.kinds.secrets import Sealed, clear
from reconciler.desired.tree import load
from reconciler.kit.secret import Secret
from reconciler.secrets import age
from reconciler.secrets.age import AgeIdentity

OURS, THEIRS = AgeIdentity.generate(), AgeIdentity.generate()
CANARY = "canary-x7-value"
SITE = """apiVersion: reconciler/v1
kind: Site
metadata: {name: %s}
spec:
  server: web1
  domain: %s.example.test
  appType: static
  env:
    PLAIN: in-clear
    TOKEN:
      age: |
"""
SERVER = """apiVersion: reconciler/v1
kind: SSHKey
metadata: {name: fleet}
spec: {}
---
apiVersion: reconciler/v1
kind: Server
metadata: {name: web1}
spec: {address: 192.0.2.1, os: alma_9, sshKey: fleet}
"""


def fleet(**values: str) -> Loaded:
    files = {"server.yaml": SERVER.encode()}
    for name, armored in values.items():
        files[f"{name}.yaml"] = (SITE % (name, name) + textwrap.indent(armored, " " * 8)).encode()
    return load(files)


def for_us(text: str = CANARY) -> str:
    return age.encrypt(Secret(text), [OURS.public])


def site(loaded: Loaded, name: str) -> Site:
    found = loaded.fleet.get(Kind.SITE, name)
    assert isinstance(found, Site)
    return found


def armored(binary: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(binary).decode(), 64)
    return "\n".join([armor.BEGIN, *lines, armor.END, ""])


def stanza(kind: str) -> bytes:
    return f"-> {kind} {'A' * 43}\n{'A' * 43}\n".encode()


INTRO, MAC = b"age-encryption.org/v1\n", b"--- " + b"A" * 43 + b"\n" + bytes(32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no armored age file"),
        ("c2VjcmV0", "is no armored age file"),
        (f"{armor.BEGIN}\n{armor.END}", "is no armored age file"),
        (f"{armor.BEGIN}\n{'ä' * 64}\n{armor.END}", "is damaged"),
        (f"{armor.BEGIN}\nYWdl\nYWdl\n{armor.END}", "is damaged"),
        (armored(b"age-encryption.org/v2\n" + MAC), "format v1"),
        (armored(bytes(range(256)) * 8), "format v1"),
        (armored(INTRO + MAC), "was cut off"),
        (armored(INTRO + stanza("X25519")), "header cannot be read"),
        (armored(INTRO + stanza("X25519") + MAC[:-1]), "was cut off"),
        (armored(INTRO + b"-> X25519 AA\n" + b"A" * 64 + b"\n"), "header cannot be read"),
        (armored(INTRO + b"-> X25519 AA\n" + b"A" * 9000 + b"\n\n" + MAC), "header cannot be read"),
        (armored(INTRO + b"-> scrypt AAAA 62\n" + b"A" * 43 + b"\n" + MAC), "with a passphrase"),
        (armored(INTRO + stanza("X25519") + stanza("scrypt") + MAC), "with a passphrase"),
        (armored(INTRO + stanza("ssh-ed25519") + MAC), "not encrypted for any public key of the form age1"),
        (armored(INTRO + stanza("X25519") * 33 + MAC), "more than 32 recipients"),
        (armored(INTRO + stanza("X25519") + MAC + bytes(60_000)), "has at most 65536"),
    ],
)
def test_a_text_that_is_no_file_for_us_is_refused_without_a_key(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        armor.read(text)


def test_blanks_and_line_ends_make_no_other_value() -> None:
    text = for_us()
    assert armor.read(text) == armor.read("\n  " + text.replace("\n", "  \r\n") + "\n\n")
    assert armor.read(text).text == text


def test_what_this_daemon_opens_is_no_problem_and_comes_out_in_the_bundle_only() -> None:
    loaded = fleet(shop=for_us())
    assert sealed.judge(loaded, lambda: OURS.open) is loaded
    after, locked = sealed.open_fleet(loaded.fleet, lambda: OURS.open)
    assert not locked
    shop = after.get(Kind.SITE, "shop")
    assert isinstance(shop, Site)
    assert clear(shop.spec.env["TOKEN"]) == Secret(CANARY)
    assert clear(shop.spec.env["PLAIN"]) == Secret("in-clear")
    assert [text.reveal() for text in sealed.texts(shop)] == [CANARY]
    assert CANARY not in repr(shop)
    assert CANARY not in json.dumps(shop.model_dump(mode="json", by_alias=True))
    assert shop == site(loaded, "shop"), "the same manifest, opened or not"


def test_one_that_is_for_others_stops_its_own_resource_and_has_a_place() -> None:
    loaded = fleet(shop=for_us(), blog=age.encrypt(Secret(CANARY), [THEIRS.public]))
    assert not loaded.problems
    judged = sealed.judge(loaded, lambda: OURS.open)
    (problem,) = judged.problems
    assert (problem.code, str(problem.source)) == ("locked-secret", "blog.yaml:11:7")
    assert problem.message.startswith("spec.env.TOKEN is not encrypted for this daemon")
    assert "reconciler secrets recipient" in problem.hint
    assert judged.fleet.broken == {Key(Kind.SITE, "blog")}
    assert judged.fleet.get(Kind.SITE, "shop") is not None
    after, locked = sealed.open_fleet(loaded.fleet, lambda: OURS.open)
    assert list(locked) == [Key(Kind.SITE, "blog")]
    blog = after.get(Kind.SITE, "blog")
    assert isinstance(blog, Site)
    assert clear(blog.spec.env["TOKEN"]).reveal().startswith("age-"), "it stays closed"


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "x" * 4097])
def test_what_is_in_it_must_be_what_the_field_takes_and_is_not_repeated(text: str) -> None:
    judged = sealed.judge(fleet(shop=for_us(text)), lambda: OURS.open)
    (problem,) = judged.problems
    assert "opens, but holds something else than one line of at most 4096 characters" in problem.message
    assert text not in str(problem)


def test_a_key_is_asked_for_only_when_something_is_encrypted() -> None:
    def opener() -> sealed.Opener:
        raise AssertionError("no key is needed")

    loaded = load({"server.yaml": SERVER.encode()})
    assert sealed.judge(loaded, opener) is loaded
    assert sealed.open_fleet(loaded.fleet, opener) == (loaded.fleet, {})


def test_encrypted_again_is_another_value_in_the_plan_form_and_the_same_on_the_node() -> None:
    first, second = fleet(shop=for_us()), fleet(shop=for_us())
    forms = [clear(site(one, "shop").spec.env["TOKEN"]) for one in (first, second)]
    assert forms[0] != forms[1]
    nodes = [sealed.opened(site(one, "shop"), OURS.open) for one in (first, second)]
    assert [list(sealed.texts(node)) for node in nodes] == [[Secret(CANARY)]] * 2


def test_a_value_from_defaults_names_their_place() -> None:
    theirs = textwrap.indent(age.encrypt(Secret(CANARY), [THEIRS.public]), " " * 10)
    defaults = f"""apiVersion: reconciler/v1
kind: Defaults
metadata: {{name: common}}
spec:
  appliesTo: Site
  values:
    env:
      SHARED:
        age: |
{theirs}"""
    site_ = SITE % ("shop", "shop") + textwrap.indent(for_us(), " " * 8)
    loaded = load({"a.yaml": SERVER.encode(), "d.yaml": defaults.encode(), "s.yaml": site_.encode()})
    assert not loaded.problems
    value = site(loaded, "shop").spec.env["SHARED"]
    assert isinstance(value, Sealed)
    (problem,) = sealed.judge(loaded, lambda: OURS.open).problems
    assert str(problem.source).startswith("d.yaml:9:9")
