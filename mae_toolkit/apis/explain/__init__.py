"""What a network has learned, as pictures with numbers: one function per question.

Each function takes a source and images and returns an :class:`Explanation`. ``tools/explain.py`` has a sub-command for
each, see :mod:`mae_toolkit.apis.explain.commands`.
"""

from mae_toolkit.apis.explain.bias import explain_bias
from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.receptive_field import explain_receptive_field

__all__ = [
    'Explanation',
    'explain_bias',
    'explain_receptive_field',
]
