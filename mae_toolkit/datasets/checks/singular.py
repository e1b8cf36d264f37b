"""Findings about a single thing, in correct English."""

import re

VERBS = {'have': 'has', 'are': 'is', 'do': 'does', 'lie': 'lies', 'hold': 'holds', 'begin': 'begins', 'weigh': 'weighs'}
VERBS |= {'differ': 'differs', 'occur': 'occurs'}
OTHERS = {'name': 'names'}  # words that are no verb where they come first


def to_singular(reason: str, keep_noun: bool) -> str:
    """Change a clause about several things into one about a single thing: ``'is missing'`` for ``'are missing'``.

    Args:
        reason: A clause that begins with a noun, such as ``'images are missing'``.
        keep_noun: Leave the noun in the plural, as after ``'1 of the 8'``.
    """
    found = re.search(rf'\b({"|".join(VERBS)}|cannot)\b', reason)
    if found is None:
        return reason
    noun, verb, rest = reason[: found.start()], found[0], reason[found.end() :]
    noun = noun if keep_noun else re.sub(r's\b', '', noun, count=1)
    following = VERBS | OTHERS
    rest = re.sub(rf'(?<=\band )({"|".join(following)})\b', lambda other: following[other[0]], rest)
    return noun + VERBS.get(verb, verb) + re.sub(r'\btheir\b', 'its', rest)
