"""In which type the operators compute."""

import torch


def common_type(*tensors):
    """The widest type of tensors, float32 at least.

    torchvision's CPU kernels know no bfloat16 and no float16, and coordinates lose whole pixels in both.
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
