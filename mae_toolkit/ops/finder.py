"""Where ``import mmcv._ext`` is answered if MMCV was not compiled. It imports neither MMCV nor torch."""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder

EXTENSION = 'mmcv._ext'
# A module of MMDetection that nearly all others import, and the operator that it sets to None where there is none.
WITNESS = ('mmdet.structures.mask.structures', 'roi_align')


class MMCVOpsFinder(MetaPathFinder, Loader):
    """Finds and fills the module. As the last of Python's finders it is asked only for what no other has found."""

    def find_spec(self, fullname, path=None, target=None):
        """The module's spec, or None for any other module."""
        if fullname != EXTENSION:
            return None
        if getattr(sys.modules.get(WITNESS[0]), WITNESS[1], ...) is None:
            warnings.warn(
                'MMDetection was imported before mae_toolkit and has given up its operators: import mae_toolkit first, '
                'or run the script by "python -m mae_toolkit.ops SCRIPT".',
                stacklevel=2,
            )
            return None
        return ModuleSpec(fullname, self, origin='mae_toolkit.ops')

    def exec_module(self, module):
        """Put the operators into the new module."""
        importlib.import_module('mae_toolkit.ops.ext').fill(module)


FINDER = MMCVOpsFinder()


def install_mmcv_ops():
    """Answer ``import mmcv._ext`` from now on, unless MMCV was compiled; a second call changes nothing."""
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)


def is_mmcv_compiled():
    """Whether the installed MMCV has operators of its own. It imports MMCV."""
    return PathFinder.find_spec(EXTENSION, importlib.import_module('mmcv').__path__) is not None
