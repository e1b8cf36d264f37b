"""Broken files of datasets of other libraries are skipped, named and counted."""

import os
import pickle

import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose, ConcatDataset, RepeatDataset
from PIL import Image

from mae_toolkit.datasets import BrokenImageError
from mae_toolkit.datasets.broken_files import BrokenMaskError, SampleFile, explain_failure
from mae_toolkit.datasets.reproducible import REPORT_KEY, ReportingCollate, ReproducibleDataset, SampleKey
from mae_toolkit.errors import UserError
from pictures import SAMPLES, Pictures, cut, make_pictures, run, wrapped


@pytest.fixture
def folder(tmp_path):
    return make_pictures(tmp_path)


def test_a_cut_off_jpeg_is_replaced_every_time_and_whole_files_are_checked_once(folder, monkeypatch):
    cut(folder / '03.jpg')
    dataset = wrapped(folder)
    for place in (0, 1):
        item = dataset[SampleKey(0, 3, place)]
        assert item.value['path'].endswith('04.jpg')
        assert item.broken == [(str(folder / '03.jpg'), 'Premature end of JPEG file', 'image')] and not item.damaged
    monkeypatch.setattr('mae_toolkit.datasets.broken_files.check_jpeg', lambda file: pytest.fail('again'))
    assert not dataset[SampleKey(0, 4, 2)].broken
    assert 'path' in dataset[4]  # by index alone: as the dataset makes it


BROKEN = {
    'text': (lambda path: path.write_text('no picture'), 'its content is not of a known image format'),
    'empty': (lambda path: path.write_bytes(b''), 'the file is empty'),
    'gone': (lambda path: path.unlink(), 'No such file or directory'),
    'folder': (lambda path: (path.unlink(), path.mkdir()), 'it is not a regular file'),
}


