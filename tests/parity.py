"""Fixtures of official implementations: loading, and comparing in the way that they prescribe."""

import json

import torch
from safetensors.torch import load_file


class Fixture:
    """Tensors and description of one official run (inputs, weights, outputs)."""

    def __init__(self, folder, name, dtype=torch.float32):
        self.info = json.loads((folder / f'{name}.json').read_text())
        tensors = load_file(folder / f'{name}.safetensors')
        self.dtype = dtype
        self.tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}

    def __getitem__(self, name):
        return self.tensors[name]

    def under(self, prefix):
        """Tensors whose name begins with a prefix, without it."""
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    @property
    def state_dict(self):
        """The official weights under their official names."""
        return self.under('state_dict.')

    @property
    def mask(self):
        """(B, 1, h, w) bool, True = hidden."""
        return self['mask'].bool().unsqueeze(1)

    def tolerance(self, name):
        """Ten times the rounding that the official model itself shows between float32 and float64."""
        return 10 * self.info['rounding_float32_vs_float64_max_abs'][name]


def maskfeat_input(fixture):
    """The normalised images (B, 3, H, W) of MaskFeat's fixture, rounded as its description says."""
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    x = (fixture['image_uint8'].double() - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
    return (x * 8192).round().div(8192).float()
