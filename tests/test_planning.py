"""Planning of a pretraining: the numbers that follow from images, device, encoder and weights, and their config."""

import dataclasses

import pytest

from mae_toolkit.apis import export_encoder, load_config
from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.fingerprint import Fingerprint
from mae_toolkit.engine.minutes import TimedLength
from mae_toolkit.errors import UserError
from mae_toolkit.export.known_encoder import read_known_encoder
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.planning.architectures import check_weights, look_up_encoder
from mae_toolkit.planning.config_text import split_options, write_config
from mae_toolkit.planning.costs import Costs, estimate_costs
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import choose_encoder
from mae_toolkit.planning.families import FAMILIES
from mae_toolkit.planning.images import check_images, describe_enlargement, plan_images
from mae_toolkit.planning.minutes import TimeLimit, describe_overrun
from mae_toolkit.planning.normalization import describe_unlike
from mae_toolkit.planning.pretraining import PretrainingPlan, PretrainingWishes
from mae_toolkit.planning.schedule import (
    Speed,
    choose_batch,
    choose_rate,
    choose_workers,
    find_largest_batch,
    find_smallest_batch,
    plan_length,
    plan_minutes,
)
from mae_toolkit.planning.table import describe_knobs
from mae_toolkit.planning.trials import StepTrial, try_batches
from mae_toolkit.registry import MODELS, list_names
from test_custom_pretraining import TEMPLATES
from test_export_folder import ENCODERS, MEAN, write_checkpoint

CPU = Device('2 CPU cores', 'cpu', 2, 0, True)
GPU = Device('a GPU', 'cuda', 16, 80 << 30, True)
FOUND = Fingerprint(
    images=1000,
    opened=1000,
    readable=1000,
    heights=[480.0] * 7,
    widths=[640.0] * 7,
    short_sides=[480.0] * 7,
    aspect_ratios=[1.333] * 7,
    channels={3: 1000},
    with_alpha=0,
    dtypes={'uint8': 1000},
    mean=[100.0, 110.0, 120.0],
    std=[50.0, 51.0, 52.0],
    near_duplicates=0,
    duplicate_groups=[],
    constant=0,
    constant_names=[],
    broken=0,
    broken_reasons={},
    seconds=1.0,
)


@pytest.fixture(scope='module')
def atto():
    return look_up_encoder('convnextv2_atto')


def found(**changes):
    return dataclasses.replace(FOUND, **changes)


def planned(encoder, fingerprint=FOUND, device=CPU, size=None, weights=None, rule=None):
    return {name: knob.value for name, knob in plan_images(fingerprint, encoder, device, size, weights, rule).items()}


@pytest.mark.parametrize(
    ('arch', 'family', 'unit', 'width'),
    [
        ('vit_tiny_patch16_224', 'vit', 16, 128),
        ('vit_small_patch16_dinov3', 'eva', 16, 256),
        ('convnextv2_tiny', 'convnextv2', 32, 256),
        ('swinv2_tiny_window8_256', 'swin', 32, 256),
        ('hiera_tiny_224', 'hiera', 32, 256),
        ('resnet18', 'sparse-cnn', 32, 128),
    ],
)
def test_an_architecture_has_a_family_by_its_class(arch, family, unit, width):
    facts = look_up_encoder(arch)
    assert (facts.family.name, facts.unit, facts.decoder.width) == (family, unit, width)
    assert (facts.levels == (1, 2, 3, 4)) == (family == 'sparse-cnn')


def test_every_encoder_that_runs_architectures_of_timm_has_a_family_and_a_template():
    named = {name for name in list_names(Encoder) if MODELS.get(name).timm_classes}
    own = {name for name in named if MODELS.get(name).__module__.startswith('mae_toolkit.')}  # not those of projects
    assert own | {'SparseCNN'} == FAMILIES.keys()
    assert {family.name for family in FAMILIES.values()} == {path.stem for path in TEMPLATES}
    with pytest.raises(UserError, match='give the architecture, --encoder convnextv2_tiny'):
        choose_encoder('convnextv2_tiny.fcmae', None, 'convnextv2_atto')
    chosen = [choose_encoder(arch, None, '') for arch in ('resnet18', 'convnextv2_atto', 'hiera_tiny_224')]
    assert [encoder.is_convolutional for encoder in chosen] == [True, True, False]


