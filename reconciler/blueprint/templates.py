"""The Jinja2 templates: the one place of the blueprints that reads files."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from reconciler.blueprint import escape
from reconciler.kit import assets

if TYPE_CHECKING:
    from jinja2 import Environment, Template


class Templates:
    """Renders the files below `templates/`. Made once and handed on; compiled templates are kept."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._compiled: dict[str, Template] = {}

    def render(self, name: str, values: Mapping[str, object]) -> str:
        """The file `name` (for example `nginx/generic.conf.j2`) with `values` filled in.

        Raises jinja2.UndefinedError for a value that is missing and ValueError for one that its place cannot hold.
        """
        template = self._compiled.get(name)
        if template is None:
            template = self._compiled[name] = self._environment.get_template(name)
        return template.render(values)


@functools.cache
def shipped() -> Templates:
    """The templates that travel with the program. Raises FileNotFoundError when the installation lacks them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - 40 ms that only rendering costs

    environment = Environment(
        loader=FileSystemLoader(assets.folder("templates")),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - no HTML from values; configuration formats have filters of their own
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters.update(escape.FILTERS)
    return Templates(environment)
