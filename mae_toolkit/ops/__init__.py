"""MMCV's compiled operators without compiling them: torchvision's stand behind MMCV's own Python.

MMDetection imports ``mmcv.ops``, and that imports ``mmcv._ext``, which only a C++ compiler makes. Where there is no
such file, ``import mae_toolkit`` sees to it that a module of Python takes its place (:mod:`mae_toolkit.ops.ext`): it
has the operators that detectors and segmenters use, on the CPU and on GPUs, and says of each other one that it needs
compiled MMCV, once it is called. A compiled MMCV is used as it is.

The toolkit has to be imported before MMDetection, which otherwise goes on without operators. Our tools do so; a script
of others, such as MMDetection's own tools, is run by ``python -m mae_toolkit.ops SCRIPT ARGUMENTS``.
"""

from mae_toolkit.ops.finder import install_mmcv_ops, is_mmcv_compiled

__all__ = ['install_mmcv_ops', 'is_mmcv_compiled']
