"""What the official code of published methods saves: names, tensors, and what of them is ours."""

from mae_toolkit.checkpoints.names.method import Method, Official, method_of, read
from mae_toolkit.checkpoints.names.methods import MAE, METHODS

__all__ = ['MAE', 'METHODS', 'Method', 'Official', 'method_of', 'read']
