"""Datasets of other libraries: items that follow from the draw, and broken files that are skipped and counted."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, Compose, ConcatDataset, DefaultSampler, InfiniteSampler, RepeatDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from PIL import Image
from torch.utils.data import BatchSampler

from mae_toolkit.datasets import BrokenImage
from mae_toolkit.datasets.broken_files import BrokenMask, SampleFile, explain_failure
from mae_toolkit.datasets.draw_samplers import DrawBatchSampler, DrawSampler
from mae_toolkit.datasets.randomness import seeded_by
from mae_toolkit.datasets.reproducible import REPORT, Draw, ReportingCollate, ReproducibleDataset
from mae_toolkit.engine import Runner
from mae_toolkit.engine.checkpoint import load, newest_checkpoint
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATA_SAMPLERS, DATASETS, HOOKS, MODELS, TRANSFORMS

NUMBERS = itertools.count()
SAMPLES = 12


@TRANSFORMS.register_module(force=True)
class ReadFiles:
    """Read the image and the mask of a sample as Pillow does, with no look at whether a JPEG is whole."""

    def __call__(self, sample):
        for key in ('img_path', 'seg_map_path'):
            if key in sample:
                Image.open(sample[key]).size  # noqa: B018 - fails at files that are no pictures
        return sample


@TRANSFORMS.register_module(force=True)
class DrawNumbers:
    """Draw from all generators that pipelines draw from."""

    def __call__(self, sample):
        numbers = [random.random(), np.random.rand(), float(torch.rand(()))]
        return {
            'inputs': torch.tensor([*numbers, sample['sample_idx']], dtype=torch.float64),
            'path': sample['img_path'],
        }


@TRANSFORMS.register_module(force=True)
class FailAt:
    """A mistake in a user's own transform."""

    def __call__(self, sample):
        if sample['sample_idx'] == 2:
            raise KeyError('gt_boxes')
        return sample


@TRANSFORMS.register_module(force=True)
class Remember:
    """Keep earlier samples, as MMDetection's CachedMosaic does."""

    def __init__(self):
        self.results_cache = []

    def __call__(self, sample):
        return sample


@TRANSFORMS.register_module(force=True)
class LeaveOut:
    """Find nothing of use in the first sample, so that MMEngine takes another at random."""

    def __call__(self, sample):
        return None if sample['sample_idx'] == 0 else sample


@DATASETS.register_module(force=True)
class Pictures(BaseDataset):
    """Pictures of a folder, with masks where there are any."""

    METAINFO = {'classes': ('one', 'two')}

    def __init__(self, folder, transforms=('ReadFiles', 'DrawNumbers'), **kwargs):
        self.folder = folder
        super().__init__(pipeline=[{'type': name} for name in transforms], serialize_data=False, **kwargs)

    def load_data_list(self):
        paths = sorted(self.folder.glob('*.[jp][pn]g'))
        masks = [path.parent / 'masks' / f'{path.stem}.png' for path in paths]
        return [
            {'img_path': str(path), 'width': 4 + i % 3, 'height': 5}
            | ({'seg_map_path': str(mask)} if mask.exists() else {})
            for i, (path, mask) in enumerate(zip(paths, masks, strict=True))
        ]


@DATA_SAMPLERS.register_module(force=True)
class WideOrTall(BatchSampler):
    """Batches of wide or of tall pictures, as MMDetection's AspectRatioBatchSampler makes them."""

    def __iter__(self):
        groups = {False: [], True: []}
        for index in self.sampler:
            info = self.sampler.dataset.get_data_info(index)
            group = groups[info['width'] < info['height']]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
        left = groups[False] + groups[True]
        yield from (left[i : i + self.batch_size] for i in range(0, len(left), self.batch_size))


