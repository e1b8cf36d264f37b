"""MMCV's compiled operators without a compiler: torchvision's operators behind MMCV's own Python.

MMDetection imports ``mmcv.ops``, which imports ``mmcv._ext``, a file that only a C++ compiler makes. If it is missing,
``import mae_toolkit`` arranges that a Python module takes its place, :mod:`mae_toolkit.ops.ext`. It has the operators
that common detectors and segmenters use, on CPUs and GPUs; any other operator raises an error that says that compiled
MMCV is needed, when it is called. A compiled MMCV is used as it is.

The toolkit has to be imported before MMDetection, which otherwise does without operators. The toolkit's tools do so;
any other script, such as MMDetection's own tools, can be run by ``python -m mae_toolkit.ops SCRIPT ARGUMENTS``.
"""

from mae_toolkit.ops.finder import install_mmcv_ops, is_mmcv_compiled

__all__ = ['install_mmcv_ops', 'is_mmcv_compiled']