def test_other_names_are_refused_with_the_way():
    with pytest.raises(
        UserError, match='--encoder convnextv2_tiny, and the weights by --from timm:convnextv2_tiny.fcmae'
    ):
        look_up_encoder('convnextv2_tiny.fcmae')
    with pytest.raises(UserError, match=r"no architecture 'convnextv2_tini': did you mean convnextv2_tiny"):
        look_up_encoder('convnextv2_tini')
    with pytest.raises(UserError, match='mixer_b16_224.* is a MlpMixer of timm, which no encoder'):
        look_up_encoder('mixer_b16_224')


def test_the_size_follows_from_images_device_and_mask(atto):
    assert planned(atto)['size'] == 128
    assert planned(atto, device=GPU)['size'] == 224
    small = found(heights=[64.0] * 7, widths=[64.0] * 7, short_sides=[64.0] * 7)
    assert planned(atto, small, GPU)['size'] == 128  # four cells of 32
    medium = found(short_sides=[170.0] * 7)
    assert planned(atto, medium, GPU)['size'] == 160
    assert planned(atto, size=192)['size'] == 192
    with pytest.raises(UserError, match='multiple of 32, such as 128 or 160'):
        planned(atto, size=150)


def test_small_images_are_enlarged_as_little_as_the_encoder_allows(atto):
    def sized(pixels):
        return found(heights=[pixels] * 7, widths=[1.3 * pixels] * 7, short_sides=[pixels] * 7)

    vit = look_up_encoder('vit_tiny_patch16_224')
    assert [planned(vit, sized(pixels))['size'] for pixels in (15.0, 40.0, 64.0)] == [64, 80, 96]
    assert planned(atto, sized(15.0))['size'] == 128
    said = describe_enlargement(sized(15.0), vit, 64)
    assert said.startswith('Half of the images have 15 pixels or less') and 'enlarged 4.27 times to 64' in said
    assert said.endswith('use larger images, if you have any.')
    assert 'a smaller --size, 64 or more, or larger' in describe_enlargement(sized(15.0), vit, (128, 160))
    assert 'such as vit_tiny_patch16_224' in describe_enlargement(sized(15.0), atto, 128)
    assert describe_enlargement(sized(64.0), atto, 128) is None


def test_images_unlike_those_of_the_weights_are_told_of():
    nuclei, blood = ([36.0], [37.0]), ([188.0, 187.0, 189.0], [40.0, 41.0, 39.0])
    said = describe_unlike(*blood, *nuclei)
    assert 'a mean of 36 and a deviation of 37' in said and 'trained with, 188 and 40' in said
    assert '--cfg-options mean=36,36,36 std=37,37,37' in said
    photographs = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert describe_unlike(*photographs, FOUND.mean, FOUND.std) is None
    assert describe_unlike(*photographs, [171.8, 164.6, 157.4], [37.0, 40.7, 47.0]) is None
    assert 'a deviation of 20, ' in describe_unlike(*photographs, FOUND.mean, [20.0, 20.0, 20.0])
    assert describe_unlike(*photographs, [1.0] * 5, [1.0] * 5) is None
    assert 'try their own, by --set [36],' in describe_unlike([188.0], [40.0], *nuclei, remedy='--set {mean}')


def test_crops_of_large_images_may_show_small_parts(atto):
    large = found(heights=[3000.0] * 7, widths=[4000.0] * 7, short_sides=[3000.0] * 7)
    assert planned(atto, large, GPU)['least_area'] == 0.02
    assert planned(atto)['least_area'] == 0.2


def test_channels_and_normalization(atto):
    assert planned(atto)['mean'] == FOUND.mean
    assert planned(atto, weights='w.pth')['mean'] == [123.675, 116.28, 103.53]
    deep = found(dtypes={'uint16': 1000})
    assert planned(atto, deep, weights='w.pth')['mean'] == FOUND.mean
    gray = found(channels={1: 1000}, mean=[100.0], std=[50.0])
    assert planned(atto, gray)['channels'] == 1
    assert planned(atto, gray, weights='w.pth')['channels'] == 3
    kept = planned(atto, gray, weights='w.pth', rule='sum')
    assert kept['channels'] == 1 and kept['mean'] == [100.0]
    mixed = planned(atto, found(channels={3: 600, 1: 400}))
    assert mixed['channels'] == 3 and len(mixed['std']) == 3


