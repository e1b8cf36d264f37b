"""Markdown as it is written here, for the reader of MkDocs, which indents what lies in a list by four spaces."""

import re
from collections.abc import Callable

FENCE = re.compile(r'^ *(`{3,}|~{3,})')
ITEM = re.compile(r'^( *)([-*+]|\d{1,9}[.)])( +)(?=\S)')
COMMENT = re.compile(r'^ *<!-- .*? -->\n', re.M | re.S)
CODE = re.compile(
    r'(?P<fence>^ *(?P<mark>`{3,}|~{3,}).*?^ *(?P=mark) *$)|(?P<span>(?P<ticks>`+).+?(?P=ticks))', re.M | re.S
)


def to_site(text: str) -> str:
    """Take out comments, such as those that name tests, and indent lists as Python-Markdown reads them."""
    return '\n'.join(_indent(sub_outside_code(COMMENT, lambda match: '', text).splitlines())) + '\n'


def _indent(lines: list[str]) -> list[str]:
    """Indent what lies in a list item by four spaces for each level, and set a blank line before a list."""
    written: list[str] = []
    levels: list[int] = []  # columns at which the content of the open items begins
    fence, after_blank = '', True
    for line in lines:
        if not line.strip():
            written.append('')
            after_blank = not fence
            continue
        indent = len(line) - len(line.lstrip())
        item = None if fence else _find_item(line, in_text=not levels and not after_blank)
        if not fence and (item or after_blank or FENCE.match(line)):
            while levels and indent < levels[-1]:
                levels.pop()
        if item and not levels and not after_blank and not _in_list(written):
            written.append('')
        written.append(' ' * 4 * len(levels) + line[min(indent, levels[-1] if levels else 0) :])
        levels += [item.end()] if item else []
        mark = FENCE.match(line)
        if mark:
            fence = '' if fence and line.strip().startswith(fence) else fence or mark[1]
        after_blank = False
    return written


def _find_item(line: str, in_text: bool) -> re.Match[str] | None:
    """Match the beginning of a list item; a number within a paragraph begins one only if it is 1."""
    item = ITEM.match(line)
    return None if item and in_text and item[2][0].isdigit() and item[2][:-1] != '1' else item


def _in_list(written: list[str]) -> bool:
    """Return whether the last paragraph began as a list item."""
    for line in reversed(written):
        if not line.strip():
            return False
        if ITEM.match(line):
            return True
    return False


def sub_outside_code(pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str], text: str) -> str:
    """Substitute outside of fenced blocks and of code within the text."""
    both = re.compile(f'{CODE.pattern}|{pattern.pattern}', re.M | re.S)
    return both.sub(lambda match: match[0] if match['fence'] or match['span'] else replace(match), text)
