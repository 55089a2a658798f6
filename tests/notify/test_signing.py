"""Signatures of Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from reconciler.kit.secret import Secret
from reconciler.notify import signing

KEY = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_example_is_signed_alike() -> None:
    assert signing.signatures([signing.key_bytes(KEY)], MESSAGE, 1614265330, BODY) == SIGNED


def test_with_two_keys_there_are_two_signatures() -> None:
    keys = [signing.key_bytes(KEY), signing.key_bytes(Secret("the next one"))]
    first, second = signing.signatures(keys, MESSAGE, 1614265330, BODY).split(" ")
    mac = hmac.new(b"the next one", f"{MESSAGE}.1614265330.".encode() + BODY, hashlib.sha256).digest()
    assert (first, second) == (SIGNED, f"v1,{base64.b64encode(mac).decode()}")


def test_without_a_key_nothing_is_signed() -> None:
    assert signing.headers([], "id", 5, b"") == {"webhook-id": "id", "webhook-timestamp": "5"}


@pytest.mark.parametrize(
    "text", ["whsec_", "whsec_!!!!", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS?", "", "  \n"]
)
def test_a_key_that_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError, match="is ") as caught:
        signing.key_bytes(Secret(text))
    assert text.strip() == "" or text.removeprefix("whsec_") == "" or text not in str(caught.value)


def test_padding_and_the_line_end_of_a_file_may_be_missing_or_there() -> None:
    assert (
        signing.key_bytes(Secret("whsec_QUJDRA")) == signing.key_bytes(Secret("whsec_QUJDRA==\n")) == b"ABCD"
    )
    assert signing.key_bytes(Secret("plain text\n")) == b"plain text"