def test_continued_pretraining_keeps_the_arguments_of_an_exported_encoder(tmp_path):
    described = ENCODERS['ViT'] | {'arch': 'vit_base_patch16_224', 'in_chans': 1}
    write_checkpoint(tmp_path / 'epoch_3.pth', described)
    export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder')
    weights = str(tmp_path / 'encoder')
    encoder = look_up_encoder(described['arch'], read_known_encoder(weights))
    check_weights(encoder, weights)
    gray = found(channels={1: 1000}, mean=[100.0], std=[50.0])
    wishes = PretrainingWishes(tmp_path, weights, size=40, options={'model.encoder.drop_path_rate': 0.2})
    PretrainingPlan(gray, encoder, CPU, wishes, tmp_path / 'config.py', 'By a test').write()
    cfg = load_config(tmp_path / 'config.py')
    for name in ('arch', 'in_chans', 'patch_size', 'depth', 'embed_dim'):
        assert cfg.model.encoder[name] == described[name]
    assert cfg.model.encoder.img_size == 40 and cfg.model.encoder.drop_path_rate == 0.2
    assert cfg.model.data_preprocessor.mean == MEAN[:1]  # of the description
    other = look_up_encoder('vit_small_patch16_224', read_known_encoder(weights))
    assert other.arguments == {} and other.unit == 16


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'readable': 0, 'broken': 1000, 'broken_reasons': {'a.jpg': 'it is empty'}}, '1,000 of 1,000 images.*a.jpg'),
        ({'readable': 5, 'opened': 5, 'images': 5}, '5 images, which are too few'),
        ({'dtypes': {'uint8': 990, 'uint16': 10}}, '990 of uint8, 10 of uint16'),
        ({'channels': {3: 990, 5: 10}}, '990 with 3, 10 with 5'),
        ({'constant': 900, 'constant_names': ['a.png', 'b.png']}, '900 of 1,000 images.*next to nothing.*a.png'),
    ],
)
def test_folders_that_teach_nothing_are_refused(changes, said, tmp_path):
    check_images(FOUND, tmp_path)
    with pytest.raises(UserError, match=said):
        check_images(found(**changes), tmp_path)


def test_batches_are_doubled_up_to_time_and_memory():
    seconds = {8: 0.1, 16: 0.2, 32: 0.25, 64: 0.56}
    tried = list(try_batches(lambda b: StepTrial(b, seconds[b], 0), 8, 64, 10.0, float('inf')))
    assert [t.batch for t in tried] == [8, 16, 32, 64]  # also behind a size that gained nothing
    fast = list(try_batches(lambda b: StepTrial(b, 0.1 + b / 1000, 2 * b), 8, 64, 10.0, 50))
    assert [t.batch for t in fast] == [8, 16]  # the next would not fit
    assert not list(try_batches(lambda b: None, 8, 64, 10.0, 50))
    slow = list(try_batches(lambda b: StepTrial(b, b / 8, b), 8, 64, 1.5, float('inf')))
    assert [t.batch for t in slow] == [8]


def test_the_batch_is_the_fastest_per_image_that_leaves_enough_steps():
    trials = [StepTrial(8, 0.5, 0), StepTrial(16, 1.0, 0), StepTrial(32, 1.2, 0), StepTrial(64, 2.3, 0)]
    step, knob = choose_batch(trials, CPU, None, 200)
    assert step.batch == 32 and knob.reason.startswith('the fastest, or a smaller one that is nearly as fast: images/s')
    step, knob = choose_batch(trials[:3], CPU, None, 40)
    assert step.batch == 32 and knob.reason.startswith('larger batches would leave too few steps: ')
    step, knob = choose_batch(trials, CPU, TimeLimit(5), 200)
    assert step.batch == 8  # 250 steps of 32
    assert knob.reason.startswith('larger batches would leave too few steps in --minutes 5: ')
    assert choose_batch(trials, CPU, TimeLimit(7), 200)[0].batch == 32
    with pytest.raises(UserError, match='too little memory'):
        choose_batch([], GPU, None, 200)
    assert find_largest_batch(1000, None, False) == 80 and find_largest_batch(1000, 30, False) == 100
    assert find_largest_batch(19, None, False) == 1
    assert [find_smallest_batch(images, 32) for images in (1, 7, 8, 19, 32, 1000)] == [2, 4, 8, 16, 32, 32]


def test_workers_keep_the_device_busy():
    assert choose_workers(StepTrial(64, 0.1, 0), 0.01, GPU).value == 7
    assert choose_workers(StepTrial(64, 1.0, 0), 0.001, CPU).value == 1


