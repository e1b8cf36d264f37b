"""What the package defines, read from its source without importing it, and what a role in a docstring refers to."""

import ast
import importlib.util
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'mae_toolkit'


@dataclass
class Symbol:
    """A module, class, function or value.

    Args:
        path: Dotted name, with the module that defines it.
        file: Path of the source, relative to the repository.
        line: Line of the definition, from 1.
        doc: Docstring, '' if there is none.
        is_class: Whether it is a class.
        members: Names within a module or class: their definitions.
        imports: Names that a module imports, and their dotted names.
        bases: Names of the base classes as they are written.
        exports: ``__all__`` of a module.
    """

    path: str
    file: str
    line: int = 1
    doc: str = ''
    is_class: bool = False
    members: dict[str, 'Symbol'] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    bases: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Return the last part of the dotted name."""
        return self.path.rpartition('.')[2]


class Symbols:
    """All that the package defines.

    Args:
        root: Folder that holds the package.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.modules: dict[str, Symbol] = {}
        self.by_name: dict[str, list[Symbol]] = defaultdict(list)
        for path in sorted((root / PACKAGE).rglob('*.py')):
            parts = path.relative_to(root).with_suffix('').parts
            name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
            module = Symbol(name, str(path.relative_to(root)))
            _read_body(ast.parse(path.read_text()), module, module)
            self.modules[name] = module
            for symbol in module.members.values():
                self.by_name[symbol.name].append(symbol)

    def find(self, path: str) -> Symbol | None:
        """Find a symbol by a dotted name, through imports and base classes; None if there is none."""
        head, _, name = path.rpartition('.')
        if path in self.modules or not head:
            return self.modules.get(path)
        owner = self.find(head)
        return owner and self.find_member(owner, name)

    def find_member(self, owner: Symbol, name: str) -> Symbol | None:
        """Find a name in a module or class, also one that is imported or inherited."""
        if name in owner.members:
            return owner.members[name]
        if name in owner.imports:
            return self.find(owner.imports[name])
        submodule = self.modules.get(f'{owner.path}.{name}')
        bases = filter(None, (self.find_in_scope(base, self.module_of(owner)) for base in owner.bases))
        return submodule or next(filter(None, (self.find_member(base, name) for base in bases)), None)

    def find_in_scope(self, name: str, scope: Symbol) -> Symbol | None:
        """Find what a name means within a module or class."""
        first, *rest = name.split('.')
        module = self.module_of(scope)
        found = self.find_member(scope, first) or self.find_member(module, first)
        package = self.modules.get(module.path.rpartition('.')[0])
        found = found or (package and self.find_member(package, first))
        if not found and len(self.by_name[first]) == 1:
            found = self.by_name[first][0]
        for part in rest:
            found = found and self.find_member(found, part)
        return found

    def module_of(self, symbol: Symbol) -> Symbol:
        """Return the module that defines a symbol."""
        path = symbol.path
        while path not in self.modules:
            path = path.rpartition('.')[0]
        return self.modules[path]

    def resolve(self, role: str, scope: str) -> Symbol | None:
        """Find what a role such as ``:class:`Encoder``` means in the docstring of ``scope``.

        Raises:
            LookupError: If the package does not define it, and it is no name of another package.
        """
        if role == PACKAGE or role.startswith(f'{PACKAGE}.'):
            found = self.find(role)
        elif role.startswith('.'):  # whatever ends like this, as Sphinx reads it; the nearest, if there are several
            ends = [symbol for symbol in self.by_name[role.rpartition('.')[2]] if symbol.path.endswith(role)]
            found = max(ends, key=lambda symbol: _count_shared(symbol.path, scope), default=None)
        else:
            symbol = self.find(scope)
            owner = symbol and (symbol if symbol.is_class or symbol.path in self.modules else self.owner_of(symbol))
            found = owner and self.find_in_scope(role, owner)
        if not found and not _is_elsewhere(role):
            raise LookupError(f'{scope}: nothing is called {role}')
        return found

    def owner_of(self, symbol: Symbol) -> Symbol | None:
        """Return the class or module around a symbol."""
        return self.find(symbol.path.rpartition('.')[0])


def _count_shared(path: str, other: str) -> int:
    """Count the leading parts that two dotted names share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path.split('.'), other.split('.'))))


def _is_elsewhere(role: str) -> bool:
    """Return whether a dotted name begins with another installed package, or is a module."""
    first, _, rest = role.partition('.')
    return first != PACKAGE and bool(rest or first.islower()) and importlib.util.find_spec(first) is not None


def _read_body(tree: ast.Module | ast.ClassDef, owner: Symbol, module: Symbol) -> None:
    owner.doc = ast.get_docstring(tree) or ''
    for node in tree.body:
        for inner in _unfold(node):
            _read_statement(inner, owner, module)


def _unfold(node: ast.stmt) -> list[ast.stmt]:
    """Return a statement, or those within a condition, as imports for type checkers are."""
    return [*node.body, *node.orelse] if isinstance(node, ast.If) else [node]


def _read_statement(node: ast.stmt, owner: Symbol, module: Symbol) -> None:
    if isinstance(node, ast.ImportFrom):
        owner.imports |= {alias.asname or alias.name: f'{node.module}.{alias.name}' for alias in node.names}
    elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        found = _add(node.name, node, owner, module)
        if isinstance(node, ast.ClassDef):
            found.is_class = True
            found.bases = [ast.unparse(base) for base in node.bases]
            _read_body(node, found, module)
            for name, line in _own_attributes(node):
                found.members.setdefault(name, Symbol(f'{found.path}.{name}', module.file, line))
        else:
            found.doc = ast.get_docstring(node) or ''
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            for item in ast.walk(target):
                if isinstance(item, ast.Name):
                    _add(item.id, node, owner, module)
                    if item.id == '__all__' and node.value is not None:
                        owner.exports = [
                            str(one.value) for one in ast.walk(node.value) if isinstance(one, ast.Constant)
                        ]


def _add(name: str, node: ast.stmt, owner: Symbol, module: Symbol) -> Symbol:
    return owner.members.setdefault(name, Symbol(f'{owner.path}.{name}', module.file, node.lineno))


def _own_attributes(node: ast.ClassDef) -> list[tuple[str, int]]:
    """Return the attributes that the methods of a class set on ``self``, with their lines."""
    return [
        (item.attr, item.lineno)
        for item in ast.walk(node)
        if isinstance(item, ast.Attribute)
        and isinstance(item.ctx, ast.Store)
        and isinstance(item.value, ast.Name)
        and item.value.id == 'self'
    ]
