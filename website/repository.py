"""Pages of the repository: the documents, and whatever else they link to."""

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from website.dialect import sub_outside_code, to_site
from website.notebook import to_page
from website.symbols import ROOT

LINK = re.compile(r'(?P<before>\]\(|(?:src|href)=")(?P<target>[^)\s"#]+)(?P<anchor>#[^)\s"]*)?(?P<after>\)|")')
PICTURES = ('.png', '.jpg', '.svg', '.gif')
LANGUAGES = {'.py': 'python', '.yaml': 'yaml', '.yml': 'yaml', '.toml': 'toml', '.sh': 'bash', '.md': 'markdown'}
HEADING = re.compile(r'^# ', re.M)
FOLDERS = ('configs', 'projects')  # their files stand on the page of their folder
HEAD = '---\nsearch:\n  exclude: true\n---\n\n'  # sources are not what one searches for


class Repository:
    """Documents and sources as pages, each under its own path, so that links between them stay as they are.

    A linked folder becomes a page with its README and its files, a linked source a page with its text.

    Args:
        root: Folder of the repository.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.pages: dict[str, str] = {}  # Markdown by path
        self.assets: set[str] = set()  # pictures and notebooks by path

    def add(self, paths: Iterable[str]) -> None:
        """Add documents or sources, and what they link to."""
        for path in paths:
            self._place(path)

    def _place(self, path: str) -> str:
        """Make a page of a file or folder of the repository; return the page's path, with an anchor if it needs one."""
        file = self.root / path
        if path.startswith(FOLDERS) and file.is_file() and file.name != 'README.md':
            folder = self._place(posixpath.dirname(path))
            return f'{folder}#{anchor_of(file.name)}'
        if file.suffix in PICTURES:
            self.assets.add(path)
            return path
        place = place_of(path, file)
        if place not in self.pages:
            self.pages[place] = ''  # links may go in circles
            self.pages[place] = self._write(path, file)
        return place

    def _write(self, path: str, file: Path) -> str:
        if file.is_dir() or path.startswith(FOLDERS):
            return self._write_folder(file if file.is_dir() else file.parent)
        if file.suffix == '.ipynb':
            self.assets.add(path)
            return self._follow(to_page(file), posixpath.dirname(path))
        if file.suffix == '.md':
            text = to_site(file.read_text())
            title = '' if HEADING.search(text) else f'# {path}\n\n'  # a table that a tool has written
            return title + self._follow(text, posixpath.dirname(path))
        return f'{HEAD}# {path}\n\n{fence(file)}'

    def _write_folder(self, folder: Path) -> str:
        """Write the page of a folder: its README, its folders and its files."""
        path = str(folder.relative_to(self.root))
        readme = folder / 'README.md'
        text = to_site(readme.read_text()) if readme.exists() else f'{HEAD}# {path}\n'
        parts = [self._follow(text, path)]
        inner = sorted(item for item in folder.iterdir() if item.name not in ('README.md', '__pycache__'))
        links = [
            f'- [{item.name}]({self._relative(self._place(f"{path}/{item.name}"), path)})'
            for item in inner
            if item.is_dir()
        ]
        parts += ['\n'.join(links)] if links else []
        parts += [
            f'## {item.name} {{#{anchor_of(item.name)} data-search-exclude=""}}\n\n{fence(item)}'
            for item in inner
            if item.is_file()
        ]
        return '\n\n'.join(parts) + '\n'

    def _follow(self, text: str, folder: str) -> str:
        """Turn links to files of the repository into links to their pages."""

        def replace(match: re.Match[str]) -> str:
            if urlsplit(match['target']).scheme:
                return match[0]
            target = posixpath.normpath(posixpath.join(folder, match['target']))
            if target.startswith('..') or not (self.root / target).exists():
                return match[0]  # MkDocs names what is missing
            place, _, anchor = self._place(target).partition('#')
            anchor = match['anchor'] or (f'#{anchor}' if anchor else '')
            return f'{match["before"]}{self._relative(place, folder)}{anchor}{match["after"]}'

        return sub_outside_code(LINK, replace, text)

    @staticmethod
    def _relative(place: str, folder: str) -> str:
        place, _, anchor = place.partition('#')
        return posixpath.relpath(place, folder or '.') + (f'#{anchor}' if anchor else '')


def place_of(path: str, file: Path) -> str:
    """Return the path of the page that shows a file or folder."""
    if file.is_dir():
        return f'{path}/README.md'
    if file.suffix == '.ipynb':
        return f'{path.removesuffix(".ipynb")}.md'
    return path if file.suffix == '.md' else f'{path}.md'


def anchor_of(name: str) -> str:
    """Return the anchor of a file on the page of its folder."""
    return 'file-' + re.sub(r'\W', '-', name)


def fence(file: Path) -> str:
    """Return a fenced block with the text of a file."""
    text = file.read_text()
    marks = max((len(found) for found in re.findall('~{3,}', text)), default=2) + 1
    return f'{"~" * marks}{LANGUAGES.get(file.suffix, "text")}\n{text.rstrip()}\n{"~" * marks}\n'
