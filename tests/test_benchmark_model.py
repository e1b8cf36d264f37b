"""The benchmark of models counts what it says; how fast they are depends on the machine."""

import pytest
import torch
from torch import nn

from mae_toolkit.benchmarks.flops import count_flops


@pytest.mark.parametrize('groups', [1, 2, 8])
@pytest.mark.parametrize('transposed', [False, True])
def test_flops_of_a_convolution_and_its_gradients(groups, transposed):
    """Multiplications and additions: the channels that a kernel sees, its 9 places, and where it stands."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = kind(8, 16, 3, stride=2, groups=groups, bias=False)
    x = torch.randn(2, 8, 9, 13, requires_grad=True)
    places = 9 * 13 if transposed else 4 * 6
    once = 2 * 2 * 16 * (8 // groups) * 9 * places

    def step():
        conv(x).sum().backward()

    assert count_flops(lambda: conv(x)) == once
    assert count_flops(step) == 3 * once
    x.requires_grad_(False)
    assert count_flops(step) == 2 * once
