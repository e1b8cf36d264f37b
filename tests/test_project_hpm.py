"""HPM (projects/hpm). There are no official numbers to compare with: what is tested is what the paper says."""

import math
from types import SimpleNamespace

import pytest
import torch

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.engine.hooks import MaskingScheduleHook, MomentumHook
from mae_toolkit.errors import UserError
from mae_toolkit.models import Loss, Masking
from mae_toolkit.registry import MODELS, build
from parts import VIT, images, randomized
from projects.hpm import HPM
from projects.hpm.ranking import ranking_loss
from tiny import run

DECODER = dict(type='TransformerDecoder', embed_dim=16, depth=1, num_heads=2)
L2 = dict(type='MaskedL2Loss')


def small(masking=None, loss=L2, **changes):
    """A small HPM on cells of 8 pixels, in training mode."""
    parts = dict(
        encoder=dict(type='ViT', **VIT),
        masking=masking if 'type' in (masking or {}) else dict(type='HardPatchMasking', hard=0.5) | (masking or {}),
        decoder=DECODER,
        loss_decoder=DECODER,
        objectives=dict(pixel=dict(target=dict(type='PixelTarget'), losses=[loss])),
    )
    return HPM(**parts | changes).train()


def test_the_ranking_loss_by_hand():
    """Three cells of 4 count, two of them equally hard: two pairs are left."""
    guess, error = torch.tensor([[1.0, -0.5, 2.0, 9.0]]), torch.tensor([[0.3, 0.1, 0.3, 0.2]])
    where = torch.tensor([[True, True, True, False]])
    by_hand = [math.log(1 + math.exp(-(harder - easier))) for harder, easier in ((1.0, -0.5), (2.0, -0.5))]
    assert ranking_loss(guess, error, where).item() == pytest.approx(sum(by_hand) / 2, rel=1e-6)
    images_of_one_loss = ranking_loss(guess, torch.ones_like(error), where)
    assert images_of_one_loss.item() == 0


def test_the_ranking_loss_is_over_pairs_of_one_image():
    guess, error = torch.randn(3, 6), torch.rand(3, 6)
    where = torch.rand(3, 6) > 0.3
    pairs = [
        math.log(1 + math.exp(guess[b, j].item() - guess[b, i].item()))
        for b in range(3)
        for i in range(6)
        for j in range(6)
        if where[b, i] and where[b, j] and error[b, i] > error[b, j]
    ]
    assert ranking_loss(guess, error, where).item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-5)


@pytest.mark.parametrize('share', [0.0, 0.25, 0.5, 1.0])
def test_masks_become_harder(share):
    """So many of the hidden cells are the hardest, the others drawn; every image hides the same number."""
    masking = build(Masking, dict(type='HardPatchMasking', hard=share, ratio=0.75, unit=8))
    hardness = torch.randn(300, 4, 6)
    mask = masking(images(300), hardness).flatten(1)
    assert mask.dtype is torch.bool and (mask.sum(1) == 18).all()
    ranks = hardness.flatten(1).argsort(1, descending=True)
    hidden = mask.gather(1, ranks).float().mean(0)  # by rank, the hardest first
    sure = int(18 * share)
    assert (hidden[:sure] == 1).all()
    others = (18 - sure) / (24 - sure)
    torch.testing.assert_close(hidden[sure:], torch.full((24 - sure,), others), rtol=0, atol=0.12)


def test_without_hardness_masks_are_drawn():
    masking = build(Masking, dict(type='HardPatchMasking', hard=0.5, unit=8))
    masks = torch.cat([masking(images(8)) for _ in range(40)])
    assert (masks.flatten(1).sum(1) == 18).all() and masks.any(0).all() and (~masks).any(0).all()
    share = masks.float().mean((0, 1))
    torch.testing.assert_close(share, torch.full_like(share, 0.75), rtol=0, atol=0.1)


def test_the_teacher_chooses_the_masks_in_training_alone():
    model = randomized(small(masking=dict(hard=1.0)))
    imgs = images()
    hardest = model.teacher(imgs).flatten(1).topk(18, dim=1).indices
    cells = model.draw_cells(imgs)
    assert cells.mask.flatten(1).gather(1, hardest).all()
    assert (cells.num_visible, cells.num_predict) == (6, 18)
    assert not model.eval().draw_cells(imgs).mask.flatten(1).gather(1, hardest).all()


def test_a_share_of_the_hidden_cells_may_be_predicted():
    cells = small(masking=dict(predict_ratio=0.25)).draw_cells(images())
    assert (cells.predict.flatten(1).sum(1) == 6).all() and cells.num_predict == 6
    assert not (cells.predict & ~cells.mask).any()


def test_errors_are_the_losses_of_the_cells():
    """Cells of 16 pixels, patches of 8: the mean over the predicted cells is the loss."""
    model = randomized(small(masking=dict(unit=16)))
    cells = model.draw_cells(images())
    features = model.encode(images(), cells)
    predictions = {'pixel': model.objectives['pixel'].head(model.decode(features, cells))}
    errors = model.measure_errors(predictions, images())
    assert errors.shape == (2, 2, 3) and not errors.requires_grad
    losses = model.compare(predictions, features, images(), cells)
    torch.testing.assert_close(errors[cells.predict[:, 0]].mean(), losses['loss_pixel'])
    assert set(losses) == {'loss_pixel', 'loss_ranking'}


