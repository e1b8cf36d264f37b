"""An extension of Griffe: docstrings reach mkdocstrings as Markdown."""

from typing import Any

from griffe import Extension, Object

from website.api import list_documented, plan_pages
from website.docstrings import to_markdown
from website.site_log import log
from website.symbols import Symbols


class Roles(Extension):
    """Turn the roles of Sphinx in all docstrings into links; one that refers to nothing is a warning."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = Symbols()
        self.documented = list_documented(plan_pages(self.symbols))

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object that Griffe has read."""
        if obj.is_alias or not obj.docstring:
            return
        try:
            obj.docstring.value = to_markdown(obj.docstring.value, obj.path, self.symbols, self.documented)
        except LookupError as error:
            log.warning('%s', error)
