"""Training that was killed ends with the same bits; validation depends on neither batch nor processes."""

import multiprocessing
import random

import pytest
import torch

import parts
from engine_toys import ToyAutoencoder, ToyImages, ToyMasking, ToyPreprocessor, loader, make_runner, train, val_loader
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.engine.loops import draw_fixed_masks
from mae_toolkit.errors import UserError

EVAL = {'val_cfg': {'type': 'MAEValLoop', 'seed': 3}}


def run_toy(work_dir, resume=False, **options):
    """A run in a process of its own; its exit status."""
    process = multiprocessing.get_context('fork').Process(target=train, args=(work_dir, resume), kwargs=options)
    process.start()
    process.join()
    return process.exitcode


def assert_same(a, b):
    """Equal bit for bit, through all nested containers."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    assert run_toy(folder) == 0
    return load(folder / 'iter_18.pth')


@pytest.mark.process
@pytest.mark.parametrize('kill_at', [5, 6, 7, 'anywhere'])
def test_killed_and_resumed_run_ends_with_the_same_bits(tmp_path, uninterrupted, kill_at):
    # Drawn here: names of tests are the same in all processes of pytest.
    kill_at = random.Random().randrange(6, 18) if kill_at == 'anywhere' else kill_at
    print(f'killed before iteration {kill_at}')
    assert run_toy(tmp_path, kill_at=kill_at) == -9
    assert newest_checkpoint(tmp_path).name == f'iter_{kill_at // 5 * 5}.pth'
    assert run_toy(tmp_path, resume=True) == 0
    resumed = load(tmp_path / 'iter_18.pth')
    for key in ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict'):
        assert_same(resumed[key], uninterrupted[key])


@pytest.mark.process
def test_resume_with_workers_that_fetch_ahead(tmp_path, uninterrupted):
    assert run_toy(tmp_path, kill_at=8, workers=2) == -9
    assert run_toy(tmp_path, resume=True, workers=2) == 0
    assert_same(load(tmp_path / 'iter_18.pth')['state_dict'], uninterrupted['state_dict'])


@pytest.mark.process
def test_checkpoint_at_the_end_of_an_epoch_resumes_with_that_end(tmp_path, uninterrupted):
    """Saved by iterations, it lies before the hooks that close the epoch: the scheduler by epoch must still step."""
    assert run_toy(tmp_path, interval=6, kill_at=8) == -9
    assert run_toy(tmp_path, interval=6, resume=True) == 0
    assert_same(load(tmp_path / 'iter_18.pth')['state_dict'], uninterrupted['state_dict'])


def test_resume_refuses_epochs_of_another_length(tmp_path):
    make_runner(tmp_path, epochs=1).train()
    runner = make_runner(tmp_path, epochs=2, resume=True, train_dataloader=loader(batch=3))
    with pytest.raises(UserError, match='6 iterations per epoch, and this run 4'):
        runner.train()


def test_resume_tells_that_a_longer_run_keeps_the_old_schedule(tmp_path, capsys):
    make_runner(tmp_path, epochs=1).train()
    make_runner(tmp_path, epochs=2, resume=True).train()
    assert 'learning rate ended at step 6 and here ends at 12' in capsys.readouterr().out


@pytest.mark.parametrize(('batch', 'sampler'), [(1, None), (5, None), (12, None), (5, [(0, i) for i in range(12)])])
def test_validation_loss_does_not_depend_on_the_batch_size(tmp_path, batch, sampler):
    torch.manual_seed(0)
    model = ToyAutoencoder().eval().requires_grad_(False)
    images = ToyImages()
    data = sampler and torch.utils.data.DataLoader(images, batch, sampler=sampler, collate_fn=images.collate)
    runner = make_runner(tmp_path, model=model, val_dataloader=data or val_loader(batch), **EVAL)
    losses = []
    for index in range(len(images)):
        img = images[index]['img'][None] / 255
        torch.manual_seed(3 + index)
        losses.append(float(model(img, mask=model.masking(img), mode='loss')['loss_pixel']))
    metrics = runner.val()
    assert metrics['loss_pixel'] == pytest.approx(sum(losses) / len(losses), abs=1e-6)
    assert metrics['loss'] == metrics['loss_pixel']


def test_validation_in_a_training_run_is_logged_and_does_not_disturb_it(tmp_path):
    without = make_runner(tmp_path / 'a', epochs=1).train()
    cfg = {'type': 'EpochTrainLoop', 'max_epochs': 1, 'val_interval': 1}
    runner = make_runner(tmp_path / 'b', train_cfg=cfg, val_dataloader=val_loader(), **EVAL)
    assert_same(dict(runner.train().state_dict()), dict(without.state_dict()))
    assert 'val/loss_pixel' in runner.message_hub.log_scalars
    metrics = make_runner(
        tmp_path / 'c',
        test_dataloader=val_loader(5),
        test_cfg={'type': 'MAETestLoop', 'seed': 3},
        load_from=str(tmp_path / 'b' / 'epoch_1.pth'),
    ).test()
    assert metrics['loss'] == pytest.approx(runner.message_hub.get_scalar('val/loss').current(), abs=1e-6)


def test_a_run_that_began_from_weights_resumes_from_its_own_checkpoint(tmp_path, capsys):
    """load_from stays in the config of such a run; before its first checkpoint, it begins there again."""
    make_runner(tmp_path / 'a', epochs=1).train()
    began = {'load_from': str(tmp_path / 'a' / 'epoch_1.pth'), 'resume': 'auto'}
    make_runner(tmp_path / 'b', epochs=1, **began).train()
    assert f'training starts with the weights of {began["load_from"]}' in capsys.readouterr().out
    make_runner(tmp_path / 'b', epochs=2, **began).train()
    logs = ''.join(path.read_text() for path in (tmp_path / 'b').glob('*/*.log'))
    loaded = [line.split('Loaded ')[1] for line in logs.splitlines() if 'Loaded ' in line]
    assert sorted(loaded) == [began['load_from'], str(tmp_path / 'b' / 'epoch_1.pth')]


def test_broken_images_are_left_out_of_the_validation_loss_and_named(tmp_path, capsys):
    model = ToyAutoencoder().eval().requires_grad_(False)
    images, broken = ToyImages(), ToyImages(broken=[2, 7])
    hook = {'type': 'BrokenImagesHook', 'min_seen': 1000}
    runner = make_runner(tmp_path, [hook], model=model, val_dataloader=val_loader(5, images=broken), **EVAL)
    losses = []
    for index in set(range(len(images))) - {2, 7}:
        img = images[index]['img'][None] / 255
        torch.manual_seed(3 + index)
        losses.append(float(model(img, mask=model.masking(img), mode='loss')['loss_pixel']))
    assert runner.val()['loss'] == pytest.approx(sum(losses) / 10, abs=1e-6)
    told = capsys.readouterr().out
    assert 'Broken image skipped: 2.png (truncated)' in told and '7.png' in told
    strict = {'type': 'BrokenImagesHook', 'min_seen': 10, 'max_share': 0.1}
    runner = make_runner(tmp_path, [strict], model=model, val_dataloader=val_loader(5, images=broken), **EVAL)
    with pytest.raises(UserError, match='2 of 12 images read are broken'):
        runner.val()


def test_a_validation_loss_that_is_not_finite_is_told(tmp_path, capsys):
    runner = make_runner(tmp_path, val_dataloader=val_loader(3, images=ToyImages(nan=[4])), **EVAL)
    runner.val()
    assert 'loss_pixel is not finite for the images 3.png, 4.png, 5.png' in capsys.readouterr().out


def test_validation_computes_in_the_type_that_it_is_told(tmp_path):
    kinds = []
    runner = make_runner(tmp_path, val_dataloader=val_loader(), val_cfg={**EVAL['val_cfg'], 'dtype': 'bfloat16'})
    runner.model.encoder.proj.register_forward_hook(lambda *hook: kinds.append(hook[2].dtype))
    runner.val()
    assert set(kinds) == {torch.bfloat16}


def test_numbers_of_the_loop_that_make_no_sense(tmp_path):
    for name in ('max_epochs', 'val_interval'):
        cfg = {'type': 'EpochTrainLoop', 'max_epochs': 1} | {name: 0}
        with pytest.raises(UserError, match=f'train_cfg.{name}=0'):
            make_runner(tmp_path, train_cfg=cfg).train()


def test_fixed_masks_leave_the_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    masks = draw_fixed_masks(ToyMasking(), torch.zeros(4, 1, 8, 8), [1, 2, 1, 3])
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(masks[0], masks[2])


def test_a_sampler_that_repeats_images_is_refused(tmp_path):
    images = ToyImages()
    twice = torch.utils.data.DataLoader(images, 2, sampler=[*range(12), 0], collate_fn=images.collate)
    with pytest.raises(UserError, match='13 samples of 12 images'):
        make_runner(tmp_path, val_dataloader=twice, **EVAL).val()


def real(work_dir, batch=4, **kwargs):
    """The masked autoencoder itself, in bf16."""
    images = ToyImages(shape=(3, *parts.SIZE))
    data = {'train_dataloader': loader(images), 'val_dataloader': val_loader(images=images, batch=batch), **EVAL}
    model = parts.make_model(data_preprocessor=ToyPreprocessor())
    return make_runner(work_dir, model=model, wrapper={'type': 'AutocastOptimWrapper'}, **data, **kwargs)


def test_the_masked_autoencoder_resumes_and_validates_alike(tmp_path):
    runner = real(tmp_path)
    whole = runner.train().state_dict()
    (tmp_path / 'epoch_2.pth').unlink()
    resumed = real(tmp_path, batch=5, resume=True)
    assert_same(dict(resumed.train().state_dict()), dict(whole))
    losses = [r.message_hub.get_scalar('val/loss_pixel').current() for r in (runner, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
