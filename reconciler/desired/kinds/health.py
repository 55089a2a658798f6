"""Health checks: what must hold after a change."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from reconciler.desired.kinds.common import PRINTABLE, Distinct, Duration, Means, Model, Name, within

UnitName = Annotated[
    str,
    # As the agent takes them; systemd.unit(5) has the full rule.
    StringConstraints(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\\-]{0,150}(@[A-Za-z0-9_.\\-]{1,100})?\.(service|socket|timer|path|slice|target)$"
    ),
    Means("unit name", "the full name of a systemd unit, such as nginx.service"),
]
HttpPath = Annotated[
    str,
    # Printable ASCII without a fragment; two slashes at its head would be read as another host.
    StringConstraints(max_length=1024, pattern=r"^/([!-\"$-.0-~][!-\"$-~]*)?$"),
    Means(
        "path",
        "a path that begins with one slash, such as /health?full=1, in printable ASCII without spaces and #",
    ),
]
Status = Annotated[
    int, Field(ge=100, le=599), Means("HTTP status", "a whole number from 100 to 599", "HTTP statuses")
]
Contained = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=PRINTABLE),
    Means("text", "one line of 1 to 1024 characters", "texts"),
]


class HttpCheck(Model):
    """A request to the site, sent to the address of its server."""

    path: HttpPath = Field(default="/", description="Path and query of the request.")
    scheme: Literal["http", "https"] = Field(
        default="http", description="`https`: any certificate will do; `certificate` judges that."
    )
    status: Annotated[tuple[Status, ...], Distinct] = Field(
        default=(200,), min_length=1, description="Answers that are right; redirects are not followed."
    )
    contains: Contained | None = Field(
        default=None, description="Text that the answer must hold; absent: any will do."
    )
    timeout: Annotated[Duration, within("100ms", "5m")] = Field(
        default="5s", description="How long the whole answer may take."
    )


class CertificateCheck(Model):
    """The certificate that the site shows for its domain."""

    min_days: int = Field(default=7, ge=1, le=365, description="Days that it must still be valid.")


class AvcCheck(Model):
    """What SELinux refused since the change."""

    max: int = Field(default=0, ge=0, le=100000, description="Most denials that will do.")


def _exactly_one(schema: dict[str, Any]) -> None:
    schema["oneOf"] = [{"required": [name]} for name in schema["properties"]]


class ServerCheck(Model):
    """One check: exactly one of its fields is set."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    unit: UnitName | None = Field(default=None, description="Unit that must be active on the node.")
    command: Name | None = Field(
        default=None, description="Name of a command in the daemon's settings (`checks`) that must succeed."
    )
    avc: AvcCheck | None = Field(default=None, description="How much SELinux may refuse.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        fields = type(self).model_fields
        given = [info.alias or name for name, info in fields.items() if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "exactly_one",
                "must have exactly one of {known}, and has {given}",
                {
                    "known": ", ".join(info.alias or name for name, info in fields.items()),
                    "given": " and ".join(given) or "none",
                },
            )
        return self


class SiteCheck(ServerCheck):
    """One check of a site: exactly one of its fields is set."""

    http: HttpCheck | None = Field(default=None, description="Request that must be answered as expected.")
    certificate: CertificateCheck | None = Field(
        default=None, description="How long the certificate must still be valid."
    )
