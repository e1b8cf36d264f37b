"""Law 10: the published numbers, against every config that bears the method's name."""

import functools
import math

import pytest
import torch

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS
from recipe_reader import PRETRAIN, Reading, configs, recipes, without_checkpoints

pytestmark = pytest.mark.slow

RECIPES = recipes()
EVERY = sorted(RECIPES)
# What every recipe must state; the others are for some.
NEEDED = (
    'batch base_lr images_of_base_lr lr optimizer betas weight_decay decayed not_decayed clip precision warmup end_lr '
    'image crop interpolation masking mask_ratio mask_unit hidden predicted shared_mask fills_hidden positions '
    'norm_eps drop_path widths depths heads decoder losses'
).split()
OF_THE_TEST = ('base_lr', 'images_of_base_lr', 'decayed', 'not_decayed')  # read by tests of their own

every_config = pytest.mark.parametrize('path', EVERY, ids=lambda path: path.stem)
reading = functools.cache(Reading)  # made once


def test_every_config_has_a_recipe_and_every_recipe_a_config():
    assert {str(p.relative_to(PRETRAIN)) for p in configs()} == {str(p.relative_to(PRETRAIN)) for p in RECIPES}


def test_every_recipe_states_what_it_must():
    lacking = {path.stem: [line for line in NEEDED if line not in recipe] for path, recipe in RECIPES.items()}
    assert not {name: lines for name, lines in lacking.items() if lines}
    assert all('target_patch' in recipe or 'target_numbers' in recipe for recipe in RECIPES.values())


@every_config
def test_a_config_is_as_published(path):
    read, recipe = reading(path), RECIPES[path]
    said = {line: read.read(line) for line in recipe if line not in OF_THE_TEST}
    wrong = {line: (value, recipe[line]) for line, value in said.items() if not same(value, recipe[line])}
    assert not wrong, wrong


def same(value, expected):
    """Equal, numbers up to rounding, through lists and dicts; tuples are lists."""
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(expected, float):
        return value is not None and math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-12)
    return type(value) is type(expected) and value == expected


@every_config
def test_the_learning_rate_is_the_base_rate_for_the_batch(path):
    read, recipe = reading(path), RECIPES[path]
    assert read.lr() == pytest.approx(recipe['base_lr'] * read.batch() / recipe['images_of_base_lr'])


@every_config
def test_learning_rate_and_weight_decay_go_as_published(path):
    """The schedules run: from their beginning to the highest rate at the end of the warm-up, and to the end."""
    read, recipe = reading(path), RECIPES[path]
    (curve, decays), epochs = read.curve(), read.cfg.train_cfg.max_epochs
    (warmup, factor), lr, end = recipe['warmup'], recipe['lr'], recipe['end_lr']
    assert curve[0] == pytest.approx(lr * factor)
    assert curve[warmup * 2] == pytest.approx(lr)
    assert curve[warmup] == pytest.approx(lr * (1 + factor) / 2, abs=lr / warmup / 2)
    assert curve[-1] == pytest.approx(end, abs=lr * 1e-3)
    if recipe.get('milestones'):
        (drop,) = recipe['milestones']
        assert curve[drop * 2 - 1] == pytest.approx(lr) and curve[drop * 2] == pytest.approx(end)
    else:
        middle = (warmup + epochs) // 2 * 2
        assert curve[middle] == pytest.approx((lr + end) / 2, rel=0.01)
    first, last = recipe['weight_decay']
    assert decays[0] == first and decays[-1] == pytest.approx(last, rel=1e-4)
    assert decays[epochs] == pytest.approx((first + last) / 2, rel=0.01)


@every_config
def test_epochs_are_those_of_the_name_and_schedules_end_with_them(path):
    cfg = reading(path).cfg
    assert f'{cfg.train_cfg.max_epochs}e' == path.stem.split('_')[2]
    assert not any('T_max' in s or ('end' in s and s.type != 'LinearLR') for s in cfg.param_scheduler)


