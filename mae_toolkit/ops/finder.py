"""An import finder that answers ``import mmcv._ext`` if MMCV was not compiled. It imports neither MMCV nor torch."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

EXTENSION = 'mmcv._ext'
# A module of MMDetection that nearly all others import, and the operator that it sets to None if it cannot import it.
MMDET_WITNESS = ('mmdet.structures.mask.structures', 'roi_align')


class MMCVOpsFinder(MetaPathFinder, Loader):
    """Find and fill the module ``mmcv._ext``.

    It is the last of Python's finders, so it is asked only for modules that no other finder has found.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of ``mmcv._ext``; None for any other module, or if MMDetection was imported before."""
        if fullname != EXTENSION:
            return None
        if getattr(sys.modules.get(MMDET_WITNESS[0]), MMDET_WITNESS[1], ...) is None:
            warnings.warn(
                'MMDetection was imported before mae_toolkit and has given up its operators: import mae_toolkit first, '
                'or run the script by "python -m mae_toolkit.ops SCRIPT".',
                stacklevel=2,
            )
            return None
        return ModuleSpec(fullname, self, origin='mae_toolkit.ops')

    def exec_module(self, module: ModuleType) -> None:
        """Put the operators into the new module."""
        importlib.import_module('mae_toolkit.ops.ext').add_operators(module)


FINDER = MMCVOpsFinder()


def install_mmcv_ops() -> None:
    """Answer ``import mmcv._ext`` from now on, unless MMCV was compiled; a second call changes nothing."""
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)


def is_mmcv_compiled() -> bool:
    """Return whether the installed MMCV has compiled operators of its own. This imports MMCV."""
    return PathFinder.find_spec(EXTENSION, importlib.import_module('mmcv').__path__) is not None
