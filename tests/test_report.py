"""The report: one page that loads nothing, whatever the files are called and whatever is missing."""

import copy
import hashlib
import re
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file

import small_cnn
from browser import PHONE, find_serious_faults, is_wider_than_its_window, needs_browser, open_browser, open_page
from mae_toolkit.apis import build_model, load_config
from mae_toolkit.errors import UserError
from mae_toolkit.report import Bullets, Figure, Listing, NotApplicable, ReportInputs, ReportSource, Section, Table, Text
from mae_toolkit.report.explained import MOST_ROWS, show_explanation
from mae_toolkit.report.page import make_page
from mae_toolkit.report.pictures import STEPS, encode_picture, fit_pictures
from mae_toolkit.report.section import BuiltSection
from mae_toolkit.report.sections import SECTIONS
from mae_toolkit.report.sections.bias import MOST, find_reference
from mae_toolkit.report.writing import build_section, write_report
from tiny import QUICKSTART, ROOT, refuse, run_here

IMAGES = sorted((ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images').glob('*.jpg'))
EVIL = '<img src=x onerror=alert(1)>.jpg'
WHEN = datetime(2026, 1, 2, 3, 4)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp('runs') / 'tiny'
    run_here('train', QUICKSTART, '--work-dir', folder)
    return folder


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Five images, and one that is none and has a name like a tag of HTML."""
    folder = tmp_path_factory.mktemp('photos')
    for path in IMAGES[:5]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / EVIL).write_text('no image')
    return folder


@pytest.fixture(scope='module')
def config(work_dir):
    return next(work_dir.glob('*.py'))


@pytest.fixture(scope='module')
def page(work_dir, config, photos, tmp_path_factory):
    """The page of the run, as the tool writes it."""
    path = tmp_path_factory.mktemp('report') / 'report.html'
    said = run_here('report', config, work_dir, photos, '--out', path, plain=True)
    assert f'skipped {EVIL}' in said and '5 images' in said and '1 image skipped' in said
    return path


class Reader(HTMLParser):
    """Tags with their attributes, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ''
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_tool_writes_the_page(page):
    assert page.read_text().startswith('<!doctype html>')


def test_the_page_loads_nothing_and_a_file_name_is_no_tag(page):
    read = Reader(page.read_text())
    addresses = [value for _, attributes in read.tags for name, value in attributes.items() if name in ('src', 'href')]
    assert len(addresses) > len(SECTIONS) and all(re.match('data:|#', address) for address in addresses)
    assert not read.all('script') and not read.all('link')[1:]
    assert not any(name.startswith('on') for _, attributes in read.tags for name in attributes)
    assert 'url(' not in page.read_text() and '@import' not in page.read_text()
    assert EVIL in read.text  # as text


def test_every_section_is_there_with_a_heading_and_every_picture_has_a_text(page):
    read = Reader(page.read_text())
    assert [one['id'] for one in read.all('section')] == [section.name for section in SECTIONS]
    assert len(read.all('h1')) == 1 and len(read.all('h2')) == len(SECTIONS)
    assert len(read.all('img')) >= 3 and all(one['alt'] for one in read.all('img'))
    assert all(one.get('scope') in ('row', 'col') for one in read.all('th'))


def test_what_it_says_of_the_run_is_what_the_files_say(page, work_dir):
    text = Reader(page.read_text()).text
    assert hashlib.sha256((work_dir / 'epoch_2.pth').read_bytes()).hexdigest() in text
    assert '2 epochs' in text and 'The config is that of the run.' in text
    assert '1 of 6 images could not be read' in text and 'not of a known image format' in text
    assert 'val/loss' in text and 'images/s' in text


def test_a_report_of_ours_is_replaced_and_another_file_is_not(page, config, work_dir, photos, tmp_path):
    only = ('--sections', 'config', '--max-images', 3)
    run_here('report', config, work_dir, photos, '--out', page.with_name('again.html'), *only, plain=True)
    run_here('report', config, work_dir, photos, '--out', page.with_name('again.html'), *only, plain=True)
    other = tmp_path / 'other.html'
    other.write_text('<p>mine</p>')
    assert 'is there already' in refuse('report', config, work_dir, photos, '--out', other, *only, plain=True)
    assert other.read_text() == '<p>mine</p>'
    assert '2 images' in run_here('report', config, work_dir, photos, '--out', other, *only, '--force', plain=True)


def test_mistakes_end_the_report_before_it_is_written(config, work_dir, photos, tmp_path):
    out = tmp_path / 'report.html'

    def sentence(*arguments, out=out):
        return refuse('report', *arguments, '--out', out, plain=True)

    assert 'lost.pth' in sentence(config, tmp_path / 'lost.pth', photos)
    assert 'lost' in sentence(config, work_dir, tmp_path / 'lost')
    assert 'None of 1 image' in sentence(config, work_dir, photos / EVIL)
    assert '.html' in sentence(config, work_dir, photos, out=tmp_path / 'report.pdf')
    assert "'modle'; did you mean model" in sentence(config, work_dir, photos, '--sections', 'modle')
    assert 'neither run.json nor logs' in sentence(config, work_dir, photos, '--run', photos)
    wider = ('--cfg-options', 'model.encoder.embed_dim=48')
    said = sentence(config, work_dir, photos, *wider)
    assert '24' in said and '48' in said
    assert not out.exists()


@pytest.fixture(scope='module')
def source(config, work_dir, photos):
    return ReportSource(config, work_dir, photos)


def test_an_encoder_alone_gets_what_it_allows(source, work_dir, tmp_path):
    state = torch.load(work_dir / 'epoch_2.pth', weights_only=False)['state_dict']
    save_file({k: v for k, v in state.items() if k.startswith('encoder.')}, tmp_path / 'encoder.safetensors')
    inputs = ReportInputs(replace(source, checkpoint=tmp_path / 'encoder.safetensors'))
    built = {section.name: build_section(section, inputs) for section in SECTIONS}
    assert 'decoder' in built['reconstructions'].left_out
    assert '--run' in built['loss'].left_out and '--run' in built['run'].left_out
    assert '--labels' in built['evaluation'].left_out
    assert built['features'].blocks and built['files'].blocks
    assert {name: one.mistake for name, one in built.items() if one.mistake} == {}


def save_untrained(folder, **changes):
    """Config of a small CNN for masked images, without training images, and a checkpoint of it."""
    data = {'type': 'ImageDataset', 'data_root': 'lost', 'pipeline': [{'type': 'CenterCrop', 'size': 32}]}
    cfg = Config(
        {
            'model': {'type': 'MaskedAutoencoder', **copy.deepcopy(small_cnn.CONFIG), **changes},
            'train_dataloader': {'dataset': data},
        }
    )
    torch.save({'state_dict': build_model(cfg).state_dict()}, folder / 'cnn.pth')
    return cfg, folder / 'cnn.pth'


def test_a_cnn_on_16_bit_images_in_memory_has_all_but_attention(tmp_path):
    units = {'type': 'ImagePreprocessor', 'mean': [30000.0], 'std': [9000.0]}
    encoder = small_cnn.CONFIG['encoder'] | {'in_chans': 1}
    cfg, checkpoint = save_untrained(tmp_path, data_preprocessor=units, encoder=encoder)
    pixels = np.random.default_rng(0).integers(0, 2**16, (9, 40, 56), dtype=np.uint16)
    inputs = ReportInputs(ReportSource(cfg, checkpoint, list(pixels)))
    built = {section.name: build_section(section, inputs) for section in SECTIONS}
    assert {name: one.mistake for name, one in built.items() if one.mistake} == {}
    left_out = {name for name, one in built.items() if one.left_out}
    assert left_out == {'attention', 'loss', 'run', 'evaluation', 'bias'}
    assert 'SparseCNN has no attention' in built['attention'].left_out
    assert all(one.blocks for name, one in built.items() if name not in left_out)


def test_a_model_without_pictures_says_so_and_shows_its_features(tmp_path):
    hog = {'hog': {'target': {'type': 'HOGTarget', 'cell': 8}, 'losses': [{'type': 'MaskedL2Loss'}]}}
    cfg, checkpoint = save_untrained(tmp_path, objectives=hog)
    inputs = ReportInputs(ReportSource(cfg, checkpoint, IMAGES[:5]))
    built = {section.name: build_section(section, inputs) for section in SECTIONS}
    for name in ('reconstructions', 'sweep', 'dependence'):
        assert 'hog: HOGTarget' in built[name].left_out
    assert built['features'].blocks and not any(one.mistake for one in built.values())


def test_a_mistake_is_a_sentence_and_a_fault_of_the_code_keeps_its_trace(source, monkeypatch):
    def fail(error):
        def build(inputs):
            raise error

        return Section('x', 'X', build)

    inputs = ReportInputs(source)
    assert build_section(fail(UserError('Give <more>.')), inputs).mistake == 'Give <more>.'
    assert build_section(fail(NotApplicable('It has none.')), inputs).left_out == 'It has none.'
    with pytest.raises(ZeroDivisionError):
        build_section(fail(ZeroDivisionError()), inputs)


def test_images_are_chosen_at_equal_distances_and_counted(source):
    inputs = ReportInputs(replace(source, images=IMAGES[:9], most_images=6))
    sample = inputs.sample(2)
    assert [IMAGES.index(item) for item in sample.items] == [0, 4]  # of 0, 1, 3, 4, 6, 7
    assert sample.note == '2 of 9 images, at equal distances'
    assert inputs.sample(100).note == '6 of 9 images'


def test_labels_give_a_table_of_probes(source, tmp_path):
    labels = tmp_path / 'labels.csv'
    paths = [*IMAGES[:12], *sorted((IMAGES[0].parents[2] / 'dsb2018' / 'images').glob('*'))[:12]]
    labels.write_text('file,label\n' + ''.join(f'{p},{p.parents[1].name}\n' for p in paths))
    section = next(one for one in SECTIONS if one.name == 'evaluation')
    built = build_section(section, ReportInputs(replace(source, labels=labels)))
    assert not built.mistake
    table = built.blocks[0]
    assert table.columns == ('features', 'kNN', 'logistic')
    assert {row[0] for row in table.rows} >= {'level1.mean'} and re.fullmatch(r'\d+\.\d\*?', table.rows[0][1])
    lost = replace(source, labels=tmp_path / 'lost')
    assert 'lost' in build_section(section, ReportInputs(lost)).mistake


def test_images_to_compare_with_are_those_named_or_those_of_the_training(source, tmp_path):
    trained = find_reference(ReportInputs(source))
    names = (IMAGES[0].parents[2] / 'train.txt').read_text().split()
    assert len(trained.images) == MOST and {path.exists() for path in trained.images} == {True}
    assert {str(path.relative_to(path.parents[2])) for path in trained.images} <= set(names)
    assert len(trained.held_out) == 24 and trained.note == '48 images of the training and 24 held-out images'
    named = find_reference(ReportInputs(replace(source, reference=IMAGES[:9])))
    assert list(named.images) == IMAGES[:9] and named.held_out is None
    lost = load_config(source.config, {'train_dataloader.dataset.data_root': str(tmp_path / 'lost')})
    with pytest.raises(NotApplicable, match='--reference'):
        find_reference(ReportInputs(replace(source, config=lost)))


def test_the_bias_section_names_the_least_familiar_images(source):
    section = next(one for one in SECTIONS if one.name == 'bias')
    inputs = ReportInputs(replace(source, images=IMAGES[:8], reference=IMAGES[8:16]))
    built = build_section(section, inputs)
    assert not built.mistake and isinstance(built.blocks[1], Bullets)
    table = built.blocks[-1]
    assert {row[0] for row in table.rows} == {str(path) for path in IMAGES[:8]}
    errors = [float(row[1]) for row in table.rows]
    assert errors == sorted(errors, reverse=True)
    few = build_section(section, ReportInputs(replace(source, images=IMAGES[:3])))
    assert 'Your images: 3 images' in few.mistake and '8 or more' in few.mistake


def noise(width, height, seed=0):
    """A picture that no format makes small."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_the_smallest_format_is_chosen_and_drawings_lose_nothing():
    drawing = Image.new('RGB', (400, 300), 'white')
    drawing.paste((200, 0, 0), (10, 20, 300, 24))
    encoded = encode_picture(drawing)
    assert encoded.quality is None and encoded.note == '' and len(encoded.content) < 500
    photo = encode_picture(Image.open(IMAGES[0]))
    assert photo.quality == STEPS[0][1] and photo.type in ('image/webp', 'image/jpeg') and photo.note == ''
    assert photo.length == len(photo.uri.partition(',')[2])


def test_pictures_are_reduced_until_they_fit_and_the_page_says_so():
    pictures = [noise(700, 100), noise(20, 20, 1)]
    whole = fit_pictures(pictures, 1_000_000)
    total = sum(one.length for one in whole)
    assert not any(one.note for one in whole)
    small = fit_pictures(pictures, total // 2)
    assert sum(one.length for one in small) <= total // 2
    assert 'Reduced from 700 x 100 to' in small[0].note and small[1].note == ''  # the largest goes first
    with pytest.raises(UserError, match='2,000 are left'):
        fit_pictures(pictures, 2000)


def make(blocks, most=10_000_000, **options):
    section = Section('one', 'One', lambda inputs: blocks)
    return make_page('Title', 'Below', [BuiltSection(section, blocks, 1.0, **options)], WHEN, most)


def test_a_page_keeps_within_its_bytes():
    blocks = [Figure(noise(700, 100, seed), 'noise', 'Noise.') for seed in range(3)]
    whole = len(make(blocks))
    page = make(blocks, whole * 2 // 3)
    assert (
        whole // 3 < len(page) <= whole * 2 // 3
        and b'to fit the page' in page
        and b'pictures had to be reduced' in page
    )
    with pytest.raises(UserError, match='texts'):
        make([Text('x' * 5000)], 5000)


def test_texts_of_users_are_harmless_and_any_bytes_can_be_written():
    evil = '</pre><script>alert("1")</script>'
    name = b'caf\xe9'.decode('utf-8', 'surrogateescape')
    table = Table(evil, ('a', evil), [(name, evil)], evil)
    page = make(
        [Text(evil), Bullets([evil]), table, Listing(evil, evil), Figure(noise(2, 2), evil, evil)], mistake=evil
    ).decode()
    assert not Reader(page).all('script') and page.count('&lt;script&gt;') >= 10


def test_numbers_of_an_explanation_are_a_table_with_what_is_left_out():
    class Found:
        title, caption, picture = 'Reach', 'How far it reaches.', noise(4, 4)
        numbers = {'radius': {'0.5': 3.14159, '0.95': 7}, 'size': [8, 9], 'long': list(range(99)), 'nested': [[1], [2]]}

    figure, table = show_explanation(Found, 'receptive-field')
    assert (figure.alt, figure.caption) == ('Reach', 'How far it reaches.')
    assert table.rows == [('radius.0.5', '3.142'), ('radius.0.95', '7'), ('size', '8, 9')] and table.note == ''
    Found.numbers = {str(i): i for i in range(MOST_ROWS + 5)}
    table = show_explanation(Found, 'receptive-field')[1]
    assert len(table.rows) == MOST_ROWS and table.note.startswith('5 more') and 'receptive-field' in table.note


def test_lists_of_an_explanation_are_tables_without_what_is_too_large_for_one():
    class Found:
        title, caption, picture = 'Distance', 'How far.', noise(4, 4)
        numbers = {'blocks': [{'distance': [1.5, 2.25], 'is_window': True, 'grid': [[1]], 'seen': {'a': 1}}]}

    (_, table) = show_explanation(Found, 'attention-distance')
    assert table.caption == 'Blocks' and table.columns == ['no.', 'distance', 'is window']
    assert table.rows == [['1', '1.5, 2.25', 'yes']]
    Found.numbers = {'levels': [{'level': 3, 'stride': 8}]}
    assert show_explanation(Found, 'components')[1].rows == [['3', '8']]
    assert len(show_explanation(Found, 'components', left_out=['levels'])) == 1


def test_the_config_may_be_loaded_already_and_other_settings_are_listed(source, config, tmp_path):
    changed = load_config(config, {'train_dataloader.batch_size': 5})
    out = tmp_path / 'report.html'
    report = write_report(replace(source, config=changed), out, sections=['config'], title='Mine <1>')
    text = Reader(out.read_text()).text
    assert 'Mine <1>' in text and 'train_dataloader.batch_size' in text and 'differs from that of the run' in text
    assert (
        report.bytes == out.stat().st_size and report.seconds.keys() == {'config'} and report.skipped.keys() == {EVIL}
    )


@pytest.mark.process
@needs_browser
def test_a_browser_shows_it_at_every_width_without_a_network_and_prints_it(page):
    with open_browser() as browser:
        for size, options in (((1280, 900), {}), (PHONE, {'color_scheme': 'dark'})):
            with open_page(browser, 'about:blank', size, offline=True, **options) as shown:
                asked = []
                shown.on('request', lambda request, asked=asked: asked.append(request.url.partition(':')[0]))
                shown.goto(page.as_uri())
                assert set(asked) <= {'file', 'data'} and asked.count('file') == 1
                assert not is_wider_than_its_window(shown) and find_serious_faults(shown) == {}
                broken = '[...document.images].filter(one => !one.naturalWidth).length'
                assert shown.evaluate('document.images.length') >= 3 and shown.evaluate(broken) == 0
                shown.keyboard.press('Tab')
                assert shown.evaluate('document.activeElement.className') == 'skip'
                shown.emulate_media(media='print')
                wide = '[...document.images].filter(one => one.getBoundingClientRect().right > innerWidth).length'
                assert shown.evaluate(wide) == 0
                assert shown.pdf(format='A4').startswith(b'%PDF')
