"""What MkDocs runs: pages from the whole repository, pages of the API, and a check of all links at the end."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # MkDocs loads this file by its path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.api import FOLDER, list_documented, list_sources, plan_pages, write_index
from website.link_check import check_links
from website.repository import Repository
from website.site_log import log
from website.symbols import ROOT, Symbols

DOCUMENTS = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'LICENSE')
GUIDES_FIRST = 4  # times the score of another page
ASSETS = ROOT / 'website' / 'assets'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of the API at the end of the navigation."""
    pages = plan_pages(Symbols())
    entries = [{page.name: page.uri} for page in pages]
    config.nav = [*(config.nav or ()), {'API': [f'{FOLDER}/index.md', *entries]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by all pages, under their paths in the repository."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    symbols = Symbols()
    pages = plan_pages(symbols)
    repository = Repository()
    repository.add(DOCUMENTS)
    repository.add(str(path.relative_to(ROOT)) for path in sorted((ROOT / 'docs').rglob('*.md')))
    repository.add(str(path.relative_to(ROOT)) for path in sorted((ROOT / 'docs').rglob('*.ipynb')))
    repository.add(sorted(list_sources(pages, symbols, list_documented(pages))))
    texts = {page.uri: page.write() for page in pages} | {f'{FOLDER}/index.md': write_index(pages)}
    for uri, text in (repository.pages | texts).items():
        files.append(File.generated(config, uri, content=text))
    for path in sorted(repository.assets):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for asset in sorted(ASSETS.iterdir()):
        files.append(File.generated(config, f'assets/{asset.name}', abs_src_path=str(asset)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    """Let a search find the guides before the entries of the API."""
    if page.file.src_uri.startswith('docs/'):
        page.meta.setdefault('search', {'boost': GUIDES_FIRST})


def on_post_build(config: MkDocsConfig) -> None:
    """Warn about every link of the built pages that leads nowhere."""
    links = check_links(Path(config.site_dir).resolve())
    for link in links.broken:
        log.warning('broken link in %s', link)
    log.info('%d pages, %d links within the site, %d broken', links.pages, links.checked, len(links.broken))
