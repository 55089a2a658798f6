"""JSON Schema of the settings file, for editors. `python -m reconciler.app.config_schema` writes schemas/settings.schema.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic.json_schema import JsonSchemaValue, models_json_schema

from reconciler.app.config_channels import CHANNELS
from reconciler.app.config_model import SettingsFile

FILE = "schemas/settings.schema.json"


def render() -> str:
    """The schema's text. Channels are one of their types; defaults in seconds, which a file writes as durations, are left out."""
    models = [SettingsFile, *CHANNELS.values()]
    refs, found = models_json_schema([(model, "validation") for model in models], by_alias=True)
    definitions: dict[str, JsonSchemaValue] = found["$defs"]
    schema = definitions.pop("SettingsFile")
    channels = [refs[(model, "validation")] for model in CHANNELS.values()]
    schema["properties"]["notifications"]["items"] = {"oneOf": channels}
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of the daemon",
        **{key: value for key, value in schema.items() if key != "title"},
        "$defs": dict(sorted(definitions.items())),
    }
    _tidy(whole, top=True)
    unused = [name for name in whole["$defs"] if f'"#/$defs/{name}"' not in json.dumps(whole)]
    for name in unused:  # what a value becomes in the program, not in the file
        del whole["$defs"][name]
    return json.dumps(whole, indent=2, ensure_ascii=True) + "\n"


def _tidy(node: object, *, top: bool = False) -> None:
    """Without titles that only repeat names, and without defaults that a file could not hold."""
    if isinstance(node, dict):
        if not top and isinstance(node.get("title"), str):
            del node["title"]
        if node.get("type") == "string" and not isinstance(node.get("default", ""), str):
            del node["default"]
        if isinstance(node.get("default"), dict):
            del node["default"]
        for value in node.values():
            _tidy(value)
    elif isinstance(node, list):
        for value in node:
            _tidy(value)


def main(path: str = FILE) -> int:
    """Write the schema. Returns an exit status."""
    Path(path).write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
