"""The plan of the package: which room may import which, and what an import may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from warm import run_python

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mae_toolkit'
# A room may import the rooms above it, never one below. Single files at the top of the package are the ground.
ROOMS = (
    'ground',
    'ops',
    'config',
    'checkpoints',
    'datasets',
    'models',
    'evaluation',
    'visualization',
    'codebook',
    'engine',
    'export',
    'downstream',
    'planning',
    'apis',
    'report',
    'demo',
    'cli',
    'commands',
    'benchmarks',
    'transfer',
)
FILES_THAT_ARE_ROOMS = ('cli',)
LIBRARY = ROOMS[: ROOMS.index('benchmarks')]


def find_modules(package=PACKAGE):
    """Modules by dotted name."""
    found = {}
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package.parent).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def room_of(module):
    """The room of a dotted name of the package."""
    parts = module.split('.')
    if len(parts) == 1:
        return 'ground'
    if parts[1] == '__main__':
        return 'commands'
    return parts[1] if (PACKAGE / parts[1]).is_dir() or parts[1] in FILES_THAT_ARE_ROOMS else 'ground'


def find_imports(source, modules, name=''):
    """Dotted names of the package's own modules that a source imports anywhere, within functions, too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f'{node.module}.{alias.name}' for alias in node.names}
            found |= (whole & modules.keys()) or {node.module}
    return {module for module in found & modules.keys() if module != name}


def find_wrong_arrows(sources, modules):
    """Pairs of modules of which the first imports the second against the plan."""
    order = {room: i for i, room in enumerate(ROOMS)}
    for name, source in sources.items():
        for other in sorted(find_imports(source, modules, name)):
            if name != 'mae_toolkit' and order[room_of(name)] < order[room_of(other)]:
                yield name, other


def output(done):
    """Standard output of a process that has ended well."""
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_folder_is_a_room_of_the_plan():
    folders = {path.name for path in PACKAGE.iterdir() if (path / '__init__.py').is_file()}
    assert folders | {'ground', *FILES_THAT_ARE_ROOMS} == set(ROOMS)


def test_no_import_is_against_the_plan():
    modules = find_modules()
    assert not list(find_wrong_arrows({name: path.read_text() for name, path in modules.items()}, modules))


def test_an_import_against_the_plan_is_found():
    modules = find_modules()
    sources = {
        'mae_toolkit.models.mask_ops': 'def f():\n    from mae_toolkit.engine import Runner\n',
        'mae_toolkit.errors': 'import mae_toolkit.models.rules\n',
        'mae_toolkit.engine.runner': 'from mae_toolkit import transfer\n',
        'mae_toolkit.transfer.plan': 'from mae_toolkit.models import rules\n',  # with the plan
    }
    wrong = dict(find_wrong_arrows(sources, modules))
    assert wrong == {
        'mae_toolkit.models.mask_ops': 'mae_toolkit.engine',
        'mae_toolkit.errors': 'mae_toolkit.models.rules',
        'mae_toolkit.engine.runner': 'mae_toolkit.transfer',
    }


@pytest.mark.process
def test_each_room_can_be_imported_first():
    code = f"""
import os, sys
import matplotlib.pyplot, mmengine.runner, timm, torch  # loaded once, as they take the time
for room in {[room for room in ROOMS if room != 'ground']}:
    child = os.fork()
    if not child:
        __import__(f'mae_toolkit.{{room}}')
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(room)
"""
    assert output(run_python('-c', code)) == ''


@pytest.mark.process
def test_the_masks_need_neither_the_engine_nor_pictures():
    code = 'import sys, mae_toolkit.models.mask_ops; print(*sorted(sys.modules))'
    command = [sys.executable, '-c', code]  # a process that has imported nothing yet
    loaded = output(subprocess.run(command, capture_output=True, text=True, cwd=ROOT)).split()
    own = [name for name in loaded if name.startswith('mae_toolkit')]
    assert 'mae_toolkit.models.mask_ops' in own
    assert not {'cv2', 'matplotlib', 'mae_toolkit.engine', 'mae_toolkit.datasets'} & set(loaded)


@pytest.mark.process
def test_importing_everything_leaves_the_limit_of_pictures_as_it_was():
    code = """
from PIL import Image
before = Image.MAX_IMAGE_PIXELS
import importlib, pkgutil, mae_toolkit
for module in pkgutil.walk_packages(mae_toolkit.__path__, 'mae_toolkit.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)
print(Image.MAX_IMAGE_PIXELS == before)
"""
    assert output(run_python('-c', code)) == 'True'


def find_imported_before(source, package):
    """Packages that a script imports at its top before another one, but for those of Python itself."""
    found = []
    for node in ast.parse(source).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in (name.partition('.')[0] for name in names):
            if name == package:
                return found
            if name not in sys.stdlib_module_names:
                found.append(name)
    return found


def test_tools_import_the_toolkit_first():
    """It says how the threads of OpenMP wait, which is read when torch is loaded: by spinning, they slow each other."""
    for tool in sorted((ROOT / 'tools').glob('*.py')):
        assert find_imported_before(tool.read_text(), PACKAGE.name) == [], f'{tool.name}: ruff check --fix tools'
    assert find_imported_before('import sys, torch\nfrom mae_toolkit import apis', PACKAGE.name) == ['torch']
