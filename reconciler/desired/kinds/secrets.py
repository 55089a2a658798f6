"""Values of manifests that may be secret: a text in clear, or `{age: …}` with what age has encrypted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from reconciler.desired import armor
from reconciler.desired.kinds.common import Means
from reconciler.kit.secret import Secret

_FIELD = "age"
_FORM = f"{{{_FIELD}: |}} with what `reconciler secrets encrypt` prints"


@dataclass(frozen=True)
class Sealed:
    """An encrypted value. Only `armored` is ever written down; `opened` is there for as long as a bundle is rendered.

    `digest` is the SHA-256 of the encrypted file: it tells two of them apart without telling what they hold.
    `accepts` says whether the field takes a text.
    """

    armored: str = field(repr=False)
    digest: str
    opened: Secret | None = field(default=None, compare=False)
    accepts: Callable[[str], bool] = field(default=lambda _: True, compare=False, repr=False)
    rule: str = field(default="", compare=False, repr=False)
    """What a text has to look like, in words."""

    def with_text(self, opened: Secret) -> Sealed:
        """The same with what is in it."""
        return replace(self, opened=opened)

    def to_json(self) -> dict[str, str]:
        """As it is written in a manifest."""
        return {_FIELD: self.armored}


def clear(value: str | Sealed) -> Secret:
    """What is to be written on a node. For one that is not opened a text that only stands for it, as in the plan form."""
    if isinstance(value, Sealed):
        return value.opened if value.opened is not None else Secret(f"age-{value.digest}")
    return Secret(value)


class MaySeal:
    """Metadata of a field `str | Sealed`: texts, in clear or encrypted, are of the type `text`.

    With `only_sealed` a text in clear is refused. `rule` says in words what a text has to look like.
    """

    def __init__(self, text: Any, rule: str, *, only_sealed: bool = False) -> None:
        self._text = text
        self._rule = rule
        self._only_sealed = only_sealed
        self._adapter: TypeAdapter[str] | None = None

    def accepts(self, text: str) -> bool:
        """Whether a text is of the type."""
        if self._adapter is None:
            self._adapter = TypeAdapter(self._text)
        try:
            self._adapter.validate_python(text, strict=True)
        except ValidationError:
            return False
        return True

    def _read(self, value: Any, text: Callable[[Any], Any]) -> Any:
        if isinstance(value, Mapping):
            return self._sealed(value)
        if self._only_sealed and isinstance(value, str):
            raise ValueError(f"must not stand here in clear; write {_FORM}")
        return value if isinstance(value, Sealed) else text(value)

    def _sealed(self, value: Mapping[str, object]) -> Sealed:
        if set(value) != {_FIELD} or not isinstance(value[_FIELD], str):
            also = "" if self._only_sealed else "a text, or "
            raise ValueError(f"must be {also}{_FORM}")
        read = armor.read(str(value[_FIELD]))
        return Sealed(read.text, read.digest, accepts=self.accepts, rule=self._rule)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._read,
            handler.generate_schema(self._text),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.to_json() if isinstance(value, Sealed) else value
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        sealed = {
            "type": "object",
            "additionalProperties": False,
            "required": [_FIELD],
            "properties": {_FIELD: {"type": "string", "description": "Armored text of age."}},
        }
        return sealed if self._only_sealed else {"anyOf": [handler(schema), sealed]}


AnyText = Annotated[str, StringConstraints(max_length=16 * 1024)]
SecretText = Annotated[
    str | Sealed,
    MaySeal(AnyText, "a text of at most 16384 characters"),
    Means("text or {age: …}", "", "texts or {age: …}"),
]
"""A text of any form, in clear or encrypted. Fields with a form of their own write `Annotated[str | Sealed, MaySeal(…)]`."""
