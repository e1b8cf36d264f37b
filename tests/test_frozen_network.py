"""FrozenEncoder networks: that they are frozen, what they see, and whose weights they have."""

import copy
import logging
import pickle

import pytest
import timm
import torch
import torchvision
from mmengine.logging import MMLogger
from torch.nn.functional import interpolate

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.engine.optim import GroupedOptimWrapperConstructor
from mae_toolkit.errors import UserError
from mae_toolkit.export.timm import build_timm_model, to_timm
from mae_toolkit.models.teacher import Teacher
from mae_toolkit.models.timm_network import TimmNetwork
from parity import Fixture
from parts import CONVNEXT, VIT, images, make_encoder, make_model, randomized
from test_parity_mae import model_of

NETWORK = {'type': 'ViT', **VIT}
RESNET = {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (1,)}
FEATURES = {'target': {'type': 'FeatureTarget', 'network': NETWORK}, 'losses': [{'type': 'MaskedL2Loss'}]}
PIXELS = {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}
ATTENTION = {'type': 'AttentionMasking', 'network': NETWORK}


@pytest.fixture
def log(caplog):
    """What is logged."""
    logger = MMLogger.get_current_instance()  # that of the last run, if one was made before
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


def saved(path, state):
    torch.save(state, path)
    return str(path)


def with_networks():
    """A model that holds two frozen networks beside its encoder."""
    return make_model(masking=ATTENTION, objectives={'pixel': PIXELS, 'clip': FEATURES})


@pytest.mark.parametrize('network', [NETWORK, RESNET, {'type': 'timm', 'arch': 'resnet18', 'out_indices': (1,)}])
def test_a_gradient_goes_through_and_nothing_of_the_network_changes(network):
    frozen = Teacher(network)
    before = copy.deepcopy(frozen.state_dict())
    x = images().requires_grad_()
    frozen.train()
    assert not any(module.training for module in frozen.modules())
    frozen(x)[-1].square().sum().backward()
    assert x.grad.any()
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())


@pytest.mark.parametrize('options', [{'type': 'SGD'}, {'type': 'AdamW', 'weight_decay': 0.05}])
def test_frozen_networks_are_in_no_optimizer(options):
    model = with_networks()
    wrapper = GroupedOptimWrapperConstructor({'type': 'OptimWrapper', 'optimizer': {'lr': 0.1} | options})(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    held = {names[p] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert held == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any('.network.' in name for name in held)


def test_networks_live_through_copies_pickles_and_initialization_and_are_in_checkpoints():
    model = with_networks()
    name = 'objectives.clip.target.network.encoder.body.blocks.0.attn.qkv.weight'
    weight = model.state_dict()[name].clone()
    model.init_weights()
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.state_dict()[name], weight)
        network = other.train().objectives['clip'].target.network
        assert not network.encoder.training and not any(p.requires_grad for p in network.parameters())
    other = with_networks()
    assert not torch.equal(other.state_dict()[name], weight)
    other.load_state_dict(model.state_dict())
    x = images()
    assert torch.equal(other.objectives['clip'].target(x), model.objectives['clip'].target(x))


def test_images_are_normalized_as_the_network_expects():
    network = Teacher(
        NETWORK, mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0), network_mean=(1, 2, 3), network_std=(4, 5, 6)
    )
    raw = torch.rand(2, 3, 32, 48, dtype=torch.float64) * 255
    ours = (raw - torch.tensor([100.0, 110, 120]).view(3, 1, 1)) / torch.tensor([50.0, 60, 70]).view(3, 1, 1)
    theirs = (raw - torch.tensor([1.0, 2, 3]).view(3, 1, 1)) / torch.tensor([4.0, 5, 6]).view(3, 1, 1)
    torch.testing.assert_close(network.prepare(ours), theirs, rtol=1e-5, atol=1e-4)
    assert torch.equal(Teacher(NETWORK).prepare(ours), ours)


