"""Names with fields in braces, such as ``blocks.{block}.norm1.{param}``."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

FIELD = re.compile(r'\{(\w+)([+-]\d+)?(?::([^{}]*))?\}')
PATTERNS = {'param': 'weight|bias', 'norm_param': 'weight|bias|running_mean|running_var|num_batches_tracked'}
NUMBER = r'\d+'


class Template:
    """A name with fields, which is parsed and filled.

    Args:
        text: The name; what its fields mean is written in :mod:`mae_toolkit.checkpoints.names.table`.
        patterns: Regular expressions of the fields, see :func:`find_patterns`.

    Attributes:
        pattern: The regular expression of the whole name, with a group for each field.
    """

    def __init__(self, text: str, patterns: Mapping[str, str]) -> None:
        self.text = text
        self.pattern = ''.join(_write_regex(text, patterns))
        self.offsets = {field[1]: int(field[2]) for field in FIELD.finditer(text) if field[2]}

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The compiled pattern. There are thousands of names in all formats, of which a file needs few."""
        return re.compile(self.pattern)

    def parse(self, name: str) -> dict[str, str] | None:
        """Return the values of the fields in a name, or None if the name is none of this template."""
        if (match := self.regex.fullmatch(name)) is None:
            return None
        fields = match.groupdict()
        for field, offset in self.offsets.items():
            number = int(fields[field]) - offset
            if number < 0:
                return None
            fields[field] = str(number)
        return fields

    def fill(self, fields: Mapping[str, str]) -> str:
        """Write the name with these values of the fields."""
        return FIELD.sub(lambda f: str(int(fields[f[1]]) + int(f[2])) if f[2] else fields[f[1]], self.text)


def find_patterns(*templates: str) -> dict[str, str]:
    """Make the regular expressions of the fields of templates, by name; one that is written out counts."""
    fields = [field for template in templates for field in FIELD.finditer(template)]
    known = {field[1]: PATTERNS.get(field[1], NUMBER) for field in fields}
    return known | {field[1]: field[3] for field in fields if field[3] is not None}


def _write_regex(template: str, patterns: Mapping[str, str]) -> Iterator[str]:
    end = 0
    for field in FIELD.finditer(template):
        yield re.escape(template[end : field.start()])
        yield f'(?P<{field[1]}>{patterns[field[1]]})'
        end = field.end()
    yield re.escape(template[end:])
