"""Describe on what a run was made: device and versions."""

import platform
import subprocess
import sys
from pathlib import Path

import torch

import mae_toolkit

PACKAGES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmdet', 'mmseg')


def describe_device() -> str:
    """Return the name of the device that trains."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if torch.accelerator.is_available():
        return str(torch.accelerator.current_accelerator())
    return f'CPU, {_processor()}'


def find_versions() -> dict[str, str | None]:
    """Find the versions of the loaded packages, of Python and of the toolkit, and its commit, if it has one."""
    found = {name: sys.modules[name].__version__ for name in PACKAGES if hasattr(sys.modules.get(name), '__version__')}
    return {'python': platform.python_version(), **found, 'mae_toolkit': mae_toolkit.__version__, 'commit': _commit()}


def _processor() -> str:
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    """Find the commit of the toolkit's own repository, with -dirty where files differ; None if there is none."""
    root = Path(mae_toolkit.__file__).resolve().parents[1]
    if not (root / '.git').exists():
        return None
    try:
        ask = ['git', '-C', str(root)]
        commit = subprocess.run([*ask, 'rev-parse', 'HEAD'], capture_output=True, text=True, check=True, timeout=30)
        changed = subprocess.run(
            [*ask, 'status', '--porcelain', '-uno'], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip()[:12] + ('-dirty' if changed.stdout.strip() else '')