@pytest.mark.parametrize('change, reason', BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize('what', ['image', 'mask'])
def test_a_file_that_cannot_be_read_is_named(folder, change, reason, what):
    mask = folder / 'masks' / '05.png'
    Image.new('P', (16, 16)).save(mask)
    dataset = wrapped(folder)
    path = mask if what == 'mask' else folder / '05.jpg'
    change(path)
    item = dataset[SampleKey(0, 5, 0)]
    assert item.broken == [(str(path), reason, what)] and item.value['path'].endswith('06.jpg')


def test_a_png_that_opencv_alone_refuses_is_named(folder):
    path = folder / '05.png'
    Image.effect_noise((64, 64), 50).save(path)
    data = bytearray(path.read_bytes())
    data[-16] ^= 255  # of the checksum of its pixels
    path.write_bytes(data)
    error = explain_failure(
        SampleFile(str(path), BrokenMaskError), AttributeError("'NoneType' has no attribute 'shape'")
    )
    assert isinstance(error, BrokenMaskError) and error.reason == 'OpenCV cannot decode it'


def test_a_file_that_mmcv_cannot_decode_is_named(folder):
    path = folder / '05.tif'
    Image.new('F', (16, 16)).save(path)
    with pytest.raises(AssertionError) as failure:
        LoadImageFromFile()({'img_path': str(path)})
    error = explain_failure(SampleFile(str(path), BrokenImageError), failure.value)
    assert "MMCV's image reader cannot decode it" in str(error)


def test_a_pipe_is_not_waited_for(folder):
    (folder / '05.jpg').unlink()
    os.mkfifo(folder / '05.jpg')
    item = wrapped(folder)[SampleKey(0, 5, 0)]
    assert item.broken == [(str(folder / '05.jpg'), 'it is not a regular file', 'image')]


def test_a_path_elsewhere_is_not_judged(tmp_path):
    assert explain_failure(SampleFile(str(tmp_path / 'x.jpg'), BrokenImageError), RuntimeError('no connection')) is None


def test_a_failure_of_a_transform_stays_as_it_is(folder):
    with pytest.raises(KeyError, match='gt_boxes'):
        wrapped(folder, ('ReadFiles', 'FailAt', 'DrawNumbers'))[SampleKey(0, 2, 0)]
    (folder / '02.jpg').rename(folder / '02.jpg')
    assert wrapped(folder, ('ReadFiles', 'DrawNumbers'))[SampleKey(0, 2, 0)].value['path'].endswith('02.jpg')


def test_a_sample_taken_in_place_of_another_is_named_too(folder):
    """MMEngine itself takes another one at random where a pipeline finds nothing of use."""
    for i in range(1, SAMPLES - 1):
        cut(folder / f'{i:02d}.jpg')
    item = wrapped(folder, ('LeaveOut', 'ReadFiles', 'DrawNumbers'))[SampleKey(0, 0, 0)]
    assert item.value['path'].endswith('11.jpg') and item.broken


def test_many_broken_files_in_a_row_end_in_a_sentence(folder):
    for i in range(SAMPLES):
        cut(folder / f'{i:02d}.jpg')
    with pytest.raises(UserError, match=r'3 samples in a row could not be read, from .*07.jpg \(Premature .*09.jpg'):
        wrapped(folder, max_tries=2)[SampleKey(0, 7, 0)]


def test_what_is_evaluated_is_not_replaced(folder):
    cut(folder / '03.jpg')
    (folder / '04.jpg').write_text('no picture')
    dataset = wrapped(folder, replace_broken=False)
    item = dataset[SampleKey(0, 3, 0)]
    assert item.value['path'].endswith('03.jpg') and not item.broken
    assert item.damaged == [(str(folder / '03.jpg'), 'Premature end of JPEG file', 'image')]
    assert not dataset[SampleKey(0, 3, 0)].damaged
    with pytest.raises(UserError, match=r'The image .*04.jpg cannot be read \(its content .*\), and samples are not'):
        dataset[SampleKey(0, 4, 0)]


def test_a_transform_that_remembers_earlier_images_is_named(folder, monkeypatch):
    said = []
    monkeypatch.setattr('mae_toolkit.datasets.reproducible.print_log', lambda text, *_: said.append(text))
    wrapped(folder)
    assert not said
    wrapped(folder, ('Remember', 'DrawNumbers'))
    assert len(said) == 1 and said[0].startswith('Remember mixes in earlier images of the same worker')


def test_the_dataset_behind_the_wrapper_can_be_asked_and_changed(folder):
    cut(folder / '03.jpg')
    pictures = Pictures(folder)
    dataset = ReproducibleDataset(pictures)
    assert dataset.metainfo['classes'] == ('one', 'two') and len(dataset.pipeline.transforms) == 2
    dataset.pipeline = Compose([{'type': 'mae_toolkit.ReadFiles'}])  # as hooks do that exchange it during training
    assert len(pictures.pipeline.transforms) == 1 and dataset[SampleKey(0, 3, 0)].broken
    for several in (ConcatDataset([Pictures(folder), Pictures(folder)]), RepeatDataset(Pictures(folder), 2)):
        several = ReproducibleDataset(several)
        assert len(several) == 2 * SAMPLES and several[SampleKey(0, SAMPLES + 3, 0)].broken


def test_a_dataset_can_be_sent_to_another_process(folder):
    cut(folder / '03.jpg')
    dataset = wrapped(folder)
    sent = pickle.loads(pickle.dumps(dataset))
    assert sent[SampleKey(0, 3, 0)].broken and sent.metainfo == dataset.metainfo
    assert torch.equal(sent[SampleKey(0, 5, 1)].value['inputs'], dataset[SampleKey(0, 5, 1)].value['inputs'])


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
    assert '2 images and 1 mask were broken and skipped (' in log


def test_too_many_broken_files_stop_the_run(folder, tmp_path):
    cut(folder / '03.jpg')
    with pytest.raises(
        UserError, match=r'\d of \d\d images read are broken, more than max_share=0.01 \(the first: .*03'
    ):
        run(folder, tmp_path / 'run', hook={'min_seen': 20, 'max_share': 0.01})


def test_a_batch_that_cannot_carry_a_report_is_refused_only_where_there_is_one(folder):
    cut(folder / '03.jpg')
    dataset, collate = wrapped(folder), ReportingCollate(list)
    assert len(collate([dataset[SampleKey(0, 5, 0)]])) == 1
    with pytest.raises(UserError, match='03.jpg cannot be read .* in batches of type list'):
        collate([dataset[SampleKey(0, 3, 0)]])
    assert len(ReportingCollate(list, report=False)([dataset[SampleKey(0, 3, 0)]])) == 1
    batch = ReportingCollate(lambda values: {'n': len(values)})(
        [dataset[SampleKey(0, 3, 0)], dataset[SampleKey(0, 5, 0)]]
    )
    assert batch['n'] == 2 and batch[REPORT_KEY]['replaced'] == [True, False]