def test_few_images_are_seen_often():
    speed = Speed(StepTrial(32, 0.5, 0), 0.001, 1, True)
    few, many = plan_length(50, speed, None, False), plan_length(1_000_000, speed, None, False)
    assert few['epochs'].value * 50 / 32 == pytest.approx(5000, rel=0.03) and 'few images' in few['epochs'].reason
    assert many['epochs'].value == 100 and many['repeat'].value == 1
    assert plan_length(50, speed, None, True)['epochs'].value < few['epochs'].value / 3
    assert plan_length(1000, speed, 7, False)['epochs'].value == 7
    for images in (50, 1442, 3000):  # as long as docs/continue.md measured, whatever the number of images
        continued = plan_length(images, Speed(StepTrial(64, 0.5, 0), 0.001, 1, True), None, True)['epochs'].value
        assert continued * images / 64 == pytest.approx(500, rel=0.1), images
    assert plan_length(1_000_000, speed, None, True)['epochs'].value == 1
    assert find_largest_batch(1442, None, True) >= 64
    assert plan_length(50, speed, 40, True)['wait_steps'].value == 15  # a quarter of 62 steps
    assert 'wait_steps' not in plan_length(50, speed, None, True)
    for plan in (few, many):
        epochs = plan['epochs'].value // plan['repeat'].value
        assert plan['epochs'].value % plan['repeat'].value == 0
        assert plan['validate_every'].value == max(1, epochs // 10) >= plan['save_every'].value
    assert many['save_every'].value == 1 < many['validate_every'].value  # an epoch takes hours


def test_what_the_user_sets_is_what_is_timed_and_planned_with(atto, tmp_path, monkeypatch):
    timed = []

    class Timer:
        def __init__(self, *args):
            pass

        def time_step(self, batch, precision):
            timed.append((batch, precision))
            return StepTrial(batch, 0.5, 0)

    monkeypatch.setattr('mae_toolkit.planning.pretraining.StepTimer', Timer)
    monkeypatch.setattr('mae_toolkit.planning.pretraining.time_loading', lambda _: 0.001)
    options = {'batch_size': 16, 'precision': 'float32', 'epochs': 5}
    wishes = PretrainingWishes(tmp_path, options=options)
    plan = PretrainingPlan(FOUND, atto, CPU, wishes, tmp_path / 'config.py', '')
    plan.try_steps()
    assert timed == [(16, 'float32')]
    settings = {name: knob.value for name, knob in plan.list_settings().items()}
    assert settings['batch_size'] == 16 and settings['epochs'] == 5 and settings['repeat'] <= 5
    assert f'{-(-settings["repeat"] * plan.count_images() // 16)} steps' in plan.knobs['repeat'].reason


def test_a_short_training_has_a_higher_learning_rate():
    for steps, times in ((200, 32**0.5), (500, 32**0.5), (1000, 32**0.5 / 2)):
        knob = choose_rate(6e-4, 8, steps)
        assert knob.value == pytest.approx(6e-4 * times, rel=0.02) and f'{times:.2g} times the rate' in knob.reason
    assert choose_rate(6e-4, 8, 5000) is None and choose_rate(6e-4, 256, 100) is None  # as in the recipe


def test_minutes_become_steps_within_the_last_epoch():
    costs = Costs(step=0.5, validation=3.0, fixed=20.0)
    plan = {name: knob.value for name, knob in plan_minutes(300, 8, TimeLimit(2), costs, False).items()}
    assert plan['steps'] == pytest.approx((0.95 * 100 - 3 * 3) / 0.5, abs=2)  # three validations take a tenth
    length = -(-300 * plan['repeat'] // 8)
    assert plan['epochs'] * length >= plan['steps'] > (plan['epochs'] - plan['repeat']) * length
    assert plan['validate_every'] * 3 >= plan['epochs'] // plan['repeat']
    cheap = plan_minutes(300, 16, TimeLimit(2), Costs(step=0.43, validation=0.5, fixed=20.0), False)
    count = cheap['epochs'].value // cheap['repeat'].value
    assert count > 10 and cheap['validate_every'].value == 2  # ten validations at most, also of twelve epochs
    many = plan_minutes(100_000, 8, TimeLimit(2), costs, False)
    assert many['steps'].value == pytest.approx(plan['steps'], abs=2) and many['epochs'].value == 1
    assert many['epochs'].reason.startswith('0.013')
    assert 'wait_steps' not in many and plan_minutes(300, 8, TimeLimit(0.4), costs, True)['wait_steps'].value == 1


@pytest.mark.parametrize(
    ('options', 'fixed', 'validation'),
    [
        # 3 builds, 2 pictures with their checkpoints, 50 judged images and 3 measurements of 128 images of 0.1 s each
        ({}, 3 * 10 + 2 * 15.6 + 5 + 3 * 12.8 + 5 * 25.6, 15.6 + 25.6),
        ({'default_hooks.batch_norm_statistics.images': 64}, 3 * 10 + 2 * 15.6 + 5 + 3 * 12.8 + 5 * 6.4, 15.6 + 6.4),
        ({'default_hooks.batch_norm_statistics': None}, 3 * 10 + 2 * 15.6 + 5 + 3 * 12.8, 15.6),
        ({'model.encoder.norm_eval': True}, 3 * 10 + 2 * 15.6 + 5 + 3 * 12.8, 15.6),
        ({'model.encoder.norm_eval': True, 'default_hooks.watch': None}, 3 * 10 + 2 * 15.6 + 5, 15.6),
        ({'model.encoder.norm_eval': True, 'default_hooks.reconstruction.num_images': 16}, 106.6, 16.6),
    ],
)
def test_costs_follow_from_the_hooks_of_the_config(options, fixed, validation):
    path = next(path for path in TEMPLATES if path.stem == 'sparse-cnn')
    costs = estimate_costs(load_config(path, options), TimedLength(1, 0, 5, 0.5, 5.0, 10.0), 50, 950)
    assert (costs.step, costs.fixed, costs.validation) == pytest.approx((0.5, fixed, validation))
    assert costs.least == pytest.approx(fixed + validation + 4 * 0.5)
    few = estimate_costs(load_config(path, options), TimedLength(1, 0, 5, 0.5, 0.1, 10.0), 1, 15)
    assert few.fixed <= 5 * 10.0 + 2 * 0.2 + 0.1 + 3 * 2 * 1.5 + 5 * 1.5


def test_minutes_that_a_training_must_overrun_are_told_of():
    said = describe_overrun(TimeLimit(0.4), 48.0)
    assert said.startswith('--minutes 0.4 are too few: the whole command takes about 0.8 minutes')
    assert describe_overrun(TimeLimit(0.8), 48.0) is None


def test_a_config_with_steps_ends_its_schedules_with_them():
    path = next(path for path in TEMPLATES if path.stem == 'vit')
    cfg = load_config(path, {'epochs': 3, 'steps': 500})
    assert cfg.train_cfg.max_epochs == 3 and cfg.train_cfg.end_iter == 500
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin) == (25, 25) and warmup.by_epoch is cosine.by_epoch is False


def test_a_written_config_holds_reasons_and_options(tmp_path):
    path = next(path for path in TEMPLATES if path.stem == 'vit')
    options = {'size': 96, 'train_dataloader.num_workers': 0, 'model.decoder.depth': 2}
    wanted, others = split_options(path, options)
    knobs = {'size': Knob(160, 'half of the images'), 'batch_size': Knob(16, 'tried')} | wanted
    (tmp_path / 'config.py').write_text(write_config(path, knobs, 'Photos.', others))
    text = (tmp_path / 'config.py').read_text()
    assert text.startswith('# Photos.\n') and 'batch_size = 16  # tried' in text and 'size = 96' in text
    cfg = load_config(tmp_path / 'config.py', {'epochs': 10})
    assert cfg.model.encoder.img_size == 96 and cfg.train_dataloader.batch_size == 16
    assert cfg.train_dataloader.num_workers == 0 and cfg.model.decoder.depth == 2 and cfg.train_cfg.max_epochs == 10


def test_the_table_of_settings_is_narrow():
    values = {'mean': [123.67512, 1.0], 'root': 'a' * 50 + '/photos', 'classes': ['bolt', 'nut'] * 9, 'size': 160}
    rows = describe_knobs({name: Knob(value, 'why') for name, value in values.items()})
    assert rows[0] == ('setting', 'value', 'reason') and rows[4] == ('size', '160', 'why')
    assert rows[1][1] == '[123.7, 1.0]' and rows[2][1].endswith('a/photos') and rows[3][1].startswith("['bolt', 'nut'")
    assert [len(text) for _, text, _ in rows[2:4]] == [40, 40]
