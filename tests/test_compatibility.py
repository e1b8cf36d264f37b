"""The table of what goes with what: it is made from the rules, construction refuses the same, docs show it."""

import itertools

import pytest

from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, Target
from mae_toolkit.models.compatibility import ROLES, count_combinations, find_kinds, format_table
from mae_toolkit.registry import MODELS, build, list_names
from parts import DECODERS, ENCODERS, LOSSES, MASKINGS, TARGETS, WIRING, compares, fits, make_model


def test_it_holds_every_registered_part():
    for role in ROLES:
        own = {name for name in list_names(role) if MODELS.get(name).__module__.startswith('mae_toolkit.')}
        assert {name.partition(',')[0] for name in find_kinds(role)} == own
    assert {'Swin, mask_token=True', 'ViT, mask_token=True'} <= set(find_kinds(Encoder))
    assert 'PixelTarget, norm_pix=True' in find_kinds(Target)


def test_every_combination_is_allowed_or_refused_with_a_reason():
    found = count_combinations()
    total = 1
    for parts in found.axes.values():
        total *= len(parts)
    assert found.allowed + found.refused.total() == total
    assert min(found.allowed, *found.refused.values()) > 0
    assert all(reason.count(';') == 1 and reason.endswith('.') for reason in found.refused)  # reason; remedy


@pytest.mark.parametrize('encoder', ENCODERS)
def test_construction_refuses_what_the_rules_refuse_of_encoder_and_decoder(encoder):
    for decoder in DECODERS:
        assert is_built(encoder=encoder, decoder=decoder) == fits(encoder, decoder), decoder


@pytest.mark.parametrize('target', TARGETS)
def test_construction_refuses_what_the_rules_refuse_of_target_and_loss(target):
    for loss in LOSSES:
        assert is_built(target=target, loss=loss) == compares(target, loss), loss


def is_built(**parts):
    try:
        make_model(**parts)
    except UserError:
        return False
    return True


def test_parts_that_are_built_have_what_their_classes_announce():
    """So that the table, which builds nothing, speaks of what is built."""
    for config in TARGETS.values():
        variant = ', norm_pix=True' if config == {'type': 'PixelTarget', 'norm_pix': True} else ''
        assert build(Target, config, WIRING).kind == find_kinds(Target)[config['type'] + variant].kind
    for name, config in ENCODERS.items():
        variant = ', mask_token=True' if config.get('mask_token') else ''
        announced = find_kinds(Encoder)[config['type'] + variant].fills_hidden
        assert build(Encoder, config).fills_hidden == announced, name


@pytest.mark.slow
def test_combinations_of_the_tested_configs_are_counted():
    """All of them, not those of registered classes alone."""
    encoders = {name: build(Encoder, config) for name, config in ENCODERS.items()}
    targets = {name: build(Target, config, WIRING) for name, config in TARGETS.items()}
    classes = ({name: MODELS.get(c['type']) for name, c in configs.items()} for configs in (MASKINGS, DECODERS, LOSSES))
    maskings, decoders, losses = classes
    axes = (encoders, maskings, decoders, targets, losses)
    found = count_combinations(dict(zip(ROLES, axes, strict=True)))
    pairs = itertools.product(itertools.product(ENCODERS, DECODERS), itertools.product(TARGETS, LOSSES))
    assert found.allowed == len(MASKINGS) * sum(fits(*one) and compares(*other) for one, other in pairs)


def test_the_page_shows_the_table_of_today(root):
    assert f'\n{format_table(count_combinations())}\n' in (root / 'docs' / 'combinations.md').read_text()