def test_the_guesses_learn_the_order():
    """Noise is hard in the right half alone; the teacher finds it in images that it has not seen."""
    torch.manual_seed(0)
    model = small(masking=dict(hard=0.0))
    scale = torch.ones(48)
    scale[:24] = 0.1
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for i in range(40):
        losses = model(images(8, seed=i) * scale, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert losses['loss_ranking'] < 0.5 < math.log(2)  # what guessing by chance gives
    model.follow(model.encoder, 0.0)
    hardness = model.teacher(images(8, seed=99) * scale)
    assert (hardness[..., :3].mean((1, 2)) < hardness[..., 3:].mean((1, 2))).all()


def test_a_training_step_lowers_both_losses_and_every_parameter_learns():
    model = randomized(small(masking=dict(hard=0.0)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    mask = model.masking(images())
    before = model(images(), mask=mask, mode='loss')
    sum(before.values()).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    optimizer.step()
    after = model(images(), mask=mask, mode='loss')
    assert all(after[name] < before[name] for name in before)


def test_the_teacher_is_frozen_and_follows_encoder_and_predictor():
    model = small()
    copies = [model.teacher.encoder, model.teacher.predictor]
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert not any(m.training for m in model.teacher.modules())
    before = [[p.clone() for p in copy.parameters()] for copy in copies]
    randomized(model.encoder), randomized(model.predictor)
    model.follow(model.encoder, 0.9)
    for copy, old, source in zip(copies, before, (model.encoder, model.predictor), strict=True):
        for now, was, new in zip(copy.parameters(), old, source.parameters(), strict=True):
            torch.testing.assert_close(now, 0.9 * was + 0.1 * new)
    assert [part for part in model.modules() if hasattr(part, 'follow')] == [model]  # what the hook looks for


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(masking=dict(type='RandomMasking')), 'needs a HardPatchMasking, not a RandomMasking'),
        (dict(masking=dict(hard=1.5)), 'hard=1.5 must be a fraction'),
        (dict(masking=dict(shared=True)), 'leave shared=True out'),
        (dict(ranking_weight=0), 'ranking_weight=0 must be above 0'),
    ],
)
def test_refusals(changes, words):
    with pytest.raises(UserError, match=words):
        small(**changes)


def test_a_loss_that_has_no_value_per_cell_is_refused():
    class WholeLoss(Loss):
        """Of whole images."""

    with pytest.raises(UserError, match='a value per cell, not a WholeLoss'):
        small(loss=dict(type=WholeLoss))


@pytest.mark.process
def test_the_quickstart_trains_and_the_teacher_moves(root, tmp_path):
    config = root / 'projects' / 'hpm' / 'configs' / 'hpm_quickstart.py'
    loss_decoder = dict(model__loss_decoder__embed_dim=16, model__loss_decoder__depth=1)
    run('train', config, '--work-dir', tmp_path, **loss_decoder, model__loss_decoder__num_heads=2)
    first, second = (torch.load(tmp_path / f'epoch_{i}.pth', weights_only=True)['state_dict'] for i in (1, 2))
    name = 'predictor.head.proj.weight'
    assert not torch.equal(first[f'teacher.{name}'], second[f'teacher.{name}'])
    assert not torch.equal(second[f'teacher.{name}'], second[name])


def test_the_config_has_the_published_numbers(root):
    cfg = load_config(root / 'projects/hpm/configs/hpm_vit-b_200e_imagenet.py')
    assert cfg.auto_scale_lr.base_batch_size == 2048
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper' and 'clip_grad' not in cfg.optim_wrapper
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.lr == pytest.approx(1.5e-4 * 2048 / 256)
    assert (optimizer.type, tuple(optimizer.betas), optimizer.weight_decay) == ('AdamW', (0.9, 0.95), 0.05)
    warmup, cosine = cfg.param_scheduler
    assert (cfg.train_cfg.max_epochs, warmup.end, cosine.begin, cosine.eta_min) == (200, 40, 40, 0)
    crop = cfg.train_dataloader.dataset.pipeline[0]
    assert (crop.size, tuple(crop.scale), crop.interpolation) == (224, (0.2, 1.0), 'bicubic')
    cfg.model.data_preprocessor = None
    with torch.device('meta'):
        model = build_model(cfg)
    assert (model.masking.ratio, model.masking.unit, model.ranking_weight) == (0.75, 16, 1.0)
    for decoder in (model.decoder, model.predictor.decoder):
        assert (decoder.out_channels, len(decoder.blocks), decoder.blocks[0].attn.num_heads) == (512, 8, 16)
    assert model.objectives['pixel'].target.norm_pix
    assert MODELS.get('HPM') is HPM


@pytest.mark.parametrize('epochs', [200])
def test_the_schedules_are_the_published_ones(root, epochs):
    """Half the share of epochs that is over, counting the one that runs; the teacher slower over 100 epochs."""
    hooks = load_config(root / 'projects/hpm/configs/hpm_vit-b_200e_imagenet.py').custom_hooks
    schedule, momentum = (
        kind(**{k: v for k, v in hook.items() if k != 'type'})
        for kind, hook in zip((MaskingScheduleHook, MomentumHook), hooks, strict=True)
    )
    masking, steps = SimpleNamespace(hard=None), 7
    runner = SimpleNamespace(model=SimpleNamespace(masking=masking), max_iters=epochs * steps)
    for runner.iter in range(epochs * steps):
        schedule.before_train_iter(runner, 0)
        assert masking.hard == pytest.approx(0.5 * (runner.iter // steps + 1) / epochs)
    assert [round(momentum.value(p), 7) for p in (0, 0.25, 0.5, 1)] == [0.999, 0.99945, 0.9999, 0.9999]
