"""Files of weights as people have them: containers, prefixes and formats; every key is told, or the file refused."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger

import parts
from engine_toys import ToyImages, ToyPreprocessor, loader, make_runner
from mae_toolkit.benchmarks.weights_table import CONTAINERS, PREFIXES, Sample, make_samples, try_file
from mae_toolkit.checkpoints.checks import COUNTER
from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.files import MASKED_NORMS
from mae_toolkit.checkpoints.load import load_any, load_file
from mae_toolkit.checkpoints.names import BODY, FORMATS
from mae_toolkit.checkpoints.names.efficientnet import EFFICIENTNETS
from mae_toolkit.checkpoints.origins import find_origins, trace
from mae_toolkit.checkpoints.positions import COMPUTED
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build
from mae_toolkit.transfer.hashes import FileHashes
from test_checkpoint_formats import CASES, TINY

VIT = parts.VIT | {'img_size': 32}
LEARNED = {'type': 'ViT', **VIT, 'positions': 'learned'}


@pytest.fixture
def told(caplog):
    """What is logged."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def vit(tmp_path, monkeypatch):
    """An encoder with random numbers, whose weights have timm's names."""
    monkeypatch.chdir(tmp_path)
    return parts.randomized(build(Encoder, dict(LEARNED))).eval()


def under(prefix, vit):
    return {prefix + name: tensor for name, tensor in vit.body.state_dict().items()}


def saved(content, name='weights.pth'):
    torch.save(content, name)
    return name


def assert_loaded(source, vit, **options):
    """Load into a fresh encoder, and return the report."""
    other = build(Encoder, dict(LEARNED))
    report = load_pretrained(other, source, **options)
    assert all(torch.equal(value, vit.state_dict()[name]) for name, value in other.state_dict().items())
    return report


@pytest.fixture(scope='module')
def samples():
    return list(make_samples())


@pytest.mark.slow
def test_every_format_is_in_the_table(samples):
    """One EfficientNet stands for all; tests/test_checkpoint_formats.py has each of them."""
    words = {form.word for form in FORMATS if form.name in {sample.name for sample in samples}}
    assert words == {form.word for form in FORMATS if form not in EFFICIENTNETS[:-1]}


@pytest.mark.slow
def test_each_format_with_a_prefix_and_in_a_container(samples, tmp_path):
    """One prefix and one container for each, in turn; the tool of the table tries all."""
    pairs = [(list(CONTAINERS)[i % len(CONTAINERS)], PREFIXES[i % len(PREFIXES)]) for i in range(len(samples))]
    outcomes = [try_file(sample, *pair, tmp_path) for sample, pair in zip(samples, pairs, strict=True)]
    assert not [outcome for outcome in outcomes if outcome.difference != 0]


def test_each_container_and_each_prefix(vit, tmp_path):
    sample = Sample('timm', LEARNED, dict(vit.body.state_dict()), dict(vit.state_dict()))
    outcomes = [try_file(sample, container, '', tmp_path) for container in CONTAINERS]
    outcomes += [try_file(sample, 'state_dict', prefix, tmp_path) for prefix in PREFIXES]
    assert not [outcome for outcome in outcomes if outcome.difference != 0]


@pytest.mark.parametrize('state', ['model', 'encoder'])
def test_a_prefix_is_found_and_said_and_what_lies_beside_is_dropped(vit, told, state):
    beside = {'model.projector.0.weight': torch.ones(2, 2), 'momentum.x': torch.ones(2)}
    path = saved({'state_dict': under('model._orig_mod.backbone.', vit) | beside})
    report = assert_loaded(path, vit)
    assert report.dropped == sorted(beside) and not report.new
    assert "by the names that begin with 'model.backbone.'" in told.text
    assert "the weights under 'state_dict' are taken" in told.text and 'momentum.x' in told.text


@pytest.mark.parametrize(('first', 'second'), [('encoder_q.', 'encoder_k.'), ('student.', 'teacher.')])
def test_two_that_fit_equally_are_refused_with_the_choices(vit, first, second):
    zero = {name: torch.zeros_like(tensor) for name, tensor in under(second, vit).items()}
    path = saved({'state_dict': under(first, vit) | zero})
    with pytest.raises(UserError, match=rf'{path}: .* 2 times, .* add #{first[:-1]} or #{second[:-1]} to the name'):
        load_pretrained(build(Encoder, dict(LEARNED)), path)
    assert len(assert_loaded(f'{path}#{first[:-1]}', vit).dropped) == len(zero)


def test_a_teacher_of_another_width_does_not_fit_equally(vit):
    wide = {'type': 'ViT', **VIT, 'embed_dim': 48}
    other = under('teacher.', build(Encoder, wide))
    assert_loaded(saved({'model': under('student.', vit) | other}), vit)


