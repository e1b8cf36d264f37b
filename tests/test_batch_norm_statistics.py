"""Running statistics of batch norms: exact on whole images, and kept apart from those of masked ones."""

import copy

import pytest
import torch
from mmengine.config import Config
from torch import nn

from engine_toys import ToyImages, loader, make_runner, val_loader
from mae_toolkit.checkpoints.files import MASKED_NORMS, load
from mae_toolkit.engine.hooks import BatchNormStatisticsHook
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import recalibrate_batch_norm
from mae_toolkit.evaluation.batch_norm import find_batch_norms
from mae_toolkit.models.build import model_from_checkpoint
from mae_toolkit.models.layers.sync_batch_norm import SyncBatchNorm2d
from small_cnn import CONFIG, SHAPE, cnn_runner, make_model

HOOK = {'type': 'BatchNormStatisticsHook', 'images': 8}
EVERY = {'interval': 1, 'by_epoch': False}


class OneNorm(nn.Module):
    """An encoder of a norm alone, within a model that normalizes nothing."""

    def __init__(self, norm):
        super().__init__()
        self.encoder = nn.Sequential(norm, nn.Dropout(0.5))

    def data_preprocessor(self, batch, training):
        return {'imgs': batch['imgs']}


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [{'imgs': 3 + 2 * torch.randn(size, 4, 5, 6, generator=generator) * (i + 1)} for i, size in enumerate(sizes)]


def statistics(module):
    return {name: t for name, t in module.state_dict().items() if 'running_' in name}


