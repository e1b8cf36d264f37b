"""The tools, as a user starts them."""

import json
import os
import random
import subprocess
import time

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from mae_toolkit.checkpoints.weights import load_weights_and_grids
from mae_toolkit.engine import load_training
from parity import Fixture
from tiny import QUICKSTART, ROOT, command, options, refuse, run, run_here
from warm import start_python, write_program


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished small run: (work directory, what was printed)."""
    work_dir = tmp_path_factory.mktemp('trained')
    return work_dir, run('train', QUICKSTART, '--work-dir', work_dir)


def weights_of(path):
    return torch.load(path, weights_only=True)['state_dict']


def logged(work_dir):
    """Rows of the log of the first run in a folder."""
    path = min(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in path.read_text().splitlines()]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.process
def test_training_writes_what_it_names(trained):
    work_dir, text = trained
    for name in ('epoch_2.pth', 'loss.png', 'reconstruction.png'):
        assert str(work_dir / name) in text
        assert (work_dir / name).stat().st_size > 1000
    assert 'images/s' in text and 'GB' in text and 'at first' in text
    first, *_, last = grids = sorted((work_dir / 'reconstructions').glob('*.png'))
    assert [path.name for path in grids] == [f'epoch_000{i}.png' for i in range(3)]
    assert Image.open(first).size[0] == 5 * 160 + 6 * 6  # five columns of 160 pixels, and the gaps
    assert Image.open(last).size[0] == 6 * 160 + 7 * 6  # with the prediction before training
    assert np.asarray(Image.open(work_dir / 'reconstruction.png')).std() > 20  # a picture, not a blank
    rows = logged(work_dir)
    assert {'train/loss_pixel', 'train/lr'} <= set(rows[0])
    assert any('val/loss_pixel' in row for row in rows)


@pytest.mark.process
def test_validation_repeats_itself_and_equals_the_test_tool(trained, tmp_path):
    work_dir, _ = trained
    rows = logged(work_dir)
    last = [row['val/loss_pixel'] for row in rows if 'val/loss_pixel' in row][-1]
    out = tmp_path / 'losses.json'
    # another batch size, the same masks
    text = run(
        'test', QUICKSTART, work_dir / 'epoch_2.pth', '--out', out, '--work-dir', tmp_path, val_dataloader__batch_size=5
    )
    assert json.loads(out.read_text())['loss_pixel'] == pytest.approx(last, rel=1e-5)
    assert 'loss_pixel' in text


@pytest.mark.process
def test_a_second_run_in_the_same_folder_is_refused(trained):
    work_dir, _ = trained
    assert '--resume' in refuse('train', QUICKSTART, '--work-dir', work_dir)


@pytest.mark.process
def test_resuming_a_finished_run_does_nothing_but_say_what_there_is(trained):
    work_dir, _ = trained
    before = weights_of(work_dir / 'epoch_2.pth')
    text = run('train', QUICKSTART, '--work-dir', work_dir, '--resume')
    assert str(work_dir / 'epoch_2.pth') in text
    assert equal(before, weights_of(work_dir / 'epoch_2.pth'))


@pytest.mark.process
def test_killed_at_a_random_iteration_and_resumed_gives_the_same_bits(tmp_path):
    """Shuffling, augmentation, masks, optimizer and schedules included; with a worker process and mid-epoch saves."""
    many = dict(
        train_dataloader__num_workers=1,
        default_hooks__checkpoint__by_epoch=False,
        default_hooks__checkpoint__interval=3,
        model__encoder__drop_path_rate=0.2,
        train_cfg__max_epochs=3,
    )
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    run('train', QUICKSTART, '--work-dir', whole, **many)
    process = start_python(*command('train', QUICKSTART, '--work-dir', killed, **many)[1:])
    least = random.SystemRandom().randrange(2, 8)
    deadline = time.monotonic() + 600
    while len(list(killed.glob('iter_*.pth'))) < min(least, 3) and process.poll() is None:
        assert time.monotonic() < deadline, 'no checkpoint was written'
        time.sleep(0.01)
    time.sleep(random.SystemRandom().random() * 0.2)
    process.kill()
    process.wait()
    assert not (killed / 'iter_36.pth').exists(), 'the run ended before it was killed'
    run('train', QUICKSTART, '--work-dir', killed, '--resume', **many)
    assert equal(weights_of(whole / 'iter_36.pth'), weights_of(killed / 'iter_36.pth'))
    a, b = (load_training(folder / 'iter_36.pth')['optimizer'] for folder in (whole, killed))
    assert torch.equal(a['state'][0]['exp_avg'], b['state'][0]['exp_avg'])


@pytest.mark.process
def test_two_processes_train_with_the_launcher(tmp_path):
    """That they do what one process does is tested with masks that do not depend on the process."""
    script = [str(ROOT / 'tools' / 'dist_train.sh'), str(QUICKSTART), '2', '--work-dir', str(tmp_path)]
    python = write_program(tmp_path)
    environment = os.environ | {'PYTHON': python, 'PYTHON_EXEC': python, 'OMP_NUM_THREADS': '1'}
    small = options(train_dataloader__batch_size=4)
    done = subprocess.run(script + small, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = logged(tmp_path)
    assert sum('val/loss_pixel' in row for row in rows) == 2
    assert max(row['step'] for row in rows) == 24  # 96 images in steps of 2 x 4, twice
    losses = [row['train/loss'] for row in rows if 'train/loss' in row]
    assert losses[-1] < losses[0]


@pytest.mark.process
def test_reconstruct_any_size(trained, tmp_path):
    work_dir, _ = trained
    folder = tmp_path / 'images'
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (45, 70, 3), np.uint8)).save(folder / 'odd.png')
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (33, 40), np.uint8)).save(folder / 'gray.png')
    out = tmp_path / 'out'
    run('reconstruct', QUICKSTART, work_dir / 'epoch_2.pth', folder, '--out', out)
    pictures = sorted(out.glob('*.png'))
    assert [p.name for p in pictures] == ['000_gray.png', '001_odd.png']
    record = json.loads((out / 'reconstructions.json').read_text())
    assert [one['picture'] for one in record['images']] == [p.name for p in pictures] and not record['skipped']
    assert Image.open(pictures[1]).size[0] == 5 * 70 + 6 * 6  # five columns in the image's own size


@pytest.mark.process
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.process
def test_a_training_checkpoint_for_another_image_size(trained, tmp_path, suffix):
    """The checkpoint says for which grid its positions are."""
    path, out = trained[0] / 'epoch_2.pth', tmp_path / f'out{suffix}'
    assert load_training(path)['meta']['position_grids'] == {'encoder.body.pos_embed': [4, 4]}
    text = run('import_weights', path, QUICKSTART, '--out', out, model__encoder__img_size='(32,64)')
    assert 'encoder.body.pos_embed (4 x 4 to 4 x 8)' in text
    state, grids = load_weights_and_grids(out)
    assert state['encoder.body.pos_embed'].shape == (1, 33, 24)
    assert grids == {'encoder.body.pos_embed': (4, 8)}


@pytest.mark.process
def test_export_is_what_timm_takes(trained, tmp_path):
    work_dir, _ = trained
    out = tmp_path / 'encoder.safetensors'
    text = run('export_weights', work_dir / 'epoch_2.pth', '--out', out, '--config', QUICKSTART)
    assert 'timm accepts' in text
    model = timm.create_model(
        'vit_tiny_patch16_224', num_classes=0, patch_size=8, embed_dim=24, depth=1, num_heads=2, img_size=32
    )
    model.load_state_dict(load_file(out), strict=True)
    back = tmp_path / 'back.pth'
    text = run('import_weights', out, QUICKSTART, '--out', back)
    ours, theirs = weights_of(work_dir / 'epoch_2.pth'), weights_of(back)
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items() if k.startswith('encoder.'))
    assert 'new' in text  # the decoder, freshly drawn, is said to be


def test_import_of_an_official_checkpoint_gives_the_official_loss(data, tmp_path):
    fixture = Fixture(data, 'mae_vit_norm_pix')
    path, out = tmp_path / 'checkpoint-799.pth', tmp_path / 'ours.pth'
    import argparse

    torch.save(
        {'model': fixture.state_dict, 'optimizer': {}, 'epoch': 799, 'scaler': {}, 'args': argparse.Namespace(lr=1e-3)},
        path,
    )
    sizes = dict(
        model__encoder__img_size=64,
        model__encoder__patch_size=16,
        model__encoder__embed_dim=24,
        model__encoder__depth=2,
        model__encoder__num_heads=3,
        model__decoder__embed_dim=16,
        model__decoder__depth=2,
        model__decoder__num_heads=2,
        model__objectives__pixel__target__norm_pix=True,
    )
    run_here('import_weights', path, QUICKSTART, '--out', out, **sizes)
    from mae_toolkit.apis import load_config, model_from_checkpoint
    from tiny import OPTIONS

    cfg = load_config(QUICKSTART, OPTIONS | {k.replace('__', '.'): v for k, v in sizes.items()})
    loss = model_from_checkpoint(cfg, out)(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss'].view(()), rtol=1e-5, atol=0)


def test_import_resizes_positions_and_refuses_another_architecture(data, tmp_path):
    model = timm.create_model(
        'vit_tiny_patch16_224', num_classes=5, patch_size=8, embed_dim=24, depth=1, num_heads=2, img_size=48
    )
    path, out = tmp_path / 'timm.pth', tmp_path / 'out.pth'
    torch.save(model.state_dict(), path)
    text = run_here('import_weights', path, QUICKSTART, '--out', out, model__encoder__positions='learned')
    assert 'dropped:    2' in text  # the classifier
    assert weights_of(out)['encoder.body.pos_embed'].shape == (1, 17, 24)
    sentence = refuse('import_weights', path, QUICKSTART, '--out', out, model__encoder__embed_dim=48)
    assert '24' in sentence and '48' in sentence


def test_import_refuses_a_pickle_that_would_execute_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path / "executed"}',)

    path = tmp_path / 'evil.pth'
    torch.save({'model': Payload()}, path)
    assert 'would execute code' in refuse('import_weights', path, QUICKSTART, '--out', tmp_path / 'x.pth')
    assert not (tmp_path / 'executed').exists()
    assert not (tmp_path / 'x.pth').exists()
    assert 'would execute code' in refuse('test', QUICKSTART, path, '--work-dir', tmp_path / 'work')


@pytest.mark.slow
def test_benchmark_counts_the_mask(tmp_path, monkeypatch):
    monkeypatch.setattr('mae_toolkit.benchmarks.model.MATRIX', {'cpu': (64, 128)})  # which takes no seconds
    out = tmp_path / 'numbers.json'
    text = run_here('benchmark', 'model', QUICKSTART, '--runs', 1, '--batch', 2, '--device', 'cpu', '--json', out)
    result = json.loads(out.read_text())[0]
    rows = {row['part']: row for row in result['rows']}
    assert {'training step', 'forward', 'encoder', 'decoder', 'timm dense encoder'} == set(rows)
    assert rows['encoder']['gflop'] < 0.5 * rows['timm dense encoder']['gflop']
    assert rows['forward']['gflop'] < rows['training step']['gflop']
    assert result['visible'] == 0.25
    expected = 0.25 * rows['timm dense encoder']['ms'] / rows['encoder']['ms']
    assert result['eta'] == pytest.approx(expected)
    assert 'eta = v T_dense / T_masked' in text
    text = run_here(
        'benchmark', 'model', QUICKSTART, QUICKSTART, '--runs', 1, '--batch', 2, '--parts', 'encoder', '--size', 32
    )
    assert 'times faster than the first' in text
    assert 'decoder' not in text


def test_browse_and_print(tmp_path):
    run_here('browse_dataset', QUICKSTART, '--out', tmp_path / 'b.png', '--rows', 2, '--columns', 3)
    assert Image.open(tmp_path / 'b.png').size[0] == 3 * 160 + 4 * 6
    assert "type='RandomMasking'" in run_here('print_config', QUICKSTART)


@pytest.mark.process
def test_training_without_held_out_images_and_hooks_left_out(tmp_path):
    none = dict(val_dataloader='None', default_hooks__progress='None')
    text = run('train', QUICKSTART, '--work-dir', tmp_path, **none)
    assert 'images/s' not in text
    assert (tmp_path / 'reconstruction.png').exists()


@pytest.mark.process
def test_mistakes_in_arguments(trained, tmp_path):
    work_dir, _ = trained
    assert 'quickstart.py' in refuse('train', QUICKSTART.parent / 'quickstar.py')
    assert 'no checkpoint' in refuse('test', QUICKSTART, tmp_path / 'none.pth', '--work-dir', tmp_path)
    other = refuse('test', QUICKSTART, work_dir / 'epoch_2.pth', '--work-dir', tmp_path, model__encoder__embed_dim=48)
    assert '24' in other and '48' in other
    assert 'nothing.png' in refuse(
        'reconstruct', QUICKSTART, work_dir / 'epoch_2.pth', tmp_path / 'nothing.png', '--out', tmp_path / 'out'
    )
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8 no image')
    assert 'broken.jpg' in refuse(
        'reconstruct', QUICKSTART, work_dir / 'epoch_2.pth', tmp_path / 'broken.jpg', '--out', tmp_path / 'out'
    )
