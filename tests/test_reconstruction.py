"""Pictures of predictions: which objectives give them, and what happens where none does."""

import pytest
import torch
from safetensors.torch import load_file

from mae_toolkit.errors import UserError
from mae_toolkit.models import PixelTarget
from mae_toolkit.models.targets import LaplacianTarget
from mae_toolkit.visualization import reconstruct
from parts import images, make_model
from tiny import QUICKSTART, refuse, run, run_here

HOG = {'target': {'type': 'HOGTarget', 'cell': 4}, 'losses': [{'type': 'MaskedL2Loss'}]}
LAPLACIAN = {'target': {'type': 'LaplacianTarget', 'levels': 2}, 'losses': [{'type': 'MaskedL1Loss'}]}
CONFIG = """
_base_ = '{base}'
model = dict(objectives=dict(_delete_=True, codes=dict(
    target=dict(type='CodebookTarget', centers='{centers}'),
    losses=[dict(type='MaskedCrossEntropyLoss', label_smoothing=0.1)],
)))
"""


def test_the_first_objective_that_has_a_picture_is_shown():
    model = make_model(objectives={'hog': HOG, 'bands': LAPLACIAN}).eval()
    x, mask = images(), model.masking(images())
    result = reconstruct(model, x, mask)
    prediction = model(x, mask=mask, mode='predict')[0]['bands']
    assert torch.equal(result.predicted, model.objectives['bands'].target.to_image(prediction))
    assert result.informed is None


@pytest.mark.parametrize('target', [PixelTarget(8, norm_pix=True), LaplacianTarget(8, levels=3, norm_pix=True)])
def test_statistics_of_patches_come_from_the_visible_ones(target):
    """A perfect prediction is the image, given its own statistics; else hidden patches look like the visible ones."""
    model = make_model(objectives={'one': {'target': target, 'losses': [{'type': 'MaskedL2Loss'}]}}).eval()
    x = images() * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1) + torch.tensor([2.0, -4.0]).view(2, 1, 1, 1)
    model.objectives['one'].head.forward = lambda _: target(x)
    result = reconstruct(model, x)
    torch.testing.assert_close(result.informed, x, rtol=0, atol=1e-3)
    assert not torch.allclose(result.predicted, x, atol=0.1)
    for i, (mean, std) in enumerate(((2, 1), (-4, 3))):
        hidden = result.predicted[i][result.hidden[i].expand(3, -1, -1)]
        assert hidden.mean().item() == pytest.approx(mean, abs=0.2 * std)
        assert hidden.std().item() == pytest.approx(std, rel=0.2)


def test_a_model_without_a_picture_is_told_in_one_sentence():
    with pytest.raises(UserError, match=r'predicts a picture \(hog: HOGTarget\), so .*: it takes one with'):
        reconstruct(make_model(objectives={'hog': HOG}).eval(), images())


@pytest.mark.process
def test_codes_from_the_images_to_training_and_no_picture_of_them(tmp_path):
    """The codebook is made of the config that will name it; training goes on without pictures and says so once."""
    centers, config, work_dir = tmp_path / 'book.safetensors', tmp_path / 'codes.py', tmp_path / 'run'
    config.write_text(CONFIG.format(base=QUICKSTART, centers=centers))
    assert 'book.safetensors' in refuse('train', config, '--work-dir', work_dir)
    text = run_here('make_codebook', config, '--out', centers, '--codes', 20, '--images', 30, '--patches', 400)
    assert '400 patches of 8 x 8 pixels; 20 of 20 centers' in text
    assert load_file(centers)['centers'].shape == (20, 192)
    run('train', config, '--work-dir', work_dir)
    log = ''.join(path.read_text() for path in work_dir.glob('*/*.log'))  # of the run that was refused, too
    assert log.count('No objective of this model predicts a picture (codes: CodebookTarget)') == 1
    assert (work_dir / 'epoch_2.pth').exists() and not (work_dir / 'reconstructions').exists()
    state = torch.load(work_dir / 'epoch_2.pth', weights_only=True)['state_dict']
    assert torch.equal(state['objectives.codes.target.centers'], load_file(centers)['centers'])
    picture = next(work_dir.glob('*.png'))
    sentence = refuse('reconstruct', config, work_dir / 'epoch_2.pth', picture, '--out', tmp_path / 'out')
    assert 'No objective of this model predicts a picture (codes: CodebookTarget)' in sentence


def test_mistakes_in_making_a_codebook(tmp_path):
    assert 'must end in .safetensors' in refuse('make_codebook', QUICKSTART, '--out', tmp_path / 'book.pth')
    small = ('--out', tmp_path / 'book.safetensors', '--codes', 9, '--images', 2, '--patches', 8)
    assert '8 points have no 9 centers' in refuse('make_codebook', QUICKSTART, *small)
