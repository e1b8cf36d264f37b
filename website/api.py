"""Pages of the public API: one for each package that says in ``__all__`` what is public, and some modules."""

from dataclasses import dataclass, field

from website.docstrings import find_entry, find_roles
from website.symbols import PACKAGE, Symbol, Symbols

FOLDER = 'api'
FIRST = ('apis',)  # what scripts and notebooks import: its page has what other packages export, too
# Modules that other code may use although their packages export nothing.
MODULES = {
    'checkpoints': ('load', 'encoder', 'files', 'source', 'translate', 'convert', 'protocols'),
    'errors': ('',),
    'registry': ('',),
    'protocols': ('',),
}
LEFT_OUT = ('ops', 'datasets.checks', 'datasets.checks.coco', 'engine.dry_run', 'checkpoints.names')


@dataclass
class ApiPage:
    """A page of the API.

    Args:
        name: Dotted name of the package or module below ``mae_toolkit``.
        doc: Its docstring.
        entries: What is documented here.
        elsewhere: What it exports, too, and another page documents.
    """

    name: str
    doc: str
    entries: list[Symbol] = field(default_factory=list)
    elsewhere: list[Symbol] = field(default_factory=list)

    @property
    def uri(self) -> str:
        """Return the path of the page among the sources of the site."""
        return f'{FOLDER}/{self.name}.md'

    def write(self) -> str:
        """Write the page in Markdown, for mkdocstrings to fill."""
        lines = [
            f'# `{PACKAGE}.{self.name}` {{#{PACKAGE}.{self.name}}}',
            f'::: {PACKAGE}.{self.name}\n    options:\n      members: []',
        ]
        lines[1] += '\n      show_root_heading: false\n      show_root_toc_entry: false'
        lines += [f'::: {entry.path}' for entry in self.entries]
        if self.elsewhere:
            links = ', '.join(f'[`{entry.name}`][{entry.path}]' for entry in self.elsewhere)
            lines.append(f'Exported here, too: {links}.')
        return '\n\n'.join(lines) + '\n'


def plan_pages(symbols: Symbols) -> list[ApiPage]:
    """Plan the pages: packages in alphabetical order, and what each documents."""
    packages = [name.removeprefix(f'{PACKAGE}.') for name, module in symbols.modules.items() if module.exports]
    packages = [name for name in packages if name not in LEFT_OUT and _is_package(name, symbols)]
    pages = {name: ApiPage(name, symbols.modules[f'{PACKAGE}.{name}'].doc) for name in sorted({*packages, *MODULES})}
    taken: set[str] = set()
    deepest_first = sorted(pages, key=lambda name: (name not in FIRST, -name.count('.'), name))
    for name in deepest_first:
        for symbol in _list_public(name, symbols):
            (pages[name].elsewhere if symbol.path in taken else pages[name].entries).append(symbol)
            taken.add(symbol.path)
    return [pages[name] for name in sorted(pages, key=lambda name: (name not in FIRST, name))]


def _is_package(name: str, symbols: Symbols) -> bool:
    return symbols.modules[f'{PACKAGE}.{name}'].file.endswith('__init__.py')


def _list_public(name: str, symbols: Symbols) -> list[Symbol]:
    """List what a package exports, or what its public modules define, in alphabetical order of the module."""
    package = symbols.modules[f'{PACKAGE}.{name}']
    if name not in MODULES:
        found = [symbols.find_member(package, export) for export in package.exports]
        return [symbol for symbol in found if symbol and symbol.path not in symbols.modules]
    modules = [symbols.modules['.'.join(filter(None, (package.path, module)))] for module in MODULES[name]]
    return [
        symbol
        for module in modules
        for symbol in module.members.values()
        if symbol.doc and not symbol.name.startswith('_')
    ]


def list_documented(pages: list[ApiPage]) -> set[str]:
    """List the dotted names that have an entry on the pages: their packages, classes, functions and public members."""
    entries = [entry for page in pages for entry in page.entries]
    members = [member for entry in entries for member in entry.members.values()]
    shown = [member.path for member in members if member.doc and not member.name.startswith('_')]
    return {*(f'{PACKAGE}.{page.name}' for page in pages), *(entry.path for entry in entries), *shown}


def list_sources(pages: list[ApiPage], symbols: Symbols, documented: set[str]) -> set[str]:
    """List the source files to which roles on the pages lead, because what they name has no entry."""
    scopes = [symbols.modules[f'{PACKAGE}.{page.name}'] for page in pages]
    scopes += [entry for page in pages for entry in page.entries]
    scopes += [member for scope in scopes if scope.is_class for member in scope.members.values()]
    found = [symbols.resolve(role, scope.path) for scope in scopes for role in find_roles(scope.doc)]
    return {symbol.file for symbol in found if symbol and not find_entry(symbol, documented)}


def write_index(pages: list[ApiPage]) -> str:
    """Write the page that lists all pages of the API."""
    lines = [
        '# API',
        'Written from the docstrings of the package; what a package exports has its entry here by itself.',
    ]
    lines += ['| | |\n|---|---|']
    lines[-1] += ''.join(f'\n| [{page.name}]({page.name}.md) | {_first_sentence(page.doc)} |' for page in pages)
    return '\n\n'.join(lines) + '\n'


def _first_sentence(doc: str) -> str:
    paragraph = ' '.join(doc.partition('\n\n')[0].split())
    return paragraph.partition('. ')[0].rstrip('.:') + '.'