def test_a_part_may_be_keys_a_prefix_or_both(vit):
    zero = {name: torch.zeros_like(tensor) for name, tensor in under('backbone.', vit).items()}
    content = {'teacher': under('module.backbone.', vit) | {'module.head.x': torch.ones(1)}, 'student': zero}
    path = saved(content | {'optimizer': {'state': {0: {'exp_avg': torch.ones(3)}}}, 'center': torch.ones(2)})
    for part in ('teacher', 'teacher.backbone'):
        assert assert_loaded(f'{path}#{part}', vit).dropped == ['head.x']
    with pytest.raises(UserError, match=rf'holds 2 sets of weights, .*: give {path}#teacher .* or {path}#student \('):
        load_weights(path)
    for part in ('techer', 'teacher.back', 'optimizer.x'):
        with pytest.raises(UserError, match=rf"holds no weights under '{part}': {path} has {path}#teacher \("):
            load_weights(f'{path}#{part}')
    with pytest.raises(UserError, match=r"no weights under 'x': its weights lie at the top, with names that begin"):
        load_weights(f'{saved(under("", vit))}#x')


def test_an_average_is_taken_where_it_is_named(vit, told):
    zero = {name: torch.zeros_like(tensor) for name, tensor in under('', vit).items()}
    path = saved({'state_dict': zero, 'state_dict_ema': under('', vit)})
    load_weights(path)
    assert "not 'state_dict_ema', the running average (EMA): to use that, add #state_dict_ema" in told.text
    told.clear()
    assert_loaded(f'{path}#state_dict_ema', vit)
    assert 'running average' not in told.text


@pytest.mark.parametrize('other', ['model', 'net', 'teacher', 'backbone', 'weights'])
def test_the_log_names_the_container_that_is_used_and_the_other(vit, told, other):
    zero = {name: torch.zeros_like(tensor) for name, tensor in under('', vit).items()}
    path = saved({'state_dict': under('', vit), other: zero, 'optimizer': {'state': zero}})
    assert_loaded(path, vit)
    said = f"'state_dict' is taken, not {other!r}, which differs: to use other weights, add #{other} to the file"
    assert said in told.text
    (record,) = (record for record in told.records if 'which differs' in record.message)
    assert record.for_users
    assert not any(value.any() for value in load_weights(f'{path}#{other}').values())


def test_statistics_of_masked_images_beside_the_weights_are_no_second_model(vit, told):
    norms = {f'norm{i}.running_mean': torch.ones(3) for i in range(20)}
    assert_loaded(saved({'state_dict': under('', vit), MASKED_NORMS: norms}), vit)
    assert 'which differs' not in told.text


def test_two_containers_of_the_same_weights_are_one(vit, told):
    """One of them of a model that was wrapped."""
    path = saved({'model': under('', vit), 'state_dict': under('module.', vit), 'meta': {'x': {'loss': torch.ones(1)}}})
    assert_loaded(path, vit)
    assert 'which differs' not in told.text
    path = saved({'model': under('', vit), 'state_dict': {**under('', vit), 'head.weight': torch.ones(1)}})
    load_weights(path)
    assert "'state_dict' is taken, not 'model', which differs" in told.text


def test_a_stated_format_is_not_guessed(vit):
    path = saved(under('', vit))
    assert_loaded(f'timm:{path}', vit)
    with pytest.raises(UserError, match=r"'tim' is no format of weights; did you mean timm"):
        load_pretrained(build(Encoder, dict(LEARNED)), f'tim:{path}')
    for word in ('ours', 'swin', 'spark', 'simmim'):
        with pytest.raises(UserError, match=rf'{path}: .*has a ViT of 2 blocks of width 24'):
            load_pretrained(build(Encoder, dict(LEARNED)), f'{word}:{path}')
    with pytest.raises(UserError, match=r'weights.pth is read by the names in it.* leave timm: out'):
        load_weights(f'timm:{path}')


