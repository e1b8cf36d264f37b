"""HPM, hard patches mining (arXiv:2304.05919)."""

from projects.hpm.hard_patch_masking import HardPatchMasking
from projects.hpm.hpm import HPM

__all__ = ['HPM', 'HardPatchMasking']
