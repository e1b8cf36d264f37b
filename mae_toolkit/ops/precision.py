"""The dtype in which the operators compute."""

from __future__ import annotations

import torch
from torch import Tensor


def promote_dtypes(*tensors: Tensor) -> torch.dtype:
    """Return the widest dtype of some tensors, and at least float32.

    torchvision's CPU kernels support neither bfloat16 nor float16, in which coordinates would lose whole pixels anyway.
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