def test_a_model_begins_with_an_encoder_alone(vit):
    """A whole model: by timm's names, by ours, and from a file of a whole other model."""
    for content in (under('', vit), under('net.', vit), {f'encoder.{k}': v for k, v in vit.state_dict().items()}):
        model = parts.make_model(LEARNED)
        report = load_file(model, saved(content))
        assert torch.equal(model.encoder.body.pos_embed, vit.body.pos_embed)
        assert report.new and all(name.startswith(('decoder.', 'objectives.')) for name in report.new)
    deeper = {'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 2, 'num_heads': 2}
    other = parts.make_model(LEARNED, decoder=deeper)
    with pytest.raises(UserError, match='and the model does not build'):
        load_file(parts.make_model(LEARNED), saved(other.state_dict()))
    model = parts.make_model(LEARNED)
    report = load_file(model, f'{saved(other.state_dict())}#encoder')
    assert torch.equal(model.encoder.body.pos_embed, other.encoder.body.pos_embed)
    assert all(name.startswith(('decoder.', 'objectives.')) for name in (*report.new, *report.dropped))


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_tables_of_positions_of_any_type_are_resized(vit, kind):
    path = saved({name: tensor.to(kind) for name, tensor in under('', vit).items()})
    encoder = build(Encoder, LEARNED | {'img_size': 48})
    report = load_pretrained(encoder, path)
    assert report.resized == ['encoder.body.pos_embed (4 x 4 to 6 x 6)']
    assert encoder.body.pos_embed.dtype == torch.float32 and encoder.body.pos_embed.isfinite().all()


@pytest.fixture(scope='module')
def encoders():
    return [build(Encoder, dict(encoder)) for encoder, _ in TINY.values()]


def assert_every_key_is_told(report, state):
    names = [name for names in report.keys_of_file().values() for name in names]
    assert sorted(names) == sorted(state)


@pytest.mark.parametrize(('form', 'make'), CASES, ids=[form.name for form, _ in CASES])
def test_every_key_of_a_file_is_in_one_list(data, encoders, form, make):
    """Of every format, into the first of the small encoders that takes it; else in the translation."""
    state = make(data, form)
    ours = {k: v.shape for k, v in form.to_ours(state).weights.items() if k.startswith(BODY)}
    for encoder in encoders:
        model = torch.nn.ModuleDict({'encoder': encoder})
        own = {name: tensor.shape for name, tensor in model.state_dict().items()}
        needed = {name for name in own if name.startswith(BODY) and not name.endswith((*COMPUTED, COUNTER))}
        if all(own.get(name) == shape for name, shape in ours.items()) and needed <= ours.keys():
            assert_every_key_is_told(load_any(model, state), state)
            return
    ours = form.to_ours(trace(state))
    told = {key for keys in find_origins(ours.weights).values() for key in keys}
    assert told | set(ours.left) == set(state) and not told & set(ours.left)


@pytest.mark.parametrize('release', ['OpenCLIP', 'DINOv2'])
def test_every_key_is_told_where_timms_filter_ran(vit, release):
    state = under('', vit)
    if release == 'OpenCLIP':
        state = {f'visual.trunk.{name}': tensor for name, tensor in state.items()} | {'text.x': torch.ones(1)}
    else:
        state |= {'mask_token': torch.zeros(1, 24)}
    model = torch.nn.ModuleDict({'encoder': build(Encoder, dict(LEARNED))})
    assert_every_key_is_told(load_any(model, state), state)


def test_weights_of_another_architecture_are_refused_with_both(vit):
    resnet = build(Encoder, {'type': 'SparseCNN', 'arch': 'resnet18'})
    for state, encoder, said in (
        (
            under('model.', vit),
            {'type': 'SparseCNN', 'arch': 'resnet18'},
            'a ViT of 2 blocks .*a ResNet of 8',
        ),
        (
            under('', resnet),
            LEARNED,
            r'a ResNet of 8 blocks .*more than 1 of its 120 keys: bn1.weight.*a ViT of 2 blocks',
        ),
        (
            {'a.b': torch.ones(2)},
            LEARNED,
            r'does not tell its architecture \(no format has more than 0 of its 1 key: a.b\)',
        ),
    ):
        with pytest.raises(UserError, match=rf'^weights.pth: The weights are not of this architecture: .*{said}'):
            load_pretrained(build(Encoder, dict(encoder)), saved(state))


def test_batch_norms_need_no_counters(vit):
    resnet = build(Encoder, {'type': 'SparseCNN', 'arch': 'resnet18'})
    state = {k: v for k, v in under('', resnet).items() if not k.endswith('num_batches_tracked')}
    for strict in (True, False):
        other = build(Encoder, {'type': 'SparseCNN', 'arch': 'resnet18'})
        report = load_pretrained(other, saved(state), strict=strict)
        assert len(report.new) == 20 and all(name.endswith('num_batches_tracked') for name in report.new)
        assert torch.equal(other.body.bn1.weight, resnet.body.bn1.weight)


def test_a_training_begins_with_an_encoder_alone_and_a_test_does_not(vit, tmp_path):
    path = saved({'state_dict': under('model.', vit)})

    def runner(folder, **options):
        images = ToyImages(shape=(3, 32, 32), images=4)
        model = parts.make_model(LEARNED, data_preprocessor=ToyPreprocessor())
        return make_runner(tmp_path / folder, model=model, epochs=1, train_dataloader=loader(images), **options)

    begun = runner('a', load_from=path)
    begun.train()
    log = next((tmp_path / 'a').rglob('*.log')).read_text()
    assert f'The model begins with {path}: {len(vit.state_dict())} loaded, 0 resized' in log
    untrained = runner('b')
    with pytest.raises(UserError, match='does not fit the model'):
        untrained.load_checkpoint(path)


def test_experiments_tell_parts_of_a_file_apart(vit):
    path = saved({'a': under('', vit), 'b': under('', vit)})
    hashes = FileHashes()
    found = {hashes.weights(f'{path}{part}') for part in ('#a', '#b', '')} | {hashes.weights(f'timm:{path}#a')}
    assert len(found) == 4 and hashes.weights('lost.pth') is None
