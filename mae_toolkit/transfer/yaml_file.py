"""Read a YAML file of moderate size as plain values."""

import ast
import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

import yaml

from mae_toolkit.errors import UserError

MOST_BYTES = 100_000  # tables have 1,000 to 10,000
MOST_VALUES = 100_000  # with every alias written out
ENOUGH = 10**9  # counting ends here
MERGE = 'tag:yaml.org,2002:merge'  # of the key <<, which takes over the keys of another dict


def read_yaml(path: str | Path) -> object:
    """Read a YAML file: numbers, texts, lists and dicts; 1e-3 is a number, and (1, 2) a tuple.

    Raises:
        UserError: If there is no such file, it is no YAML or a very large one, or its aliases stand for very much.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'There is no file {path}: name the YAML of a table, see docs/transfer.md.')
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(
            f'{path} has {size:,} bytes; the YAML of a table has {MOST_BYTES:,} at most: is it another file?'
        )
    try:
        loader = _Loader(path.read_text(encoding='utf-8-sig'))
        node = loader.get_single_node()
        count = 0 if node is None else _count(node, {})
        if count > MOST_VALUES:
            raise UserError(
                f'{path} holds {count:,} values or more with its aliases (*name) written out, and {MOST_VALUES:,} are '
                'the most: write it without aliases of aliases.'
            )
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise UserError(f'{path} is no YAML of a table: it is nested too deeply.') from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:  # of impossible dates, tags
        raise UserError(f'{path} is no YAML: {" ".join(str(error).split()) or type(error).__name__}') from None


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Count the values that a node stands for, each alias as often as it is used."""
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise yaml.constructor.ConstructorError(None, None, 'an alias stands for what holds it', node.start_mark)
        return count
    known[id(node)] = None
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    known[id(node)] = count = min(ENOUGH, 1 + sum(_count(part, known) for part in parts))
    return count


class _Loader(yaml.SafeLoader):
    """YAML's harmless part, with names that are given twice refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Make a dict, unless a name is given twice."""
        keys = [key for key, _ in node.value if key.tag != MERGE]
        names = [self.construct_object(key, deep=True) for key in keys]
        twice = [
            name for name, count in Counter(name for name in names if isinstance(name, Hashable)).items() if count > 1
        ]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f'{twice[0]!r} is given twice', node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?\d+(\.\d*)?[eE][-+]?\d+$'), list('-+0123456789')
)
_Loader.add_implicit_resolver('!tuple', re.compile(r'\(.*,.*\)$'), ['('])
_Loader.add_constructor('!tuple', lambda loader, node: _tuple(node))


def _tuple(node: yaml.Node) -> tuple:
    """Read numbers or texts in parentheses."""
    try:
        return ast.literal_eval(node.value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise yaml.constructor.ConstructorError(
            None, None, f'{str(node.value)[:60]} is no tuple', node.start_mark
        ) from None
