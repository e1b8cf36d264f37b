"""A masking of one's own: in projects/, and beside a config in any folder."""

import shutil

import pytest
import torch

from mae_toolkit.apis import load_config
from mae_toolkit.errors import UserError
from mae_toolkit.models import Masking
from mae_toolkit.registry import build
from projects.own_masking import EdgeMasking
from projects.own_masking.edge_masking import measure_edges
from tiny import OPTIONS, QUICKSTART, ROOT
from warm import run_python

EDGES = ROOT / 'projects' / 'own_masking' / 'configs' / 'edges_quickstart.py'
TWO_STEPS = {'train_dataloader.batch_size': 48, 'train_cfg.max_epochs': 1, 'param_scheduler': None}
TWO_STEPS |= {'val_dataloader': None, 'default_hooks.reconstruction': None}


def half_smooth(batch):
    """Images with noise in the left half alone."""
    imgs = torch.zeros(batch, 3, 32, 48)
    imgs[..., :24] = torch.randn(batch, 3, 32, 24)
    return imgs


def train_elsewhere(config, folder):
    """Two iterations by the tool, started in another directory."""
    small = {k: v for k, v in OPTIONS.items() if not k.startswith(('param_scheduler', 'val_', 'default_hooks.rec'))}
    options = [f'{k}={v}' for k, v in (small | TWO_STEPS).items()]
    arguments = (ROOT / 'tools' / 'train.py', config, '--work-dir', folder / 'run', '--cfg-options')
    return run_python(*arguments, *options, cwd=folder)


def test_edges_are_hidden_first_and_chance_remains():
    for strength, least in ((0.0, 0.4), (0.5, 0.75), (1.0, 0.98)):
        torch.manual_seed(0)
        mask = build(Masking, dict(type='EdgeMasking', strength=strength, ratio=0.5, unit=8))(half_smooth(200))[:, 0]
        assert (mask.flatten(1).sum(1) == 12).all()
        left = mask[..., :3].float().mean()
        assert least <= left
        if strength < 1:
            assert left < least + 0.2 and mask.any(0).all() and (~mask).any(0).all()


def test_strength_of_edges():
    imgs = torch.tensor([[0.0, 1.0], [0.0, 3.0]]).view(1, 1, 2, 2)
    assert measure_edges(imgs)[0, 0].tolist() == [[1, 2], [3, 0]]  # nothing lies below or to the right of the last
    with pytest.raises(UserError, match='strength=2 must be between 0'):
        EdgeMasking(strength=2)


@pytest.mark.process
def test_the_config_trains_from_any_directory(tmp_path):
    done = train_elsewhere(EDGES, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()
    assert 'EdgeMasking' in next((tmp_path / 'run').glob('*.py')).read_text()


@pytest.fixture
def own(tmp_path):
    """A user's folder, outside the repository: a masking and the config that uses it."""
    folder = tmp_path / 'mine'
    folder.mkdir()
    shutil.copy(ROOT / 'projects' / 'own_masking' / 'edge_masking.py', folder / 'my_masking.py')
    text = EDGES.read_text().replace('projects.own_masking', 'my_masking')
    (folder / 'mine.py').write_text(text.replace('../../../configs/pretrain/quickstart.py', str(QUICKSTART)))
    return folder


@pytest.mark.process
def test_a_file_beside_the_config_is_found(own, tmp_path):
    done = train_elsewhere(own / 'mine.py', tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            None,
            ["No module named 'my_masking'", 'Failed to import'],
        ),
        ('import nothing_such', ["No module named 'nothing_such'"]),
    ],
)
def test_a_file_that_cannot_be_imported_is_told(own, text, words):
    """In a module of another name, as one that was imported stays imported."""
    config = own / 'mine.py'
    name = 'my_masking' if text is None else 'my_broken_masking'
    (own / 'my_masking.py').unlink()
    if text is not None:
        (own / f'{name}.py').write_text(text)
    config.write_text(config.read_text().replace('my_masking', name))
    with pytest.raises(UserError) as refusal:
        load_config(config)
    for word in words:
        assert word in str(refusal.value)
