"""The site: all pages are built, links and names in docstrings lead somewhere, and everyone can read it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock

from browser import (
    DESKTOP,
    PHONE,
    find_serious_faults,
    is_wider_than_its_window,
    needs_browser,
    open_browser,
    open_page,
)
from website.api import list_documented, list_sources, plan_pages
from website.dialect import to_site
from website.docstrings import to_markdown
from website.link_check import check_links
from website.notebook import to_page
from website.pictures import PICTURES
from website.repository import Repository
from website.symbols import ROOT, Symbols

pytest.importorskip('mkdocs')
EXTERNAL = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\s(?:src|href)="(?:https?:)?//[^"]*"')
# Pages of each kind: the front, wide tables, pictures, code in lists, the API.
LOOKED_AT = {
    (DESKTOP, 'dark'): ('docs/continue', 'api/models.encoders'),
    (PHONE, 'light'): ('', 'docs/choosing', 'docs/design', 'CONTRIBUTING', 'api/models.encoders'),
}
DOCUMENTS = [
    *ROOT.glob('*.md'),
    *ROOT.glob('docs/**/*.md'),
    *ROOT.glob('projects/*/*.md'),
    *ROOT.glob('configs/**/*.md'),
]
ELEMENTS = re.compile(r'<(h[1-6]|li|ul|ol|table|tr|blockquote|img|a|pre|hr|strong|em)\b')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The built site; its warnings are errors. Built once, also where the tests run in several processes."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if 'PYTEST_XDIST_WORKER' in os.environ else folder) / 'site'
    with FileLock(f'{folder}.lock'):
        if not folder.exists():
            command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder]
            env = os.environ | {'NO_MKDOCS_2_WARNING': '1'}
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
            if done.returncode:
                shutil.rmtree(folder, ignore_errors=True)
                pytest.fail(done.stdout + done.stderr)
    return folder


@pytest.fixture(scope='module')
def symbols():
    return Symbols()


@pytest.mark.slow
@pytest.mark.process
def test_every_document_is_a_page_and_every_link_leads_somewhere(site):
    links = check_links(site)
    assert links.pages > 150 and links.checked > 10000 and not links.broken
    for path in (ROOT / 'docs').rglob('*.md'):
        name = path.relative_to(ROOT).with_suffix('')
        name = name.parent if name.name in ('README', 'index') else name
        assert (site / name / 'index.html').is_file(), name


@pytest.mark.slow
@pytest.mark.process
def test_pages_load_nothing_from_elsewhere_and_show_no_comments(site):
    for path in site.rglob('*.html'):
        text = path.read_text()
        assert not EXTERNAL.findall(text), path
        page = re.search(r'<article.*</article>', text, re.S)[0]
        assert not re.search('<!--|&lt;!--', re.sub(r'<code\b.*?</code>', '', page, flags=re.S)), path


@pytest.mark.slow
@pytest.mark.process
def test_pages_have_names_of_their_own_and_a_search_finds_no_sources(site):
    pages = [path.read_text() for path in site.rglob('*.html') if path.name != '404.html']
    titles = Counter(re.search('<title>(.*?)</title>', text)[1] for text in pages)
    assert titles.most_common(1)[0][1] == 1, titles.most_common(3)
    assert all('<h1' in text and 'md-logo' in text for text in pages)
    found = {entry['location'] for entry in json.loads((site / 'search' / 'search_index.json').read_text())['docs']}
    assert 'docs/explain/' in found and not [place for place in found if '#file-' in place or '.py/' in place]


@pytest.mark.slow
@pytest.mark.process
def test_what_is_exported_has_its_entry_and_roles_are_links(site):
    text = (site / 'api' / 'models.encoders' / 'index.html').read_text()
    assert 'id="mae_toolkit.models.encoders.vit.ViT"' in text and ':class:`' not in text
    assert re.search(r'<a [^>]*href="[^"]*models/cells\.py/#__codelineno-0-\d+"><code>Packing</code>', text)


@pytest.fixture(scope='module')
def address(site):
    """Where the site is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


