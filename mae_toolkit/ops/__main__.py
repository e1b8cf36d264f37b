"""Run any script with MMCV's operators in place: python -m mae_toolkit.ops SCRIPT ARGUMENTS."""

import runpy
import sys
from pathlib import Path

from mae_toolkit.ops import install_mmcv_ops

if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit('error: name a script: python -m mae_toolkit.ops SCRIPT ARGUMENTS')
    install_mmcv_ops()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)  # as Python has it for a script
    runpy.run_path(sys.argv[0], run_name='__main__')
