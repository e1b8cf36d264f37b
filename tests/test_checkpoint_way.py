"""How far a checkpoint travels from its file to a detector's backbone: the modules, the rooms, the climbs.

The way is what :meth:`Encoder.init_weights` runs, which MMDetection calls: the functions and classes that it names, the
functions that these name, and so on, as the syntax tree tells. A *stay* is a module of the package on the way; the
tables of names are one, words for users and types none. A *room* is the first folder of a stay; single files are the
ground. A *climb* is a step to a module that stands below in the plan of the package.
"""

import ast
from functools import cached_property
from pathlib import Path

from test_architecture import PACKAGE, ROOMS, find_modules, room_of

TABLES = ('mae_toolkit.checkpoints.names',)
NO_STAYS = (
    *(f'mae_toolkit.{name}' for name in ('errors', 'printing', 'protocols', 'registry')),  # which suggests near words
    *(f'mae_toolkit.checkpoints.{name}' for name in ('protocols', 'report', 'misfit')),
)
START = ('mae_toolkit.models.encoders.encoder', 'Encoder.init_weights')


class Module:
    """The functions, classes and imports of a module, from its syntax tree."""

    def __init__(self, name, path):
        self.name, self.tree = name, ast.parse(Path(path).read_text())
        self.is_package = Path(path).name == '__init__.py'

    @cached_property
    def imports(self):
        """Local names, in the module or in its functions, of what it imports: (module, name or None)."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
        return found

    @cached_property
    def functions(self):
        """Functions by name, methods as ``Class.method``, and classes, which stand for their constructors."""
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = [node]
            elif isinstance(node, ast.ClassDef):
                methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
                found |= {f'{node.name}.{child.name}': [child] for child in methods}
                found[node.name] = [child for child in methods if child.name in ('__init__', '__post_init__')]
        return found


class Package:
    """Where names of a package lead."""

    def __init__(self, root=PACKAGE):
        self.modules = {name: Module(name, path) for name, path in find_modules(root).items()}

    def find(self, module, name):
        """The module and the function that a name in a module stands for, through what packages hand on; or None."""
        for _ in range(10):
            known = self.modules.get(module)
            if known is None:
                return None
            if name in known.functions:
                return module, name
            if name not in known.imports:
                return None
            module, name = known.imports[name]
            if name is not None and f'{module}.{name}' in self.modules:
                return f'{module}.{name}', None
        return None

    def find_methods(self, module, name):
        """The methods of a name in the classes that a module defines or imports."""
        known = self.modules[module]
        classes = [self.find(module, local) for local in (*known.functions, *known.imports) if '.' not in local]
        for place in classes:
            if place and place[1] and f'{place[1]}.{name}' in self.modules[place[0]].functions:
                yield place[0], f'{place[1]}.{name}'

    def steps(self, module, function):
        """What a function names: functions, classes, and methods of classes that its module knows."""
        for definition in self.modules[module].functions[function]:
            bodies = (*definition.body, *definition.decorator_list)  # not the types in its signature, nor
            nodes = [node for body in bodies for node in ast.walk(body)]
            types = [node.annotation for node in nodes if isinstance(node, ast.AnnAssign)]  # those of variables
            ignored = {id(node) for kind in types for node in ast.walk(kind)}
            for node in (node for node in nodes if id(node) not in ignored):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    place = self.find(module, node.id)
                    if place and place[1]:
                        yield place
                elif isinstance(node, ast.Attribute):
                    owner = self.find(module, node.value.id) if isinstance(node.value, ast.Name) else None
                    if owner and owner[1] is None:  # a function of a module
                        place = self.find(owner[0], node.attr)
                        if place and place[1]:
                            yield place
                    elif not isinstance(node.value, ast.Name) or node.value.id != 'self':
                        yield from self.find_methods(module, node.attr)

    def walk(self, start=START):
        """The modules of a way in the order in which it comes to them, and its steps from one to another."""
        stays, pairs, todo, seen = {}, {}, [start], set()
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            stays[place[0]] = None
            following = [step for step in self.steps(*place) if step != place]
            pairs |= {(place[0], step[0]): None for step in following if step[0] != place[0]}
            todo += reversed(following)
        return list(stays), list(pairs)


def count(package, room_of=room_of, rooms=ROOMS, tables=TABLES):
    """Stays, rooms and climbs of the way of a checkpoint."""
    modules, pairs = package.walk()
    climbs = [(a, b) for a, b in pairs if rooms.index(room_of(a)) < rooms.index(room_of(b))]
    places = [next((table for table in tables if name.startswith(table)), name) for name in modules]
    stays = [name for name in dict.fromkeys(places) if name not in NO_STAYS]
    return stays, list(dict.fromkeys(map(room_of, stays))), climbs


def test_the_way_of_a_checkpoint_is_short_and_never_climbs():
    """It was 12 stays in 4 rooms (models, engine, ground, official), with 4 climbs.

    There are 7 more since the same way also finds a run's folder, the cache of Hugging Face, one of several sets of
    weights and a prefix, adapts channels, and follows every key of the file; and 3 for checkpoints that are folders of
    shards, and their links.
    """
    stays, rooms, climbs = count(Package())
    print(f'\n{len(stays)} stays: {", ".join(stays)}\n{len(rooms)} rooms: {", ".join(rooms)}\n{len(climbs)} climbs')
    assert {'mae_toolkit.checkpoints.encoder', 'mae_toolkit.checkpoints.load'} <= set(stays)
    assert not climbs and rooms == ['models', 'checkpoints']
    assert len(stays) <= 22


def test_a_way_that_climbs_is_seen(tmp_path):
    files = {
        'models/encoders/encoder': """
from mae_toolkit.checkpoints import read
class Encoder:
    def init_weights(self):
        read(self)
    def other(self):
        from mae_toolkit.transfer.plan import never_called
        never_called()
""",
        'checkpoints/__init__': 'from mae_toolkit.checkpoints.files import read',
        'checkpoints/files': """
from mae_toolkit import errors
from mae_toolkit.checkpoints.table import Table
def read(encoder):
    from mae_toolkit.engine.runner import resume as go
    errors.refuse()
    Table().find(go)
""",
        'checkpoints/table': """
from mae_toolkit.checkpoints.deep import dig
class Table:
    def find(self, go):
        dig()
""",
        'checkpoints/deep': 'def dig(): pass',
        'engine/runner': 'def resume(): pass',
        'errors': 'def refuse(): pass',
        'transfer/plan': 'def never_called(): pass',
    }
    for name, text in files.items():
        path = tmp_path / 'mae_toolkit' / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    stays, rooms, climbs = count(Package(tmp_path / 'mae_toolkit'))
    names = ['models.encoders.encoder', 'checkpoints.files', 'engine.runner', 'checkpoints.table']
    assert set(stays) == {f'mae_toolkit.{name}' for name in (*names, 'checkpoints.deep')}
    assert set(rooms) == {'models', 'checkpoints', 'engine'}
    assert climbs == [('mae_toolkit.checkpoints.files', 'mae_toolkit.engine.runner')]
