"""Signatures of webhooks: the published vectors, and everything that must not pass."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from starlette.datastructures import Headers

from reconciler.http.signatures import TOLERANCE, Forge, Refused, verify
from reconciler.kit.secret import Secret
from tests.http.daemon import NOW, SECRET, SIGNING, digest, github, standard, without

BODY = b'{"ref": "refs/heads/main"}'


def judged(
    forge: Forge, headers: dict[str, str], body: bytes = BODY, secret: str = SECRET, now: datetime = NOW
) -> tuple[str, ...]:
    return verify(forge, Headers(headers), body, Secret(secret), now).marks


def signed(forge: Forge, body: bytes = BODY) -> dict[str, str]:
    match forge:
        case "github":
            return github(body)
        case "gitea":
            return {"x-gitea-signature": digest(body), "x-gitea-delivery": "g-1"}
        case "forgejo":
            return {"x-forgejo-signature": digest(body), "x-forgejo-delivery": "f-1"}
        case "gitlab":
            return {"x-gitlab-token": SECRET, "idempotency-key": "i-1"}
        case "generic":
            return {"x-signature": f"sha256={digest(body)}"}


FORGES: tuple[Forge, ...] = ("github", "gitlab", "gitea", "forgejo", "generic")


def test_the_vector_that_github_publishes() -> None:
    given = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": given}
    assert judged("github", headers, b"Hello, World!", "It's a Secret to Everybody")
    with pytest.raises(Refused):
        judged("github", headers, b"Hello, World?", "It's a Secret to Everybody")


def test_the_vector_of_standard_webhooks() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    at = datetime.fromtimestamp(1614265330, UTC)
    for forge in ("generic", "gitlab"):
        marks = judged(forge, headers, b'{"test": 2432232314}', secret, at)
        assert marks == ("id:msg_p5jXN8AQM9LWM0D4loKWxJek",)


@pytest.mark.parametrize("forge", FORGES)
def test_what_each_forge_sends_is_accepted_and_nothing_else(forge: Forge) -> None:
    judged(forge, signed(forge))
    with pytest.raises(Refused):
        judged(forge, {})
    with pytest.raises(Refused):
        judged(forge, signed(forge), secret="another secret")
    if forge != "gitlab":  # its plain token does not depend on the body
        with pytest.raises(Refused):
            judged(forge, signed(forge), BODY + b" ")
    with pytest.raises(ValueError, match="empty"):
        judged(forge, signed(forge), secret="")


@pytest.mark.parametrize("forge", FORGES)
def test_a_wrong_signature_is_not_rescued_by_another_header_that_fits(forge: Forge) -> None:
    everything = {name: value for other in FORGES for name, value in signed(other).items()}
    name = next(iter(signed(forge)))
    wrong = "another secret" if forge == "gitlab" else signed(forge)[name][:-4] + "0000"
    judged(forge, everything)
    with pytest.raises(Refused):
        judged(forge, {**everything, name: wrong})
    with pytest.raises(Refused):
        judged(forge, without(everything, name))


@pytest.mark.parametrize("forge", ["gitlab", "generic"])
def test_a_wrong_standard_signature_is_not_rescued_by_the_older_header(forge: Forge) -> None:
    wrong = standard(BODY, secret="whsec_" + base64.b64encode(b"x" * 32).decode())
    judged(forge, signed(forge))
    with pytest.raises(Refused):
        judged(forge, {**signed(forge), **wrong})
    with pytest.raises(Refused):
        judged(forge, {**signed(forge), "webhook-signature": ""})


def test_a_header_that_comes_twice_is_refused() -> None:
    raw = [(b"x-hub-signature-256", f"sha256={digest(BODY)}".encode())]
    assert verify("github", Headers(raw=raw), BODY, Secret(SECRET), NOW).marks
    with pytest.raises(Refused, match="more than one"):
        verify(
            "github", Headers(raw=[*raw, (b"x-hub-signature-256", b"sha256=00")]), BODY, Secret(SECRET), NOW
        )


@pytest.mark.parametrize(
    "given",
    [
        "",
        "sha256=",
        digest(BODY),
        f"sha1={digest(BODY, name='sha1')}",
        f"md5={digest(BODY, name='md5')}",
        f"sha256={digest(BODY)} ",
        f"sha256= {digest(BODY)}",
        f"sha256={digest(BODY)[:-1]}",
        f"sha256={digest(BODY)}00",
        f"sha512={digest(BODY)}",
        "sha256=ÿþ",
        "sha256=" + "g" * 64,
    ],
)
@pytest.mark.parametrize("forge", ["github", "generic"])
def test_other_forms_of_a_signature_are_refused(forge: Forge, given: str) -> None:
    name = "x-hub-signature-256" if forge == "github" else "x-signature"
    raw = [(name.encode(), given.encode("latin-1"))]
    with pytest.raises(Refused):
        verify(forge, Headers(raw=raw), BODY, Secret(SECRET), NOW)


def test_a_generic_sender_may_use_the_longer_hashes_and_github_may_not() -> None:
    for name in ("sha224", "sha256", "sha384", "sha512"):
        given = f"{name}={digest(BODY, name=name)}"
        assert judged("generic", {"x-signature": given}) == ()
        if name != "sha256":
            with pytest.raises(Refused):
                judged("github", {"x-hub-signature-256": given})
    judged("generic", {"x-signature": f"sha256={digest(BODY).upper()}"})


def test_a_token_with_other_characters_is_compared_and_not_a_fault() -> None:
    raw = [(b"x-gitlab-token", "zwölf".encode())]
    with pytest.raises(Refused):
        verify("gitlab", Headers(raw=raw), BODY, Secret(SECRET), NOW)


def test_a_signing_token_is_never_accepted_in_clear() -> None:
    judged("gitlab", standard(BODY), secret=SIGNING)
    with pytest.raises(Refused, match="signing token"):
        judged("gitlab", {"x-gitlab-token": SIGNING}, secret=SIGNING)


def test_a_standard_message_is_accepted_near_its_time_only() -> None:
    edge = timedelta(seconds=TOLERANCE)
    for now in (NOW - edge, NOW, NOW + edge):
        judged("generic", standard(BODY), secret=SIGNING, now=now)
    for now in (NOW - edge - timedelta(seconds=1), NOW + edge + timedelta(seconds=1)):
        with pytest.raises(Refused, match="timestamp"):
            judged("generic", standard(BODY), secret=SIGNING, now=now)


def test_one_of_several_signatures_may_fit_while_a_key_is_rotated() -> None:
    headers = standard(BODY)
    right = headers["webhook-signature"]
    other = "v1," + base64.b64encode(b"x" * 32).decode()
    for given in (f"{other} {right}", f"{right} {other}", f"v1a,abc {right}"):
        judged("generic", {**headers, "webhook-signature": given}, secret=SIGNING)
    for given in (
        other,
        "",
        right.removeprefix("v1,"),
        right.replace("v1,", "v2,"),
        " ".join([other] * 40 + [right]),
    ):
        with pytest.raises(Refused):
            judged("generic", {**headers, "webhook-signature": given}, secret=SIGNING)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg_2"),
        ("webhook-id", ""),
        ("webhook-id", "a.b"),
        ("webhook-id", "a b"),
        ("webhook-id", "x" * 300),
        ("webhook-timestamp", "0"),
        ("webhook-timestamp", "+1769860800"),
        ("webhook-timestamp", "1_769_860_800"),
        ("webhook-timestamp", "1769860800.0"),
        ("webhook-timestamp", "9" * 400),
        ("webhook-timestamp", ""),
    ],
)
def test_what_is_signed_cannot_be_changed(name: str, value: str) -> None:
    with pytest.raises(Refused):
        judged("generic", {**standard(BODY), name: value}, secret=SIGNING)


def test_the_parts_of_a_standard_message_cannot_be_shifted() -> None:
    body = b"1769860800.{}"
    headers = standard(body, "msg")
    shifted = {**headers, "webhook-id": f"msg.{headers['webhook-timestamp']}"}
    with pytest.raises(Refused):
        judged("generic", {**shifted, "webhook-timestamp": "1769860800"}, b"{}", SIGNING)


def test_a_signing_secret_that_is_no_base64_is_our_fault_and_not_the_senders() -> None:
    with pytest.raises(ValueError, match="base64"):
        judged("generic", standard(BODY), secret="whsec_not base64!")


def test_a_delivery_is_known_by_its_id_and_by_its_body() -> None:
    first, second = judged("github", github(BODY, delivery="a")), judged("github", github(BODY, delivery="b"))
    assert first[0] == "id:a"
    assert first[1] == second[1]
    assert len(judged("github", github(BODY, delivery=""))) == 1
