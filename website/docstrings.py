"""Docstrings as Markdown: roles become links, examples become blocks of code."""

import re

from website.symbols import Symbol, Symbols

ROLE = re.compile(r':(?:class|func|meth|mod|attr|data|exc|obj):`(~?)([^`<>]+)`')


def find_roles(doc: str) -> list[str]:
    """Return the names that the roles of a docstring refer to."""
    return [role for _, role in ROLE.findall(doc)]


def to_markdown(doc: str, scope: str, symbols: Symbols, documented: set[str]) -> str:
    """Turn a docstring of reStructuredText into Markdown.

    Args:
        doc: The docstring.
        scope: Dotted name of what it belongs to.
        symbols: What the package defines.
        documented: Dotted names that have an entry in the pages of the API; a role for another one leads to its source.

    Raises:
        LookupError: If a role refers to nothing.
    """
    doc = ROLE.sub(lambda match: _link(match, scope, symbols, documented), doc)
    doc = re.sub(r'``([^`\n]+(?:\n[^`\n]+)?)``', r'`\1`', doc)
    return re.sub(r'::$', ':', doc, flags=re.M)


def _link(match: re.Match[str], scope: str, symbols: Symbols, documented: set[str]) -> str:
    role = ' '.join(match[2].split())
    text = f'`{role.rpartition(".")[2] if match[1] else role}`'
    found = symbols.resolve(role, scope)
    if found is None:
        return text
    entry = find_entry(found, documented)
    return f'[{text}][{entry}]' if entry else f'[{text}](../{found.file}.md#__codelineno-0-{found.line})'


def find_entry(symbol: Symbol, documented: set[str]) -> str | None:
    """Return the dotted name under which a symbol, or the class around it, is documented; None if it is not."""
    if symbol.path in documented:
        return symbol.path
    owner = symbol.path.rpartition('.')[0]
    return owner if owner in documented and owner.rpartition('.')[2][0].isupper() else None
