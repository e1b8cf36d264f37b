"""A headless Chromium for tests: pages at desktop and phone width, and their faults of accessibility."""

import os
import shutil
from contextlib import contextmanager

import pytest

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome')
DESKTOP, PHONE = (1280, 900), (390, 844)  # pixels, width and height
# No connections but those of the page; no sandbox, which is not to be had as root in a container.
FLAGS = (
    *('--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-dev-shm-usage'),
    *('--disable-background-networking', '--disable-component-update', '--disable-sync'),
)


def find_chromium():
    """The path of a Chromium, from the variable CHROMIUM or the programs of the system; None if there is none."""
    return os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, PROGRAMS)), None)


def explain_no_browser():
    """Why pages cannot be tested here, or '' if they can."""
    return '' if find_chromium() else f'no Chromium: none of {", ".join(PROGRAMS)} (apt-get install chromium)'


needs_browser = pytest.mark.skipif(bool(explain_no_browser()), reason=explain_no_browser())


@contextmanager
def open_browser():
    """A headless Chromium that playwright drives; a test that uses it has the marks ``process`` and ``needs_browser``.

    Example::

        with open_browser() as browser, open_page(browser, path.as_uri(), PHONE) as page:
            assert not find_serious_faults(page)
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def open_page(browser, url, size=DESKTOP, **options):
    """A page of a size in pixels; the end fails if the page's own scripts failed.

    Args:
        browser: Of :func:`open_browser`.
        url: Address, such as ``path.as_uri()``.
        size: Width and height in pixels.
        **options: Of playwright's ``new_page``, such as ``offline=True``.
    """
    page = browser.new_page(viewport=dict(zip(('width', 'height'), size)), **options)
    failures = []
    page.on('pageerror', lambda error: failures.append(str(error)))
    page.goto(url)
    yield page
    page.evaluate('0')  # events until here have arrived
    page.close()
    assert not failures, failures


def find_serious_faults(page):
    """Faults of accessibility that axe-core calls serious or critical: their name and the elements concerned."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response['violations']
    return {
        fault['id']: [node['html'] for node in fault['nodes']]
        for fault in found
        if fault['impact'] in ('serious', 'critical')
    }


def is_wider_than_its_window(page):
    """Whether a reader has to scroll sideways."""
    return page.evaluate('document.documentElement.scrollWidth > document.documentElement.clientWidth')