@pytest.mark.slow
@pytest.mark.process
@needs_browser
def test_everyone_can_read_and_search_the_pages(address):
    """On a desktop and a phone, in the light and in the dark."""
    faults = {}
    with open_browser() as browser:
        for (size, scheme), names in LOOKED_AT.items():
            for name in names:
                with open_page(browser, f'{address}{name}', size, color_scheme=scheme) as page:
                    faults[name, scheme] = find_serious_faults(page)
                    faults[name, size] = is_wider_than_its_window(page)
        with open_page(browser, address) as page:
            page.set_default_timeout(0)
            page.fill('.md-search__input', 'BlockMasking')
            page.wait_for_selector('.md-search-result__link[href*="models.maskings"]')
            faults['search'] = find_serious_faults(page)
    assert not {place: found for place, found in faults.items() if found}


def count_elements(html):
    html = re.sub(r'<div class="highlight">.*?</div>|<pre>.*?</pre>', '<pre>', html, flags=re.S)
    return Counter(ELEMENTS.findall(re.sub(r'<!--.*?-->', '', html, flags=re.S)))


@pytest.mark.parametrize('page', DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_the_blocks_that_a_reader_of_plain_markdown_sees(page):
    """As CommonMark says what lies in a list, in a table and in a block of code."""
    markdown, markdown_it = pytest.importorskip('markdown'), pytest.importorskip('markdown_it')
    extensions = ['attr_list', 'tables', 'md_in_html', 'pymdownx.highlight', 'pymdownx.superfences']
    ours = markdown.markdown(to_site(page.read_text()), extensions=extensions)
    theirs = markdown_it.MarkdownIt('commonmark', {'html': True}).enable('table').render(page.read_text())
    assert count_elements(ours) == count_elements(theirs)


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there' / 'index.html').write_text('<h2 id="here">x</h2><a href="../picture.png">x</a>')
    good = '<a href="there/#here">a</a> <a href="#top">b</a><p id="top"></p> <a href="https://example.org/x">c</a>'
    (tmp_path / 'index.html').write_text(good + '<a href="there/#gone">d</a><img alt="" src="lost.png">')
    links = check_links(tmp_path)
    assert sorted(links.broken) == [
        'index.html: lost.png',
        'index.html: there/#gone',
        'there/index.html: ../picture.png',
    ]
    assert links.pages == 2 and links.checked == 5 and links.external == {'https://example.org/x'}


def test_roles_become_links_to_the_api_or_to_the_source(symbols):
    scope, documented = (
        'mae_toolkit.models.encoders.encoder.Encoder',
        {'mae_toolkit.models.encoders.encoder.Encoder.stages'},
    )
    line = symbols.find('mae_toolkit.models.cells.Packing').line
    doc = 'See :meth:`stages`, :class:`~mae_toolkit.models.cells.Packing`, :func:`torch.compile` and ``x``::'
    assert to_markdown(doc, scope, symbols, documented) == (
        'See [`stages`][mae_toolkit.models.encoders.encoder.Encoder.stages], '
        f'[`Packing`](../mae_toolkit/models/cells.py.md#__codelineno-0-{line}), `torch.compile` and `x`:'
    )


@pytest.mark.parametrize('role', ['Encodre', '~mae_toolkit.models.cells.Packnig', 'Encoder.stagse', 'nowhere.to_be'])
def test_a_role_that_refers_to_nothing_is_refused(symbols, role):
    with pytest.raises(LookupError, match='nothing is called'):
        to_markdown(f':class:`{role}`', 'mae_toolkit.models.encoders.encoder.Encoder', symbols, set())


def test_every_role_of_the_package_refers_to_something(symbols):
    """Also those whose docstrings have no entry on the site."""
    open_scopes, count = list(symbols.modules.values()), 0
    while open_scopes:
        scope = open_scopes.pop()
        open_scopes += scope.members.values()
        count += 1
        to_markdown(scope.doc, scope.path, symbols, set())
    assert count > 5000


def test_exported_parts_are_documented_once(symbols):
    pages = plan_pages(symbols)
    entries = [entry.path for page in pages for entry in page.entries]
    assert len(entries) == len(set(entries)) and pages[0].name == 'apis'
    for package in ('apis', 'datasets', 'engine.hooks', 'models', 'models.maskings', 'visualization'):
        module = symbols.modules[f'mae_toolkit.{package}']
        found = [symbols.find_member(module, name) for name in module.exports]
        assert {symbol.path for symbol in found if symbol.path not in symbols.modules} <= set(entries), package
    documented = list_documented(pages)
    assert all(Path(ROOT, file).is_file() for file in list_sources(pages, symbols, documented))


def test_links_to_sources_folders_and_notebooks_lead_to_their_pages(tmp_path):
    picture = {'output_type': 'display_data', 'data': {'image/png': 'A' * 5000}}  # longer than any name of a file
    drawn = {'cell_type': 'code', 'source': ['draw()'], 'outputs': [picture]}
    files = {
        'docs/a.md': '[s](../pkg/x.py) [f](../configs/mae) [c](../configs/mae/b.py) [p](p.png) `[no](x.py)`',
        'docs/b.md': '# B\n\n[n](t.ipynb) <img src="data:image/png;base64,AAAA">',
        'pkg/x.py': 'x = """~~~"""\n',
        'docs/x.py': '',
        'configs/mae/b.py': 'b = 1\n',
        'configs/mae/README.md': '# MAE\n\n[b](b.py)\n',
        'docs/p.png': '',
        'docs/t.ipynb': json.dumps({'cells': [{'cell_type': 'markdown', 'source': ['# T']}, drawn]}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    repository = Repository(tmp_path)
    repository.add(['docs/a.md', 'docs/b.md'])
    folder = '../configs/mae/README.md'
    assert repository.pages['docs/a.md'] == (
        f'# docs/a.md\n\n[s](../pkg/x.py.md) [f]({folder}) [c]({folder}#file-b-py) [p](p.png) `[no](x.py)`\n'
    )
    assert repository.pages['docs/b.md'] == '# B\n\n[n](t.md) <img src="data:image/png;base64,AAAA">\n'
    assert repository.assets == {'docs/p.png', 'docs/t.ipynb'}
    assert set(repository.pages) == {'docs/a.md', 'docs/b.md', 'docs/t.md', 'pkg/x.py.md', 'configs/mae/README.md'}
    assert '~~~~python\nx = """~~~"""\n~~~~\n' in repository.pages['pkg/x.py.md']
    assert '[b](README.md#file-b-py)' in repository.pages['configs/mae/README.md']
    assert '## b.py {#file-b-py data-search-exclude=""}' in repository.pages['configs/mae/README.md']


def test_a_notebook_is_a_page(tmp_path):
    path = tmp_path / 'tour.ipynb'
    output = '{"output_type": "stream", "text": ["2\\n"]}'
    path.write_text(
        '{"cells": [{"cell_type": "markdown", "source": ["# Tour\\n", "\\n", "Text"]},'
        f'{{"cell_type": "code", "source": ["print(2)"], "outputs": [{output}]}}]}}'
    )
    page = to_page(path)
    assert page.startswith('# Tour\n\nText\n') and page.endswith('~~~~python\nprint(2)\n~~~~\n\n~~~~text\n2\n~~~~\n')
    assert '<a href="../tour.ipynb" download>' in page
    shown = '{"output_type": "display_data", "data": {"image/jpeg": "QUJD\\n", "text/plain": "a picture"}}'
    text = path.read_text().replace('"source": ["print(2)"]', '"metadata": {"alt": "A <cell>"}, "source": ["draw()"]')
    path.write_text(text.replace(output, shown))
    assert to_page(path).endswith('draw()\n~~~~\n\n<img alt="A &lt;cell&gt;" src="data:image/jpeg;base64,QUJD">\n')


@pytest.mark.parametrize('name', PICTURES)
def test_the_drawings_are_those_of_the_script(name):
    assert (ROOT / name).read_text() == PICTURES[name]()


def test_numbers_of_the_page_that_chooses_stand_on_the_pages_that_it_links():
    page = (ROOT / 'docs' / 'choosing.md').read_text()
    linked = {ROOT / 'docs' / name for name in re.findall(r'\]\(([\w./]+\.md)', page)}
    known = {number for path in linked for number in re.findall(r'\d+\.\d+', path.read_text())}
    for line in page.splitlines():
        numbers = re.findall(r'(?<![-\w.])\d+\.\d+(?![\w.]*-)', line)
        whole = [int(number) for number in re.findall(r'(?<![\d.])\d{3,}(?![\d.])', line)]
        known |= {
            f'{dense / masked:.1f}' for masked in whole for dense in whole if masked
        }  # the column that divides two others
        assert set(numbers) <= known, line


def test_the_integration_builds_the_site():
    makefile = (ROOT / 'Makefile').read_text()
    assert re.search(
        r'^docs: .*\n\t.*mkdocs build --strict\n\t@echo .*http.server .*--directory build/site', makefile, re.M
    )
    assert '- run: make docs\n' in (ROOT / '.github' / 'workflows' / 'ci.yml').read_text()
