"""`POST /api/webhooks/{forge}/{fleet}`: a proven push to the fleet's branch makes the daemon look again, now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from starlette.requests import Request
from starlette.responses import Response

from reconciler.http import answers, body, payloads, signatures
from reconciler.http.ports import Daemon
from reconciler.http.replay import Seen
from reconciler.http.signatures import FORGES, Forge
from reconciler.kit.clock import Clock
from reconciler.kit.secret import Secret
from reconciler.kit.text import short
from reconciler.telemetry import logs

Heard = Callable[[str, str], None]

log = logs.get("reconciler.http")

_WHERE = "the address ends in a fleet's name, and the fleet needs a webhookSecret in the daemon's settings"
_SECRET = "the sender's secret must be the fleet's webhookSecret"  # noqa: S105 - a sentence about it


class Webhooks:
    """Receives webhooks. `heard` is told forge and result (`telemetry.labels.HOOKS`) of each."""

    def __init__(self, daemon: Daemon, clock: Clock, heard: Heard) -> None:
        self._daemon = daemon
        self._clock = clock
        self._heard = heard
        self._seen = Seen()

    async def receive(self, request: Request) -> Response:
        """Answers one webhook."""
        named, fleet = request.path_params["forge"], request.path_params["fleet"]
        forge = next((known for known in FORGES if known == named), None)
        if forge is None:
            return answers.fault(
                404, "no such kind of webhook", f"it is one of {', '.join(FORGES)}", closing=True
            )
        known_to = self._daemon.webhook_secret(fleet) if fleet in self._daemon.fleets() else None
        secrets = (known_to,) if isinstance(known_to, Secret) else tuple(known_to or ())
        if not secrets:
            return answers.fault(404, "this fleet takes no webhooks", _WHERE, closing=True)
        with logs.bound(fleet=fleet):
            try:
                content = await body.read(request)
            except body.TooLarge:
                self._heard(forge, "malformed")
                return answers.fault(
                    413, "the body is too large", f"at most {body.LIMIT} bytes are taken", closing=True
                )
            except body.TooSlow:
                self._heard(forge, "malformed")
                return answers.fault(
                    408, "the body did not come in time", f"it has {body.WITHIN:.0f} s", closing=True
                )
            return self._judge(request, forge, fleet, secrets, content)

    def _judge(
        self, request: Request, forge: Forge, fleet: str, secrets: Sequence[Secret], content: bytes
    ) -> Response:
        now = self._clock()
        try:
            proven = signatures.verify_any(forge, request.headers, content, secrets, now)
        except signatures.Refused as why:
            self._heard(forge, "refused")
            sender = request.client.host if request.client else "a unix socket"
            log.warning("a webhook was refused", forge=forge, sender=sender, reason=str(why))
            return answers.fault(401, "the signature does not fit", _SECRET)
        if not self._seen.enter(fleet, proven.marks, now):
            self._heard(forge, "replayed")
            return answers.said({"result": "replayed", "reason": "this delivery was acted on before"}, 202)
        try:
            return self._act(request, forge, fleet, content)
        except payloads.Malformed as why:
            self._heard(forge, "malformed")
            log.warning("a webhook cannot be read", forge=forge, reason=str(why))
            return answers.fault(400, str(why), "send the forge's JSON as it is")
        except Exception:
            self._heard(forge, "failed")
            self._seen.leave(fleet, proven.marks)
            raise

    def _act(self, request: Request, forge: Forge, fleet: str, content: bytes) -> Response:
        asks = payloads.asked(forge, request.headers, content, self._daemon.branch(fleet))
        match asks:
            case payloads.Ping():
                self._heard(forge, "accepted")
                return answers.said({"result": "pong", "fleet": fleet})
            case payloads.Ignored():
                self._heard(forge, "ignored")
                return answers.said({"result": "ignored", "reason": asks.reason}, 202)
            case payloads.Push():
                cause = f"webhook from {forge}" + (f" of {short(asks.commit)}" if asks.commit else "")
                self._daemon.look(fleet, cause)
                self._heard(forge, "accepted")
                log.info("a webhook asks to look", forge=forge, commit=asks.commit or None)
                return answers.said({"result": "looking", "fleet": fleet}, 202)
            case _:
                assert_never(asks)