@every_config
def test_the_comment_names_processes_that_make_the_batch(path):
    read = reading(path)
    processes, images = read.processes()
    assert processes * images == read.batch()
    assert images == read.cfg.train_dataloader.batch_size


@every_config
def test_decay_is_that_of_the_method(path):
    """What has one dimension is not decayed, save for what the recipe names, and what it exempts."""
    read, recipe = reading(path), RECIPES[path]
    shapes, base = {name: p.shape for name, p in read.model.named_parameters()}, recipe['weight_decay'][0]
    wrong = {}
    for name, decay in read.decay_of().items():
        if any(part in name for part in recipe['not_decayed']):
            expected = 0.0
        elif any(part in name for part in recipe['decayed']):
            expected = base
        else:
            expected = 0.0 if len(shapes[name]) == 1 or name.endswith('.bias') else base
        wrong |= {} if decay == expected else {name: (decay, expected)}
    assert not wrong
    for part in recipe['decayed'] + recipe['not_decayed']:
        assert any(part in name for name in shapes), f'there is no {part}'


def test_a_config_goes_through_at_most_two_others():
    """A variant, the method's first config, the bases: more is hard to read."""
    for path in EVERY:
        text = path.read_text()
        if "_base_ = './" in text:
            parent = path.parent / text.split("_base_ = './")[1].split("'")[0]
            assert "_base_ = './" not in parent.read_text(), path.stem


# A small encoder, decoder and target of each kind, to be laid over those of a config.
TINY = {
    'ViT': dict(img_size=64, embed_dim=24, depth=2, num_heads=2),
    'Swin': dict(img_size=64, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=2),
    'ConvNeXt': dict(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)),
    'Hiera': dict(img_size=64, embed_dim=8, num_heads=1, stages=(1, 1, 1, 1)),
    'SparseCNN': dict(layers=(1, 1, 1, 1), channels=(8, 8, 8, 8)),
    'TransformerDecoder': dict(embed_dim=16, depth=1, num_heads=2),
    'CrossAttentionDecoder': dict(embed_dim=16, depth=1, num_heads=2),
    'ConvNeXtDecoder': dict(embed_dim=16),
    'UNetDecoder': dict(width=64),
    'BlockMasking': dict(min_cells=2),
}
NETWORK = dict(type='ViT', img_size=64, patch_size=16, embed_dim=16, depth=1, num_heads=2, positions='learned')


def shrunk(cfg):
    """The config with small parts, of the same kinds, for images of 64 pixels."""
    model = cfg.model
    for part in (model.encoder, model.decoder, model.masking):
        part.update(TINY.get(part.type, {}))
        if 'network' in part:
            part['network'] = dict(NETWORK)
    if model.encoder.type == 'ViT':
        model.encoder['patch_size'] = 16
        if 'out_indices' in model.encoder:
            model.encoder['out_indices'] = (-1, 0, 1)
    for objective in model.objectives.values():
        if 'network' in objective.target:
            objective.target['network'] = dict(NETWORK)
    wrapper = cfg.optim_wrapper
    wrapper['type'] = 'OptimWrapper'  # AMP needs a GPU
    for key in ('dtype', 'loss_scale'):
        wrapper.pop(key, None)
    return cfg


@every_config
def test_a_training_step_of_shrunk_parts(path):
    cfg = shrunk(without_checkpoints(load_config(path)))
    model = build_model(cfg).train()
    given = dict(cfg.optim_wrapper)
    constructor, rules = given.pop('constructor'), given.pop('paramwise_cfg', None)
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=constructor, optim_wrapper_cfg=given, paramwise_cfg=rules))(
        model
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    losses = model.train_step({'imgs': images}, wrapper)
    assert all(torch.isfinite(value) for value in losses.values())
    moved = [not torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before]
    assert sum(moved) > 0.8 * len(moved)  # some start where the first step does not reach them, by a layer's scale
    assert {name.split('.')[0] for name, m in zip(before, moved, strict=True) if m} >= {'encoder', 'objectives'}
