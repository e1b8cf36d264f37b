"""The page of mae-toolkit demo in a headless Chromium, at desktop and phone width."""

import contextlib
import os
import re
import socket
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import (
    DESKTOP,
    PHONE,
    find_serious_faults,
    is_wider_than_its_window,
    needs_browser,
    open_browser,
    open_page,
)
from demo_models import make_checkpoint, make_photos, write_files
from mae_toolkit.datasets import ImageLimits
from mae_toolkit.demo import Sources, load_models, page, serve, views
from tiny import new_engine_state

pytest.importorskip('gradio')
PlaywrightTimeoutError = pytest.importorskip('playwright.sync_api').TimeoutError
pytestmark = [pytest.mark.process, needs_browser]
LIMITS = ImageLimits(1 << 25, 100_000)
PATIENCE = 120_000  # milliseconds: a canvas without a graphics card is slow on a busy machine
UPLOAD, RESULT = '#upload input[type=file]', '#reconstruction .numbers'


class Served:
    """A page that is served, the browser, and the addresses to which this process connects meanwhile."""

    def __init__(self, address, browser, files, connections):
        self.address, self.browser, self.files, self.connections = address, browser, files, connections

    @contextlib.contextmanager
    def open(self, size=DESKTOP):
        with open_page(self.browser, self.address, size) as view:
            view.set_default_timeout(PATIENCE)
            yield view


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    folder, connections = tmp_path_factory.mktemp('served'), []
    (folder / 'photos').mkdir()
    files = write_files(folder)
    for name, side in {'noise.bmp': 300, 'larger.bmp': 1300}.items():
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)).save(folder / name)
    with new_engine_state():
        sources = Sources(make_checkpoint(folder / 'whole.pth'), images=make_photos(folder / 'photos'), limits=LIMITS)
        models = load_models(sources)

    def connect(own, address, _connect=socket.socket.connect):
        connections.append(address)
        return _connect(own, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, 'connect', connect)
        with serve(models) as address, open_browser() as browser:
            yield Served(address, browser, files, connections)


def give(view, path, what=RESULT):
    """Give a file, and wait until it is shown, or why not."""
    view.set_input_files(UPLOAD, path)
    view.wait_for_function("name => document.querySelector('#status').innerText.includes(name)", arg=path.name)
    view.wait_for_selector(what)
    view.wait_for_function("() => !document.querySelector('.pending')")


def wait_for_change(view, before):
    """Wait for numbers other than these, and return them."""
    view.wait_for_function(
        "before => { const e = document.querySelector('#reconstruction .numbers');"
        ' return e && e.innerText !== before && !document.querySelector("#reconstruction .pending"); }',
        arg=before,
    )
    return view.inner_text(RESULT)


def test_an_image_is_reconstructed_without_any_other_connection(served):
    asked = []
    with served.open() as view:
        view.on('request', lambda request: asked.append(request.url))
        view.reload()
        give(view, served.files / 'color.png')
        first = view.inner_text(RESULT)
        assert '18 of 24 (75%)' in first and view.locator('#reconstruction img').count() == 5
        assert not find_serious_faults(view) and not is_wider_than_its_window(view)
        view.get_by_role('slider').focus()
        for _ in range(25):
            view.keyboard.press('ArrowLeft')  # 0.75 to 0.5
        view.wait_for_selector('#reconstruction >> text=12 of 24 (50%)')
    assert {re.match(r'\w+:(//[^/]*)?', url)[0] for url in asked} <= {served.address.rstrip('/'), 'data:', 'blob:'}
    assert {address[0] for address in served.connections if isinstance(address, tuple)} <= {'127.0.0.1'}


def test_what_is_painted_is_hidden(served):
    with served.open((420, 900)) as view:  # a small canvas, as it is drawn in software
        give(view, served.files / 'color.png')
        view.get_by_label('painted by hand').check()
        view.wait_for_selector('#reconstruction [role=alert]')
        assert 'Nothing is hidden yet' in view.inner_text('#reconstruction')
        paint(view)
        painted = view.inner_text(RESULT)
        assert 2 <= int(re.search(r'(\d+) of 24', painted)[1]) <= 8, painted
        assert not find_serious_faults(view)


