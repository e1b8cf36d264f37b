"""The browser of the tests finds what it is asked for."""

import pytest

from browser import PHONE, find_serious_faults, is_wider_than_its_window, needs_browser, open_browser, open_page

pytestmark = [pytest.mark.process, needs_browser]
GOOD = '<!doctype html><html lang="en"><title>t</title><main><h1>t</h1><p>text</p></main></html>'


def test_faults_and_failing_scripts_are_found(tmp_path):
    good, bad, wide, failing = (tmp_path / f'{name}.html' for name in ('good', 'bad', 'wide', 'failing'))
    good.write_text(GOOD)
    bad.write_text(GOOD.replace('<p>', '<p style="color: #ccc"><img src="x.png">'))
    wide.write_text(GOOD.replace('<p>', '<p style="width: 900px">'))
    failing.write_text(GOOD.replace('<p>', '<script>nothing()</script><p>'))
    with open_browser() as browser:
        with open_page(browser, good.as_uri(), PHONE) as page:
            assert find_serious_faults(page) == {} and not is_wider_than_its_window(page)
        with open_page(browser, bad.as_uri()) as page:
            assert find_serious_faults(page).keys() == {'color-contrast', 'image-alt'}
        with open_page(browser, wide.as_uri(), PHONE) as page:
            assert is_wider_than_its_window(page)
        with pytest.raises(AssertionError, match='nothing is not defined'), open_page(browser, failing.as_uri()):
            pass