def test_images_are_resized_for_the_grid_that_is_wanted():
    network = Teacher({**NETWORK, 'patch_size': 14})
    x = images(size=(32, 48))
    seen = interpolate(x, size=(28, 42), mode='bicubic', antialias=True)
    (maps,) = network(x, grid=(2, 3))
    assert torch.equal(maps, network.encoder(seen)[0])
    assert maps.shape == (2, 24, 2, 3)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'in_chans': 1}, 'The images have 1 channels, and the network .* takes 3'),
        ({'network': {**NETWORK, 'in_chans': 4}}, 'The images have 3 channels, and the network .* takes 4'),
        ({'mean': (1, 2, 3), 'std': (1, 2, 3), 'network_mean': (5,)}, 'network_mean has 1 values, and .* 3 channels'),
        ({'network': {'type': 'timm', 'arch': 'resnet19'}}, "no architecture 'resnet19'"),
        ({'network': {'type': 'timm'}}, "TimmNetwork needs the argument 'arch'"),
        ({'network': {'type': 'RandomMasking'}}, 'no encoder'),
        ({'checkpoint': 'nowhere.pth'}, 'no checkpoint nowhere.pth'),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Teacher(**{'network': NETWORK} | arguments)


def test_what_timm_refuses_keeps_its_trace():
    with pytest.raises(AssertionError, match='normalization of features not supported') as error:
        Teacher({'type': 'timm', 'arch': 'hiera_tiny_224'})
    assert error.value.__notes__ == [
        "'hiera_tiny_224' with {'indices': 1, 'norm': True} cannot be built as configured."
    ]


def test_a_random_network_is_announced(log, tmp_path):
    Teacher(NETWORK)
    assert 'random weights' in log.text
    log.clear()
    path = saved(tmp_path / 'a.pth', make_model().state_dict())
    Teacher(NETWORK, path)
    assert 'random weights' not in log.text and 'Weights of the teacher' in log.text


def test_the_encoder_of_a_training_checkpoint(tmp_path):
    """Of one that has frozen networks itself; fewer blocks than it has may be built."""
    model = with_networks()
    path = saved(tmp_path / 'epoch_1.pth', {'state_dict': model.state_dict(), 'meta': {}})
    network = Teacher({**NETWORK, 'out_indices': (0,), 'final_norm': False}, path)
    student = make_encoder('ViT', out_indices=(0, 1), final_norm=False).eval()
    student.load_state_dict({k: v for k, v in model.encoder.state_dict().items() if '.norm.' not in k[:10]})
    assert torch.equal(network(images())[0], student(images())[0])


@pytest.mark.parametrize(
    ('changes', 'words'),
    [({'embed_dim': 48}, 'shape'), ({'depth': 3}, 'lack .*blocks.2'), ({'init_values': 0.1}, 'lack .*ls1.gamma')],
)
def test_another_architecture_is_refused(tmp_path, changes, words):
    path = saved(tmp_path / 'a.pth', make_model().state_dict())
    with pytest.raises(UserError, match=words):
        Teacher({**NETWORK, **changes}, path)


@pytest.mark.parametrize('kind', ['ViT', 'timm'])
@pytest.mark.parametrize('indices', [None, (0,)])
def test_weights_of_timm_with_a_classifier(tmp_path, kind, indices):
    vit = {k: v for k, v in VIT.items() if k != 'img_size'} | {'depth': 3, 'img_size': 32}
    theirs = randomized(timm.create_model('vit_base_patch16_224', num_classes=5, **vit)).eval()
    path = saved(tmp_path / 'timm.pth', theirs.state_dict())
    arch = {'arch': 'vit_base_patch16_224', **vit, 'out_indices': indices}
    network = Teacher({'type': kind, **arch, **({'positions': 'learned'} if kind == 'ViT' else {})}, path)
    x = images(size=(32, 32))
    wanted = theirs.forward_intermediates(x, indices=indices or 1, norm=True, intermediates_only=True)
    torch.testing.assert_close(network(x), tuple(wanted), rtol=1e-5, atol=1e-5)


def test_a_table_of_unknown_rows_and_columns_is_no_square_for_fewer_blocks_either(tmp_path):
    theirs = timm.create_model('vit_base_patch16_224', num_classes=0, **VIT)  # 4 x 6 positions
    path = saved(tmp_path / 'timm.pth', theirs.state_dict())
    with pytest.raises(UserError, match='holds 24 positions.* does not say on which rows'):
        Teacher({**NETWORK, 'img_size': (48, 48), 'out_indices': (0,)}, path)