@MODELS.register_module(force=True)
class Collector(BaseModel):
    """Refuse what a batch should not have; the loss is the sum of what it has."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, inputs, path, mode='loss'):
        total = torch.stack(list(inputs)).sum()
        return {'loss': total * (1 + self.weight)} if mode == 'loss' else []


@HOOKS.register_module(force=True)
class CollectHook(Hook):
    """Keep what was drawn, and stop where asked."""

    def __init__(self, seen, stop=None):
        self.seen, self.stop = seen, stop

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.stop:
            raise InterruptedError
        self.seen[runner.iter] = [tuple(numbers.tolist()) for numbers in data_batch['inputs']]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'data' / 'masks').mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (SAMPLES, 48, 48, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / 'data' / f'{i:02d}.jpg', quality=95)
    return tmp_path / 'data'


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def run(folder, work, resume=False, stop=None, loop=None, dataset=None, hook=None, seed=3, **loader):
    """{iteration: what its samples drew} of a run on the pictures."""
    seen = {}
    dataset = dataset or {'type': 'Pictures', 'folder': folder}
    loader = {'batch_size': 2, 'num_workers': 0, 'sampler': {'type': 'InfiniteSampler'}, 'dataset': dataset} | loader
    runner = Runner(
        model={'type': 'Collector'},
        work_dir=str(work),
        train_dataloader=loader,
        train_cfg=loop or {'type': 'IterBasedTrainLoop', 'max_iters': 15},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.0}},
        default_hooks={
            'checkpoint': {'type': 'SafeCheckpointHook', 'interval': 1, 'by_epoch': False, 'max_keep_ckpts': 1},
            'broken_images': {'type': 'BrokenImagesHook', 'min_seen': 1000} | (hook or {}),
        },
        custom_hooks=[CollectHook(seen, stop)],
        default_scope='mae_toolkit',
        randomness={'seed': seed, 'diff_rank_seed': True},
        resume='auto' if resume else False,
        experiment_name=f'reproducible_{next(NUMBERS)}',
    )
    try:
        runner.train()
    except InterruptedError:
        assert stop is not None
    return seen


GROUPS = {'batch_sampler': {'type': 'WideOrTall', 'drop_last': False}}
EPOCHS = {'type': 'EpochBasedTrainLoop', 'max_epochs': 3}
SHUFFLED = {'type': 'DefaultSampler', 'shuffle': True}
WAYS = {
    'endless': {},
    'epochs': {'loop': EPOCHS, 'sampler': SHUFFLED, 'batch_size': 5},
    'epochs without the last batch': {'loop': EPOCHS, 'sampler': SHUFFLED, 'batch_size': 5, 'drop_last': True},
    'groups by epochs': {'loop': EPOCHS, 'sampler': SHUFFLED} | GROUPS,
    'groups by steps': GROUPS,
    'slices': {'loop': EPOCHS, 'sampler': SHUFFLED, 'num_batch_per_epoch': 4},
    'repeated': {'repeat': 2},
}


def settings(way, folder):
    way = dict(WAYS[way])
    times, pictures = way.pop('repeat', None), {'type': 'Pictures', 'folder': folder}
    return way | ({'dataset': {'type': 'RepeatDataset', 'times': times, 'dataset': pictures}} if times else {})


@pytest.mark.parametrize('way', WAYS)
def test_a_run_draws_the_same_after_a_resumption_and_with_any_number_of_workers(way, folder, tmp_path):
    whole = run(folder, tmp_path / 'whole', **settings(way, folder))
    stop = max(whole) - 2
    first = run(folder, tmp_path / 'parts', stop=stop, **settings(way, folder))
    workers = {} if way == 'slices' else {'num_workers': 2, 'persistent_workers': way == 'endless'}
    rest = run(folder, tmp_path / 'parts', resume=True, **settings(way, folder) | workers)
    assert min(rest) == stop and first | rest == whole
    drawn = [numbers[:3] for samples in whole.values() for numbers in samples]
    assert len(set(drawn)) == len(drawn)  # nothing is drawn twice, in later epochs neither


def test_steps_over_a_sampler_with_epochs_go_on_in_a_later_epoch(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)  # MMEngine waits before each of these epochs
    loop = {'loop': {'type': 'IterBasedTrainLoop', 'max_iters': 15}, 'sampler': SHUFFLED}
    whole = run(folder, tmp_path / 'whole', **loop)
    first = run(folder, tmp_path / 'parts', stop=9, **loop)
    assert first | run(folder, tmp_path / 'parts', resume=True, **loop) == whole


def test_a_run_without_a_seed_goes_on_with_the_one_that_it_drew(folder, tmp_path):
    first = run(folder, tmp_path / 'parts', stop=8, seed=None)
    rest = run(folder, tmp_path / 'parts', resume=True, seed=None)
    seed = int(load(newest_checkpoint(tmp_path / 'parts'))['meta']['seed'])
    assert first | rest == run(folder, tmp_path / 'whole', seed=seed)


def test_a_dataset_of_ours_under_another_sampler_is_told_the_epoch():
    sampler = DrawSampler(InfiniteSampler(range(4), shuffle=False), range(4), pairs=True)
    assert list(itertools.islice(sampler, 6)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    sampler = DrawSampler(DefaultSampler(range(4), shuffle=False), range(4), pairs=True)
    sampler.set_epoch(2)
    assert list(sampler) == [(2, 0), (2, 1), (2, 2), (2, 3)]


@pytest.mark.parametrize('rank', [0, 1])
def test_processes_share_the_places_between_them(rank, monkeypatch):
    monkeypatch.setattr('mae_toolkit.datasets.draw_samplers.get_dist_info', lambda: (rank, 2))
    draws = list(DrawSampler(DefaultSampler(range(6), shuffle=False), range(6)))
    assert [draw.place for draw in draws] == [rank + 2 * i for i in range(6)]
    batches = DrawBatchSampler(BatchSampler(range(6), 4, drop_last=False))
    assert [draw.place for batch in batches for draw in batch] == [rank + 2 * i for i in range(6)]


def test_global_generators_are_left_as_they_were():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with seeded_by(3, 0, 5):
        first = random.random(), np.random.rand(), float(torch.rand(()))
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    with seeded_by(3, 0, 5):
        assert first == (random.random(), np.random.rand(), float(torch.rand(())))
    with seeded_by(3, 5, 0):
        assert not set(first) & {random.random(), np.random.rand(), float(torch.rand(()))}


def wrapped(folder, transforms=('ReadFiles', 'DrawNumbers'), **kwargs):
    return ReproducibleDataset(Pictures(folder, transforms), **kwargs)


def test_a_cut_off_jpeg_is_replaced_every_time_and_whole_files_are_checked_once(folder, monkeypatch):
    cut(folder / '03.jpg')
    dataset = wrapped(folder)
    for place in (0, 1):
        item = dataset[Draw(0, 3, place)]
        assert item.value['path'].endswith('04.jpg')
        assert item.broken == [(str(folder / '03.jpg'), 'Premature end of JPEG file', 'image')] and not item.used
    monkeypatch.setattr('mae_toolkit.datasets.broken_files.check_jpeg', lambda file: pytest.fail('again'))
    assert not dataset[Draw(0, 4, 2)].broken
    assert 'path' in dataset[4]  # by index alone: as the dataset makes it


BROKEN = {
    'text': (lambda path: path.write_text('no picture'), 'its content is of no image format that is known'),
    'empty': (lambda path: path.write_bytes(b''), 'the file is empty'),
    'gone': (lambda path: path.unlink(), 'No such file or directory'),
    'folder': (lambda path: (path.unlink(), path.mkdir()), 'it is no regular file'),
}


@pytest.mark.parametrize('change, reason', BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize('what', ['image', 'mask'])
def test_a_file_that_cannot_be_read_is_named(folder, change, reason, what):
    mask = folder / 'masks' / '05.png'
    Image.new('P', (16, 16)).save(mask)
    dataset = wrapped(folder)
    path = mask if what == 'mask' else folder / '05.jpg'
    change(path)
    item = dataset[Draw(0, 5, 0)]
    assert item.broken == [(str(path), reason, what)] and item.value['path'].endswith('06.jpg')


def test_a_png_that_opencv_alone_refuses_is_named(folder):
    path = folder / '05.png'
    Image.effect_noise((64, 64), 50).save(path)
    data = bytearray(path.read_bytes())
    data[-16] ^= 255  # of the checksum of its pixels
    path.write_bytes(data)
    error = explain_failure(SampleFile(str(path), BrokenMask), AttributeError("'NoneType' has no attribute 'shape'"))
    assert isinstance(error, BrokenMask) and error.reason == 'OpenCV cannot decode it'


def test_a_path_elsewhere_is_not_judged(tmp_path):
    assert explain_failure(SampleFile(str(tmp_path / 'x.jpg'), BrokenImage), RuntimeError('no connection')) is None


def test_a_failure_of_a_transform_stays_as_it_is(folder):
    with pytest.raises(KeyError, match='gt_boxes'):
        wrapped(folder, ('ReadFiles', 'FailAt', 'DrawNumbers'))[Draw(0, 2, 0)]
    (folder / '02.jpg').rename(folder / '02.jpg')
    assert wrapped(folder, ('ReadFiles', 'DrawNumbers'))[Draw(0, 2, 0)].value['path'].endswith('02.jpg')


def test_a_sample_taken_in_place_of_another_is_named_too(folder):
    """MMEngine itself takes another one at random where a pipeline finds nothing of use."""
    for i in range(1, SAMPLES - 1):
        cut(folder / f'{i:02d}.jpg')
    item = wrapped(folder, ('LeaveOut', 'ReadFiles', 'DrawNumbers'))[Draw(0, 0, 0)]
    assert item.value['path'].endswith('11.jpg') and item.broken


def test_many_broken_files_in_a_row_end_in_a_sentence(folder):
    for i in range(SAMPLES):
        cut(folder / f'{i:02d}.jpg')
    with pytest.raises(UserError, match=r'3 samples in a row could not be read, from .*07.jpg \(Premature .*09.jpg'):
        wrapped(folder, max_tries=2)[Draw(0, 7, 0)]


def test_what_is_evaluated_is_not_replaced(folder):
    cut(folder / '03.jpg')
    (folder / '04.jpg').write_text('no picture')
    dataset = wrapped(folder, replace=False)
    item = dataset[Draw(0, 3, 0)]
    assert item.value['path'].endswith('03.jpg') and not item.broken
    assert item.used == [(str(folder / '03.jpg'), 'Premature end of JPEG file', 'image')]
    assert not dataset[Draw(0, 3, 0)].used
    with pytest.raises(UserError, match=r'The image .*04.jpg cannot be read \(its content .*\), and nothing may stand'):
        dataset[Draw(0, 4, 0)]


def test_a_transform_that_remembers_earlier_images_is_named(folder, capfd):
    wrapped(folder)
    assert 'mixes in earlier images' not in ''.join(capfd.readouterr())
    wrapped(folder, ('Remember', 'DrawNumbers'))
    assert 'Remember mixes in earlier images of the same worker' in ''.join(capfd.readouterr())


def test_the_dataset_behind_the_wrapper_can_be_asked_and_changed(folder):
    cut(folder / '03.jpg')
    pictures = Pictures(folder)
    dataset = ReproducibleDataset(pictures)
    assert dataset.metainfo['classes'] == ('one', 'two') and len(dataset.pipeline.transforms) == 2
    dataset.pipeline = Compose([{'type': 'ReadFiles'}])  # as hooks do that exchange it during training
    assert len(pictures.pipeline.transforms) == 1 and dataset[Draw(0, 3, 0)].broken
    for several in (ConcatDataset([Pictures(folder), Pictures(folder)]), RepeatDataset(Pictures(folder), 2)):
        several = ReproducibleDataset(several)
        assert len(several) == 2 * SAMPLES and several[Draw(0, SAMPLES + 3, 0)].broken


def test_a_dataset_can_be_sent_to_another_process(folder):
    cut(folder / '03.jpg')
    dataset = wrapped(folder)
    sent = pickle.loads(pickle.dumps(dataset))
    assert sent[Draw(0, 3, 0)].broken and sent.metainfo == dataset.metainfo
    assert torch.equal(sent[Draw(0, 5, 1)].value['inputs'], dataset[Draw(0, 5, 1)].value['inputs'])


def test_a_run_names_and_counts_each_broken_file(folder, tmp_path, capfd):
    Image.new('P', (16, 16)).save(folder / 'masks' / '07.png')
    cut(folder / '03.jpg')
    cut(folder / '05.jpg')
    (folder / 'masks' / '07.png').write_bytes(b'')
    run(folder, tmp_path / 'run')  # 30 samples of 12
    log = capfd.readouterr()
    log = log.out + log.err
    assert log.count('03.jpg (Premature end of JPEG file)') == 1
    assert f'Broken mask skipped: {folder}/masks/07.png (the file is empty)' in log
    assert '2 images and 1 masks were broken and skipped (' in log


def test_too_many_broken_files_stop_the_run(folder, tmp_path):
    cut(folder / '03.jpg')
    with pytest.raises(
        UserError, match=r'\d of \d\d images read are broken, more than max_share=0.01 \(the first: .*03'
    ):
        run(folder, tmp_path / 'run', hook={'min_seen': 20, 'max_share': 0.01})


def test_a_batch_that_cannot_carry_a_report_is_refused_only_where_there_is_one(folder):
    cut(folder / '03.jpg')
    dataset, collate = wrapped(folder), ReportingCollate(list)
    assert len(collate([dataset[Draw(0, 5, 0)]])) == 1
    with pytest.raises(UserError, match='03.jpg cannot be read .* batches of list have no place for a report'):
        collate([dataset[Draw(0, 3, 0)]])
    assert len(ReportingCollate(list, report=False)([dataset[Draw(0, 3, 0)]])) == 1
    batch = ReportingCollate(lambda values: {'n': len(values)})([dataset[Draw(0, 3, 0)], dataset[Draw(0, 5, 0)]])
    assert batch['n'] == 2 and batch[REPORT]['replaced'] == [True, False]