def is_equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize('kind', [nn.BatchNorm2d, SyncBatchNorm2d, nn.SyncBatchNorm])
@pytest.mark.parametrize('momentum', [0.1, None])
def test_mean_and_variance_are_those_of_all_images_at_once(kind, momentum):
    """Batches of different sizes and spreads: a mean of variances would be too small, and momentum favors the last."""
    model = OneNorm(kind(4, momentum=momentum))
    model.encoder[0].num_batches_tracked.fill_(7)
    data = batches(8, 2, 5)
    images = torch.cat([batch['imgs'] for batch in data]).double()
    assert recalibrate_batch_norm(model, data) == 1
    norm = model.encoder[0]
    torch.testing.assert_close(norm.running_mean.double(), images.mean((0, 2, 3)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(norm.running_var.double(), images.var((0, 2, 3)), rtol=1e-6, atol=1e-6)
    assert norm.num_batches_tracked == 7 and norm.training and model.training


def test_as_many_images_as_asked_for_are_used():
    model, data = OneNorm(nn.BatchNorm2d(4)), batches(4, 4, 4)
    recalibrate_batch_norm(model, data, images=6)
    images = torch.cat([batch['imgs'] for batch in data[:2]])
    torch.testing.assert_close(model.encoder[0].running_mean, images.mean((0, 2, 3)))
    with pytest.raises(UserError, match='gives none'):
        recalibrate_batch_norm(model, [])


def test_deeper_norms_get_what_is_normalized_by_the_batch():
    """One batch: in evaluation mode the network then gives what it gives in training mode."""
    model = make_model()
    batch = {'imgs': torch.randint(256, (16, *SHAPE), generator=torch.Generator().manual_seed(0)).float()}
    assert recalibrate_batch_norm(model, [batch]) == len(find_batch_norms(model.encoder)) > 5
    imgs = model.data_preprocessor(batch)['imgs']
    with torch.no_grad():
        trained, evaluated = (copy.deepcopy(model).train(mode).encoder(imgs) for mode in (True, False))
    for ours, theirs in zip(evaluated, trained, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-2)  # n - 1 and n in the variance


@pytest.mark.slow
def test_training_and_its_losses_are_those_without_the_hook(tmp_path):
    held_out = dict(val_dataloader=val_loader(images=ToyImages(6, shape=SHAPE)), val_cfg={'type': 'MAEValLoop'})
    runners = []
    for name, hooks in (('with', [HOOK]), ('without', [])):
        torch.manual_seed(0)
        runner = cnn_runner(tmp_path / name, hooks, checkpoint=EVERY, **copy.deepcopy(held_out))
        runner.train()
        runners.append(runner)
    ours, theirs = (r.message_hub.get_scalar('val/loss').data[0] for r in runners)
    assert len(ours) == 2 and list(ours) == list(theirs)
    ours, theirs = (load(tmp_path / name / 'iter_12.pth') for name in ('with', 'without'))
    assert MASKED_NORMS not in theirs
    own = statistics(runners[1].model.encoder)
    for name, tensor in theirs['state_dict'].items():
        is_norm = name.removeprefix('encoder.') in own
        assert torch.equal(tensor, ours['state_dict'][name]) != is_norm, name
    kept = {name: t for name, t in ours[MASKED_NORMS].items() if 'running_' in name}
    assert is_equal(kept, own)  # the masked ones, beside the weights
    measured = copy.deepcopy(runners[1].model)
    data = loader(ToyImages(12, shape=SHAPE))
    items = [data['dataset'][i * 12 // 8] for i in range(8)]
    recalibrate_batch_norm(measured, [data['collate_fn'](items)])
    for name, tensor in statistics(measured.encoder).items():
        torch.testing.assert_close(tensor, ours['state_dict'][f'encoder.{name}'])  # among the weights
        torch.testing.assert_close(tensor, statistics(runners[0].model.encoder)[name])  # and in the trained model


@pytest.mark.slow
@pytest.mark.parametrize('hooks', [[HOOK], [HOOK, {'type': 'EMAHook'}]])
def test_a_resumed_run_ends_the_same(tmp_path, hooks):
    torch.manual_seed(0)
    cnn_runner(tmp_path / 'a', hooks, checkpoint=EVERY).train()
    for at in (6, 7)[len(hooks) - 1 :]:  # the end of an epoch, and within one
        start = dict(load_from=str(tmp_path / f'a/iter_{at}.pth'), resume=True)
        resumed = cnn_runner(tmp_path / str(at), hooks, checkpoint=EVERY, **start)
        resumed.train()
        a, b = (load(tmp_path / name / 'iter_12.pth') for name in ('a', str(at)))
        assert is_equal(a['state_dict'], b['state_dict']) and is_equal(a[MASKED_NORMS], b[MASKED_NORMS])


def test_an_average_of_weights_has_statistics_of_its_own(tmp_path):
    torch.manual_seed(0)
    runner = cnn_runner(tmp_path, [HOOK, {'type': 'EMAHook', 'momentum': 0.3}], checkpoint=EVERY)
    runner.train()
    saved = load(tmp_path / 'iter_12.pth')['state_dict']
    model = make_model()
    model.load_state_dict(saved)
    images = runner.train_dataloader.dataset
    recalibrate_batch_norm(model, [images.collate([images[i * 12 // 8] for i in range(8)])])
    for name, tensor in statistics(model).items():
        if name.startswith('encoder.'):
            torch.testing.assert_close(tensor, saved[name], msg=name)


def test_a_test_of_masked_losses_uses_the_statistics_of_masked_images(tmp_path):
    held_out = val_loader(images=ToyImages(6, shape=SHAPE))
    torch.manual_seed(0)
    runner = cnn_runner(tmp_path / 'a', [HOOK], val_dataloader=held_out, val_cfg={'type': 'MAEValLoop'})
    runner.train()
    expected = runner.message_hub.get_scalar('val/loss').data[0][-1]
    tested = cnn_runner(
        tmp_path / 'b', [HOOK], load_from=str(tmp_path / 'a/epoch_2.pth'), test_dataloader=copy.deepcopy(held_out),
        test_cfg={'type': 'MAETestLoop'},
    )  # fmt: skip
    assert tested.test()['loss'] == pytest.approx(expected, rel=1e-6)


def test_a_model_is_built_for_whole_images_or_for_masked_ones(tmp_path):
    saved = make_model().state_dict()
    torch.save(
        {'state_dict': saved, MASKED_NORMS: {'body.bn1.running_mean': torch.full((32,), 3.0), 'x': 1}},
        tmp_path / 'a.pth',
    )
    cfg = Config(dict(model=CONFIG))
    for masked, expected in ((False, saved['encoder.body.bn1.running_mean']), (True, torch.full((32,), 3.0))):
        model = model_from_checkpoint(cfg, tmp_path / 'a.pth', masked=masked)
        assert torch.equal(model.encoder.body.bn1.running_mean, expected)


def test_norms_that_follow_nothing_keep_what_they_were_loaded_with(tmp_path):
    torch.manual_seed(0)
    runner = cnn_runner(tmp_path, [HOOK], encoder={'norm_eval': True}, epochs=1)
    before = copy.deepcopy(statistics(runner.model.encoder))
    runner.train()
    saved = load(tmp_path / 'epoch_1.pth')
    assert MASKED_NORMS not in saved
    assert all(torch.equal(saved['state_dict'][f'encoder.{name}'], tensor) for name, tensor in before.items())
    assert is_equal(before, statistics(runner.model.encoder))


def test_while_the_encoder_is_frozen_its_statistics_stay(tmp_path):
    torch.manual_seed(0)
    runner = cnn_runner(tmp_path, [HOOK, {'type': 'FreezeEncoderHook', 'steps': 8}], checkpoint=EVERY)
    before = copy.deepcopy(statistics(runner.model.encoder))
    runner.train()
    for at, same in ((1, True), (8, True), (9, False)):
        state = load(tmp_path / f'iter_{at}.pth')['state_dict']
        assert all(torch.equal(state[f'encoder.{name}'], t) for name, t in before.items()) == same


def test_without_batch_norms_nothing_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(BatchNormStatisticsHook, '_load', lambda *_: pytest.fail('images were loaded'))
    make_runner(tmp_path, [HOOK], epochs=1).train()