@pytest.mark.slow
def test_weights_of_torchvision(tmp_path):
    theirs = torchvision.models.vgg11(num_classes=2)
    theirs.classifier = torch.nn.Sequential(torch.nn.Linear(2, 2))  # without its 100 million parameters
    path = saved(tmp_path / 'vgg11.pth', theirs.state_dict())
    network = Teacher({'type': 'SparseCNN', 'arch': 'vgg11', 'out_indices': (0, 2)}, path)
    assert (network.channels, network.strides) == ((64, 256), (1, 4))
    x = images()
    for maps, layers in zip(network(x), (2, 10), strict=True):
        torch.testing.assert_close(maps, theirs.features[:layers](x), rtol=1e-4, atol=1e-5)


def test_older_files_lack_counters_of_batch_norms(tmp_path):
    theirs = randomized(torchvision.models.resnet18()).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith('num_batches_tracked')}
    network = Teacher(RESNET, saved(tmp_path / 'resnet18.pth', state))
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images()))))
    torch.testing.assert_close(network(images())[0], theirs.layer1(x), rtol=1e-4, atol=1e-4)


def test_official_weights(tmp_path, data):
    """MAE's whole model, of which only the encoder counts."""
    fixture = Fixture(data, 'mae_vit_norm_pix')
    names = ('patch_size', 'img_size', 'depth', 'embed_dim', 'num_heads', 'mlp_ratio')
    size = {name: fixture.info['constructor'][name] for name in names}
    path = saved(tmp_path / 'mae.pth', {'model': fixture.state_dict})
    network = Teacher({'type': 'ViT', **size}, path)
    x = fixture['input']
    torch.testing.assert_close(network(x), model_of(fixture).encoder(x))


def test_a_model_of_timm_with_the_projection_of_its_head(tmp_path):
    vit = {k: v for k, v in VIT.items() if k != 'img_size'} | {'img_size': 32}
    theirs = randomized(timm.create_model('vit_base_patch16_clip_224', num_classes=5, **vit)).eval()
    network = {'type': 'timm', 'arch': 'vit_base_patch16_clip_224', **vit, 'projection': 5}
    frozen = Teacher(network, saved(tmp_path / 'clip.pth', theirs.state_dict()))
    x = images(size=(32, 32))
    wanted = theirs.head(theirs.forward_features(x)[:, 1:])  # (B, 16, 5)
    assert frozen.channels == (5,)
    torch.testing.assert_close(frozen(x)[0].flatten(2).mT, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('arch', 'channels', 'strides', 'options'),
    [
        ('efficientnet_b0', (24, 40), (4, 8), {'out_indices': (1, 2)}),
        ('convnextv2_atto', (12,), (8,), {**CONVNEXT, 'dims': (6, 12, 12, 12)}),
    ],
)
def test_shapes_of_models_of_timm_at_other_sizes(arch, channels, strides, options):
    network = TimmNetwork(arch, **options).eval()
    assert (network.out_channels, network.out_strides) == (channels, strides)
    maps = network(images(size=(32, 64)))
    shapes = [(2, c, 32 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(x.shape) for x in maps] == shapes


def test_weights_of_others_leave_the_frozen_networks_alone_and_the_export_has_the_encoder_alone(data):
    model = with_networks()
    before = copy.deepcopy(model.state_dict())
    encoder = make_encoder('ViT')
    theirs = to_timm({f'encoder.{k}': v * 2 for k, v in encoder.state_dict().items()})
    report = load_any(model, theirs)
    after = model.state_dict()
    networks = [name for name in after if '.network.' in name or name.startswith('masking.network.')]
    assert len(networks) > 50 and set(networks) <= set(report.new)
    assert all(torch.equal(after[name], before[name]) for name in networks)
    exported = to_timm(after)
    assert exported.keys() == theirs.keys() and all(torch.equal(exported[k], v) for k, v in theirs.items())
    assert build_timm_model('vit_base_patch16_224', exported, **VIT)[1] == []
    other = with_networks()
    report = load_any(other, after)
    assert not report.new and not report.dropped
    assert all(torch.equal(other.state_dict()[name], value) for name, value in after.items())
