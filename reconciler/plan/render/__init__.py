"""A plan for people and machines: text, JSON and a pull request's comment. All of them mask sensitive values."""

from __future__ import annotations

from reconciler.plan.render.json import as_json, json_value
from reconciler.plan.render.markdown import MARKER, as_markdown
from reconciler.plan.render.style import ansi, plain
from reconciler.plan.render.text import as_text, summary

__all__ = ["MARKER", "ansi", "as_json", "as_markdown", "as_text", "json_value", "plain", "summary"]
