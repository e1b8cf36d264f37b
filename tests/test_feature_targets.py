"""Targets that are features: of a frozen network, and of a teacher that follows the encoder."""

import copy

import pytest
import torch

from engine_toys import ToyImages, ToyPreprocessor, loader, make_runner
from mae_toolkit.checkpoints.files import load
from mae_toolkit.engine.hooks import MomentumHook
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, Target
from mae_toolkit.registry import build
from parts import ENCODERS, SIZE, VIT, images, make_encoder, make_model, randomized
from test_engine_loops import assert_same

NETWORK = {'type': 'ViT', **VIT}
LEVELS = {'type': 'ViT', **VIT, 'out_indices': (0, 1), 'final_norm': False}


def feature_target(**arguments):
    return build(Target, {'type': 'FeatureTarget', 'network': NETWORK, 'patch': 8} | arguments)


def ema_target(encoder='ViT', **arguments):
    config = ENCODERS[encoder] if isinstance(encoder, str) else encoder
    return build(Target, {'type': 'EMATarget', 'encoder': config} | arguments)


def normed(x):
    """Mean 0 and variance 1 over the channels of each position."""
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()


def test_the_target_is_the_map_of_the_network_on_images_as_it_knows_them():
    statistics = {'mean': (1.0, 2, 3), 'std': (4.0, 5, 6)}
    target = feature_target(norm=None, **statistics)
    x = images()
    seen = (x * torch.tensor([4.0, 5, 6]).view(3, 1, 1)) + torch.tensor([1.0, 2, 3]).view(3, 1, 1)
    seen = (seen - torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)) / torch.tensor([58.395, 57.12, 57.375]).view(
        3, 1, 1
    )
    wanted = target.network.encoder(seen)[0]
    assert (target.stride, target.channels, target.kind) == (8, 24, 'vectors')
    torch.testing.assert_close(target(x), wanted, rtol=1e-4, atol=1e-5)


def test_norms():
    raw, layer, instance = (feature_target(norm=norm) for norm in (None, 'layer', 'instance'))
    for other in (layer, instance):
        other.load_state_dict(raw.state_dict())
    x = images()
    torch.testing.assert_close(layer(x), normed(raw(x)), rtol=1e-4, atol=1e-4)
    y = raw(x).flatten(2)
    y = (y - y.mean(2, keepdim=True)) / (y.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(instance(x).flatten(2), y, rtol=1e-4, atol=1e-4)


def test_several_levels_are_averaged_after_the_norm():
    target = randomized(feature_target(network=LEVELS))
    x = images()
    first, second = target.network.encoder(x)
    assert not torch.equal(first, second)
    torch.testing.assert_close(target(x), (normed(first) + normed(second)) / 2, rtol=1e-4, atol=1e-4)


def test_a_network_of_stride_14_for_a_target_of_stride_16():
    target = feature_target(network={**NETWORK, 'patch_size': 14}, stride=16)
    assert target(images()).shape == (2, 24, 2, 3)
    x = images(size=(64, 96))
    assert target(x).shape == (2, 24, 4, 6)
    seen = torch.nn.functional.interpolate(x, size=(56, 84), mode='bicubic', antialias=True)
    assert torch.equal(target(x), normed_of(target, seen))


def normed_of(target, seen):
    return torch.nn.functional.layer_norm(target.network.encoder(seen)[0].permute(0, 2, 3, 1), (24,)).permute(
        0, 3, 1, 2
    )


def test_a_target_has_no_gradient():
    model = make_model(target={'type': 'FeatureTarget', 'network': NETWORK})
    x, mask = images().requires_grad_(), torch.ones(2, 1, 4, 6, dtype=torch.bool)
    mask[..., :1] = False
    model(x, mask=mask, mode='loss')['loss_pixel'].backward()
    assert x.grad[..., :8].any() and not x.grad[..., 8:].any()  # what is hidden has influence by the target alone
    assert not any(p.grad is not None for p in model.objectives['pixel'].target.parameters())


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'norm': 'batch'}, "norm='batch' must be"),
        ({'stride': 0}, 'stride=0 must be a whole number'),
        ({'in_chans': 1}, 'have 1 channels, and the network .* takes 3'),
        ({'network': {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (1, 2)}}, r'channels \(64, 128\)'),
        ({'network': {'type': 'timm', 'arch': 'resnet18', 'out_indices': (0, 1)}}, r'strides \(2, 4\)'),
        ({'checkpoint': 'nowhere.pth'}, 'no checkpoint'),
    ],
)
def test_feature_targets_that_cannot_be(arguments, words):
    with pytest.raises(UserError, match=words):
        feature_target(**arguments)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    torch.save(make_encoder('ConvNeXt').state_dict(), tmp_path / 'a.pth')
    with pytest.raises(UserError, match='of this architecture'):
        feature_target(checkpoint=str(tmp_path / 'a.pth'))