def paint(view):
    """Paint a short stroke in the middle of the canvas, again if it did not draw yet: it says nowhere when it does."""
    view.locator('#paint canvas').first.scroll_into_view_if_needed()
    box = view.locator('#paint canvas').first.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    for _ in range(10):
        view.mouse.move(x - 40, y)
        view.mouse.down()
        view.mouse.move(x + 40, y, steps=3)
        view.mouse.up()
        with contextlib.suppress(PlaywrightTimeoutError):
            view.wait_for_selector(RESULT, timeout=20_000)  # a further stroke begins anew
            return
    raise AssertionError('nothing was painted')


def test_what_is_no_image_gets_a_message_and_the_page_goes_on(served, capfd):
    with served.open(PHONE) as view:
        for name, words in {
            'notes.txt': 'cannot be read',
            'huge.png': '20,000 x 20,000',
            'five.tif': '5 chan',
            'noise.bmp': '100,000',
        }.items():
            give(view, served.files / name, '#status [role=alert]')
            assert words in view.inner_text('#status') and not find_serious_faults(view)
        view.set_input_files(UPLOAD, served.files / 'larger.bmp')  # 5 MB: it is not even uploaded
        view.wait_for_selector('text=/exceeds|too large|maximum/i')
        give(view, served.files / 'deep.png')
        assert '16 bits' in view.inner_text('#status') and not is_wider_than_its_window(view)
    assert 'Traceback' not in ''.join(capfd.readouterr())


def test_tabs_show_features_nearest_images_and_anomalies_on_a_phone(served):
    with served.open(PHONE) as view:
        give(view, served.files / 'photos' / '1.png')
        for tab, words in {
            'Features': 'Places of the same color',
            'Nearest images': '1.png',
            'Anomalies': 'hard to',
        }.items():
            if not view.get_by_role('tab', name=tab).is_visible():
                view.locator('.overflow-menu > button').click()
                view.locator('.overflow-dropdown button', has_text=tab).click()
            else:
                view.get_by_role('tab', name=tab).click()
            view.wait_for_selector(f'text={words}')
            assert not find_serious_faults(view) and not is_wider_than_its_window(view)
        assert view.locator('footer').is_hidden()


def test_visitors_do_not_disturb_each_other(served):
    with served.open() as one, served.open() as two:
        give(one, served.files / 'color.png')
        give(two, served.files / 'photos' / '3.png')
        alone = one.inner_text(RESULT), two.inner_text(RESULT)
        assert alone[0] != alone[1]
        for seed in ('5', '0'):  # of both at the same time, each there and back
            before = one.inner_text(RESULT), two.inner_text(RESULT)
            for view in (one, two):
                view.locator('#seed input').fill(seed)
                view.locator('#seed input').press('Enter')
            for view, text in zip((one, two), before, strict=True):
                wait_for_change(view, text)
        assert (one.inner_text(RESULT), two.inner_text(RESULT)) == alone


def test_a_failure_is_told_without_a_trace(served, monkeypatch, capfd):
    def fail(*args):
        raise RuntimeError('not for visitors')

    monkeypatch.setattr(views, 'show_drawn', fail)
    with served.open() as view:
        give(view, served.files / 'color.png', '#reconstruction [role=alert]')
        assert view.inner_text('#reconstruction [role=alert]') == page.FAILED
        assert 'not for visitors' not in view.content()
    assert 'RuntimeError: not for visitors' in capfd.readouterr().err


def test_uploads_lie_in_a_private_folder(served):
    folder = Path(os.environ['GRADIO_TEMP_DIR'])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with served.open() as view:
        give(view, served.files / 'gray.png')
        assert list(folder.rglob('gray.png'))


def test_without_a_decoder_the_page_says_so_and_nothing_is_left_behind(tmp_path):
    with new_engine_state():
        models = load_models(Sources(make_checkpoint(tmp_path / 'encoder.pth', decoder=False), device='cpu'))
    text = str(page.build_page(models).config)
    assert 'Nothing can be reconstructed' in text and '--images FOLDER' in text and '--anomaly FILE' in text
    before = os.environ.get('GRADIO_TEMP_DIR')
    with serve(models):
        folder = Path(os.environ['GRADIO_TEMP_DIR'])
        assert folder.is_dir()
    assert not folder.exists() and os.environ.get('GRADIO_TEMP_DIR') == before
