"""JSON Schema of the kinds, for editors and other programs. `python -m reconciler.desired.schema` writes schemas/v1."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema

from reconciler.desired.kinds import API_VERSION, MODELS, Kind

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
FLEET = "fleet.schema.json"


class _Generator(GenerateJsonSchema):
    """pydantic's schema without invented titles, with `x-` keys allowed where keys are known."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        return {"$schema": _DIALECT, **super().generate(schema, mode)}


def filename(kind: Kind) -> str:
    """`site.schema.json`"""
    return f"{kind.value.lower()}.schema.json"


def render_schemas() -> dict[str, str]:
    """File name to text of every schema: one a kind, and `fleet.schema.json`, which is any of them."""
    texts = {filename(kind): _text(_schema(kind, model)) for kind, model in MODELS.items()}
    fleet = {
        "$schema": _DIALECT,
        "title": f"Any manifest of {API_VERSION}",
        "type": "object",
        "required": ["kind"],
        "oneOf": [{"$ref": filename(kind)} for kind in MODELS],
    }
    texts[FLEET] = _text(fleet)
    return texts


def _schema(kind: Kind, model: type[BaseModel]) -> JsonSchemaValue:
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    schema["title"] = f"{kind.value} of {API_VERSION}"
    if kind is not Kind.DEFAULTS:
        # Defaults may give any field of a spec, so a manifest by itself has to have none.
        schema["required"] = [name for name in schema["required"] if name != "spec"]
        schema["$defs"][f"{kind.value}Spec"].pop("required", None)
    _close_maps(schema)
    return schema


def _close_maps(node: Any) -> None:
    """Lets only `x-…` keys (the user's own, ignored) pass beside known ones, and only fitting keys in free maps."""
    if isinstance(node, dict):
        if node.get("additionalProperties") is False:
            node["patternProperties"] = {"^x-": {}}
        elif "patternProperties" in node:
            node["additionalProperties"] = False
        for value in node.values():
            _close_maps(value)
    elif isinstance(node, list):
        for value in node:
            _close_maps(value)


def _text(schema: JsonSchemaValue) -> str:
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    # Line separators of Unicode, which patterns exclude, would break lines in some editors.
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029") + "\n"


def main(folder: str = "schemas/v1") -> int:
    """Writes the schemas into `folder` and removes those of kinds that are gone. Returns an exit status."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    texts = render_schemas()
    for old in target.glob("*.schema.json"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(texts)} schemas in {target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