def test_the_objective_predicts_it_at_its_stride():
    for stride in (4, 8, 16):
        target = {'type': 'FeatureTarget', 'network': NETWORK, 'stride': stride}
        model = make_model(masking={'type': 'RandomMasking', 'unit': 16}, target=target)
        predictions, _ = model(images(), mode='predict')
        assert predictions['pixel'].shape == (2, 24, SIZE[0] // stride, SIZE[1] // stride)
        assert model(images(), mode='loss')['loss_pixel'].isfinite()


def test_the_teacher_gives_the_mean_of_the_last_blocks_of_the_whole_image():
    target = ema_target({**NETWORK, 'depth': 3, 'drop_path_rate': 0.5}, levels=2).train()
    student = randomized(build(Encoder, {**LEVELS, 'depth': 3, 'out_indices': (1, 2)})).eval()
    target.follow(student, 0.0)
    wanted = sum(map(normed, student(images()))) / 2
    torch.testing.assert_close(target(images()), wanted, rtol=1e-4, atol=1e-4)
    assert (target.stride, target.channels) == (8, 24)


@pytest.mark.parametrize('name', ENCODERS)
def test_every_encoder_can_have_a_teacher(name):
    """All that the teacher has comes from the student; levels beyond those that there are change nothing."""
    student, target = make_encoder(name), ema_target(name)
    target.follow(student, 0.0)
    theirs = student.state_dict()
    state = target.teacher.encoder.state_dict()
    assert state and all(torch.equal(v, theirs[k]) for k, v in state.items())
    last = (student.out_channels[-1], student.out_strides[-1])
    assert (target.channels, target.stride) == last
    assert target(images()).shape == (2, last[0], SIZE[0] // last[1], SIZE[1] // last[1])
    assert len(target.alike) == len({'ViT': range(2)}.get(ENCODERS[name]['type'], target.alike))


def test_the_teacher_moves_by_one_less_the_momentum():
    student, target = make_encoder('SparseCNN'), ema_target('SparseCNN')
    own = copy.deepcopy(target.teacher.encoder.state_dict())
    student(images())  # moves the running statistics
    target.follow(student, 0.75)
    theirs = student.state_dict()
    names = {name for name, _ in student.named_parameters()}
    for name, value in target.teacher.encoder.state_dict().items():
        wanted = 0.75 * own[name] + 0.25 * theirs[name] if name in names else theirs[name]
        torch.testing.assert_close(value, wanted)


def test_batch_norms_of_the_teacher_see_whole_images(tmp_path):
    """In training by their batch, as in MoCo, BYOL and DINO; their running statistics follow it, not the encoder's."""
    parts = {'encoder': 'SparseCNN', 'decoder': 'UNetDecoder'}
    runner = run(tmp_path, 1, [MomentumHook(1.0, 1.0)], 'EMATarget', parts)
    reference, batches = copy.deepcopy(runner.model.encoder).train(), []
    target = runner.model.objectives['pixel'].target
    target.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
    encoder = runner.train().encoder.state_dict()
    maps = [reference(imgs)[-1] for imgs in batches]
    own, wanted = target.teacher.encoder.state_dict(), reference.state_dict()
    for name in (name for name in own if 'running' in name):
        torch.testing.assert_close(own[name], wanted[name], rtol=1e-4, atol=1e-5)
        assert not torch.equal(own[name], encoder[name])
    torch.testing.assert_close(target.train()(batches[0]), normed(maps[0]), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(target.eval()(batches[0]), normed(maps[0]), atol=1e-2)


def test_batch_norms_that_keep_their_statistics_keep_them_in_the_teacher():
    config = ENCODERS['SparseCNN'] | {'norm_eval': True}
    student, target = randomized(build(Encoder, config)), ema_target(config).train()
    target.follow(student, 0.9)
    target(images())
    theirs = student.state_dict()
    for name, value in target.teacher.encoder.state_dict().items():
        if 'running' in name:
            assert torch.equal(value, theirs[name])


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [({'levels': 0}, 'levels=0'), ({'levels': 1.5}, 'levels=1.5'), ({'norm': 'batch'}, "norm='batch'")],
)
def test_teachers_that_cannot_be(arguments, words):
    with pytest.raises(UserError, match=words):
        ema_target(**arguments)


def test_an_encoder_that_is_not_that_of_the_teacher_is_refused():
    with pytest.raises(UserError, match=r'lacks body.blocks.1.*which its teacher has'):
        ema_target().follow(make_encoder('ViT', out_indices=(0,)), 0.5)


def run(work_dir, epochs=2, hooks=None, target='EMATarget, one level', parts=None, **kwargs):
    """A run of the masked autoencoder with a teacher."""
    data = {'train_dataloader': loader(ToyImages(shape=(3, *SIZE)))}
    model = make_model(target=target, data_preprocessor=ToyPreprocessor(), **parts or {})
    hooks = [{'type': 'MomentumHook', 'momentum': 0.9, 'end_momentum': 0.99}] if hooks is None else hooks
    return make_runner(work_dir, hooks, epochs=epochs, model=model, **data | kwargs)


class Watch(MomentumHook):
    """Notes the encoder's weight after each step, and the momentum."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.momenta = []

    def value(self, progress):
        self.momenta.append(super().value(progress))
        return self.momenta[-1]


def test_the_momentum_rises_within_its_share_of_the_iterations_and_follows_real_steps(tmp_path):
    hook = Watch(momentum=0.8, end_momentum=1.0, ramp=0.5)
    run(tmp_path / 'a', hooks=[hook]).train()
    assert hook.momenta == pytest.approx([0.8 + 0.2 * min(i / 6, 1) for i in range(12)])
    hook = Watch(momentum=0.8, end_momentum=1.0, ramp=1)
    run(tmp_path / 'b', hooks=[hook], wrapper={'accumulative_counts': 3}).train()
    assert hook.momenta == pytest.approx([0.8 + 0.2 * i / 12 for i in (2, 5, 8, 11)])


def test_the_teacher_begins_as_a_copy_of_the_encoder_and_follows_it(tmp_path):
    runner = run(tmp_path / 'a', hooks=[MomentumHook(1.0, 1.0)])
    student = copy.deepcopy(runner.model.encoder.state_dict())
    model = runner.train()
    teacher = model.objectives['pixel'].target.teacher.encoder.state_dict()
    assert all(torch.equal(v, student[k]) for k, v in teacher.items())
    assert not all(torch.equal(v, model.encoder.state_dict()[k]) for k, v in teacher.items())
    model = run(tmp_path / 'b', hooks=[MomentumHook(0.0, 0.0)]).train()
    teacher = model.objectives['pixel'].target.teacher.encoder.state_dict()
    assert all(torch.equal(v, model.encoder.state_dict()[k]) for k, v in teacher.items())


def test_a_resumed_run_has_the_same_teacher(tmp_path):
    run(tmp_path).train()
    whole = load(tmp_path / 'epoch_2.pth', mmap=False)
    (tmp_path / 'epoch_2.pth').unlink()
    run(tmp_path, resume=True).train()
    resumed = load(tmp_path / 'epoch_2.pth')
    names = [name for name in whole['state_dict'] if 'target.teacher' in name]
    assert names
    for key in ('state_dict', 'optimizer'):
        assert_same(resumed[key], whole[key])


def test_averaged_weights_leave_a_frozen_network_as_it_is(tmp_path):
    model = run(tmp_path, hooks=[{'type': 'EMAHook', 'momentum': 0.3}], target='FeatureTarget').train()
    averaged, prefix = load(tmp_path / 'epoch_2.pth')['ema_state_dict'], 'objectives.pixel.target.'
    names = [name for name in averaged if name.removeprefix('module.').startswith(prefix)]
    assert names and all(torch.equal(averaged[k], model.state_dict()[k.removeprefix('module.')]) for k in names)


def test_the_hook_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(UserError, match='MomentumHook finds no teacher'):
        run(tmp_path, target='PixelTarget').train()


@pytest.mark.parametrize('name', ['momentum', 'end_momentum', 'ramp'])
def test_numbers_of_the_hook_that_make_no_sense(name):
    with pytest.raises(UserError, match=f'{name}=1.1 must be between 0 and 1'):
        MomentumHook(**{name: 1.1})
