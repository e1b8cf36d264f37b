"""Batch norms within convolutions: the same maps for less, and what is left as it is."""

import copy

import pytest
import torch
from torch import fx, nn

from mae_toolkit.models import SparseCNN
from mae_toolkit.models.layers.fold_norms import fold_batch_norms
from mae_toolkit.models.layers.sparse_graph import trace_sparse_graph
from parts import images, make_encoder, randomized


def with_statistics(network):
    """The same network in float64, whose batch norms multiply and shift by something."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) / 4)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return network.double()


def count_norms(network):
    modules = dict(network.named_modules())
    return sum(isinstance(modules.get(node.target), nn.BatchNorm2d) for node in network.graph.nodes)


@pytest.mark.parametrize(
    ('arch', 'left'),
    [
        *(('resnet18', 0), ('tf_efficientnet_lite0', 0), ('regnety_002', 0), ('mobilenetv3_small_050', 0)),
        ('repvgg_a0', 1),  # of an identity, beside convolutions
        ('densenet121', 6),  # which come before the convolutions of their layers
    ],
)
def test_the_maps_of_whole_images_are_the_same(arch, left):
    encoder = with_statistics(randomized(SparseCNN(arch, out_indices=(0, 1)))).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    folded = encoder.for_inference()
    assert count_norms(encoder.body) > count_norms(folded.body) == left
    assert not folded.training and not any(weight.requires_grad for weight in folded.parameters())
    imgs = images(size=(60, 70)).double()
    with torch.no_grad():
        torch.testing.assert_close(folded(imgs), copy.deepcopy(encoder).eval()(imgs), rtol=1e-9, atol=1e-9)
    assert encoder.training and all(weight.requires_grad for weight in encoder.parameters())
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


class Halved(nn.Conv2d):
    """A convolution that does something with its weights."""

    def forward(self, x):
        return self._conv_forward(x, self.weight / 2, self.bias)


class Network(nn.Module):
    """A convolution that is used twice, one whose output is also read without its norm, one of a class of its own."""

    def __init__(self):
        super().__init__()
        self.twice, self.read, self.halved = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3), Halved(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))
        self.plain = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.end = nn.Identity()

    def forward(self, x):
        x = self.norms[0](self.twice(x)) + self.norms[1](self.twice(x))
        x = self.norms[2](read := self.read(x)) + read
        return self.end(self.norms[4](self.plain(self.norms[3](self.halved(x)))))


def test_only_what_is_surely_the_same_is_folded():
    network = with_statistics(randomized(Network())).eval()
    graph = fx.GraphModule(copy.deepcopy(network), trace_sparse_graph('network', network, ['end']))
    assert fold_batch_norms(graph) == 1
    assert count_norms(graph) == 4
    imgs = images(size=(12, 10)).double()
    with torch.no_grad():
        torch.testing.assert_close(graph(imgs)[0], network(imgs))


def test_other_encoders_are_their_own():
    encoder = make_encoder('ViT')
    assert encoder.for_inference() is encoder
