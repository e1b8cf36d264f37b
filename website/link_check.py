"""Links of a built site: every address within it must lead to a file, and every anchor to an element."""

import re
import sys
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

TAG = re.compile(r'<[a-zA-Z][^<>]*>')
SCRIPT = re.compile(r'<(script|style)\b.*?</\1>', re.S)
ADDRESS = re.compile(r'\s(?:href|src)="([^"]*)"')
NAME = re.compile(r'\s(?:id|name)="([^"]*)"')


@dataclass
class Links:
    """What was found in a site.

    Args:
        pages: Number of HTML files.
        checked: Number of links within the site.
        broken: Broken links, as 'page: address'.
        external: Addresses outside of it, which are not opened.
    """

    pages: int = 0
    checked: int = 0
    broken: list[str] = field(default_factory=list)
    external: set[str] = field(default_factory=set)


def check_links(site: Path) -> Links:
    """Follow every link of the HTML files of a folder, without a network."""
    texts = {path: SCRIPT.sub('', path.read_text()) for path in sorted(site.rglob('*.html'))}
    tags = {path: ''.join(TAG.findall(text)) for path, text in texts.items()}
    names = {path: {unescape(name) for name in NAME.findall(text)} for path, text in tags.items()}
    found = Links(pages=len(texts))
    for path, text in tags.items():
        for address in {unescape(address) for address in ADDRESS.findall(text)}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                found.external |= {address} if parts.scheme != 'data' else set()
                continue
            found.checked += 1
            if path.name != '404.html' and not _leads_somewhere(parts.path, unquote(parts.fragment), path, names):
                found.broken.append(f'{path.relative_to(site)}: {address}')
    return found


def _leads_somewhere(address: str, anchor: str, page: Path, names: dict[Path, set[str]]) -> bool:
    target = (page.parent / unquote(address)).resolve() if address else page
    target = target / 'index.html' if target.is_dir() else target
    if not target.is_file():
        return False
    return not anchor or target.suffix != '.html' or anchor in names[target]


if __name__ == '__main__':
    links = check_links(Path(sys.argv[1]).resolve())
    print(f'{links.pages} pages, {links.checked} links within the site, {len(links.broken)} broken')
    print('\n'.join(links.broken))
    print(f'{len(links.external)} addresses outside, not opened:', *sorted(links.external), sep='\n')
    sys.exit(bool(links.broken))
