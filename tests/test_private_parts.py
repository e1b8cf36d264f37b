"""What leans on MMEngine's private parts stands in two files, so that an upgrade of MMEngine has two files to check."""

import ast
import tempfile
import threading
from pathlib import Path

from filelock import FileLock

from mae_toolkit.engine import _mmengine

PACKAGE = Path(__file__).parents[1] / 'mae_toolkit'
GATHERED = [PACKAGE / 'engine' / name for name in ('_mmengine.py', '_mmengine_files.py')]
ROOMS = ('engine', 'config', 'apis', 'downstream')
# Private names of other libraries: torch's, Python's, and the annotations of MMDetection's metric.
OF_OTHERS = {'_buffers', '_foreach_norm', '_coco_api', '_exit', '_current_frames', '_world'}
# Private names of MMEngine's runner, loops and hooks, which their subclasses inherit.
INHERITED = {'_resume', '_load_from', '_has_loaded', '_hooks', '_randomness_cfg', '_log_dir', '_epoch', '_iter'}


def find_private(source):
    """Private attributes in a source that are not of its own objects, and those that it inherits from MMEngine."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith('_') and not node.attr.startswith('__'):
            owner = node.value.id if isinstance(node.value, ast.Name) else ''
            own = owner in ('self', 'cls', '_mmengine') and node.attr not in INHERITED
            if not own and node.attr not in OF_OTHERS:
                yield node.attr


def test_only_two_files_lean_on_private_parts():
    files = [path for room in ROOMS for path in (PACKAGE / room).rglob('*.py')] + [PACKAGE / 'cli.py']
    found = {str(path): list(find_private(path.read_text())) for path in files if path not in GATHERED}
    assert not {path: names for path, names in found.items() if names}
    assert '_load_from' in find_private(GATHERED[0].read_text())
    assert '_schemes' in find_private(GATHERED[1].read_text())


def test_private_parts_are_found():
    assert list(find_private('runner._load_from = 1')) == ['_load_from']
    assert list(find_private('class A(Runner):\n    def f(self):\n        return self._hooks, self._own')) == ['_hooks']


def test_yapf_is_imported_in_one_process_at_a_time(tmp_path, monkeypatch):
    """Its grammar is written into a cache at its first import, and half of it cannot be read."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    _mmengine.import_yapf()
    (path,) = tmp_path.iterdir()
    thread = threading.Thread(target=_mmengine.import_yapf)
    with FileLock(path):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join()
