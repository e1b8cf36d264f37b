"""Singular forms of findings."""

import re

VERBS = {
    'have': 'has',
    'are': 'is',
    'do': 'does',
    'lie': 'lies',
    'hold': 'holds',
    'contain': 'contains',
    'begin': 'begins',
    'weigh': 'weighs',
}
VERBS |= {'contain': 'contains', 'differ': 'differs', 'occur': 'occurs'}
OTHER_VERBS = {'name': 'names'}  # words that are not verbs where they come first


def to_singular(reason: str, keep_noun: bool) -> str:
    """Change a clause to the singular: ``'images are missing'`` becomes ``'image is missing'``.

    Args:
        reason: A clause that begins with a noun, such as ``'images are missing'``.
        keep_noun: Keep the noun in the plural, as after ``'1 of the 8'``.
    """
    found = re.search(rf'\b({"|".join(VERBS)}|cannot)\b', reason)
    if found is None:
        return reason
    noun, verb, rest = reason[: found.start()], found[0], reason[found.end() :]
    noun = noun if keep_noun else re.sub(r's\b', '', noun, count=1)
    following = VERBS | OTHER_VERBS
    rest = re.sub(rf'(?<=\band )({"|".join(following)})\b', lambda other: following[other[0]], rest)
    return noun + VERBS.get(verb, verb) + re.sub(r'\btheir\b', 'its', rest)
