"""What a network has learned, as pictures with numbers: one function per question.

Each function takes a source and images and returns an :class:`Explanation`. ``tools/explain.py`` has a sub-command for
each, see :mod:`mae_toolkit.apis.explain.commands`.
"""

from mae_toolkit.apis.explain.attention import explain_attention
from mae_toolkit.apis.explain.attention_distance import explain_attention_distance
from mae_toolkit.apis.explain.bias import explain_bias
from mae_toolkit.apis.explain.cka import explain_cka
from mae_toolkit.apis.explain.components import explain_components, read_components
from mae_toolkit.apis.explain.dependence import explain_dependence
from mae_toolkit.apis.explain.embedding_map import explain_map
from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.receptive_field import explain_receptive_field
from mae_toolkit.apis.explain.reconstruction import explain_reconstruction

__all__ = [
    'Explanation',
    'explain_attention',
    'explain_attention_distance',
    'explain_bias',
    'explain_cka',
    'explain_components',
    'explain_dependence',
    'explain_map',
    'explain_receptive_field',
    'explain_reconstruction',
    'read_components',
]
