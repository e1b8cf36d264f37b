"""Fixtures of official implementations: loading, and comparing in the way that they prescribe."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mae_toolkit.checkpoints.names import find_format


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
    """The normalized images (B, 3, H, W) of MaskFeat's fixture, rounded as its description says."""
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    x = (fixture['image_uint8'].double() - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
    return (x * 8192).round().div(8192).float()


def rows_last_channel(prediction, patch):
    """Our prediction (B, T, h, w) as most official ones, (B, L, p*p*C): a patch by row, column, channel."""
    return prediction.unflatten(1, (-1, patch, patch)).flatten(4).permute(0, 4, 2, 3, 1).flatten(2)


def official_gradients(fixture, model):
    """Our gradients under the official names and in the official layout."""
    ours = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return find_format(fixture.state_dict).to_theirs(ours)


def assert_loss_and_gradient_in_float64(fixture, model, loss):
    """The loss to 1e-9 and the norm of its gradient to 1e-8."""
    torch.testing.assert_close(loss, fixture['loss_float64'].view(()), rtol=1e-9, atol=0)
    loss.backward()
    total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    torch.testing.assert_close(total, fixture['grad_norm_total_float64'].view(()), rtol=1e-8, atol=0)


def assert_loss_and_gradients_in_float32(fixture, model, loss):
    """The loss to 1e-5, and the gradient of every parameter: norms to 1e-3, elements where the fixture holds them."""
    torch.testing.assert_close(loss, fixture['loss'].view(()), rtol=1e-5, atol=0)
    loss.backward()
    gradients = official_gradients(fixture, model)
    expected = {name: norm for name, norm in fixture.info['grad_norms'].items() if norm is not None}
    assert gradients.keys() == expected.keys()
    for name, norm in expected.items():
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-3), name
    for name, gradient in fixture.under('grad.').items():
        torch.testing.assert_close(
            gradients[name], gradient, rtol=1e-3, atol=1e-5 * expected[name], msg=lambda m, n=name: f'{n}: {m}'
        )
