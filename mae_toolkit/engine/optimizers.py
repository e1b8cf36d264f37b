"""Optimizers for large batches, which PyTorch lacks: timm's, by the names ``Lamb`` and ``Lars``.

Beside those of :mod:`torch.optim` they can be named in a config:
``optimizer=dict(type='Lamb', lr=3.2e-3, weight_decay=0.04, max_grad_norm=5.0)``.

LAMB (arXiv:1904.00962, algorithm 2), with which SparK pretrains, scales each step of Adam to the norm of what it
changes. It clips the norm of all gradients itself, to ``max_grad_norm``, 1.0 if it is not told otherwise: no
``clip_grad`` beside it. LARS (arXiv:1708.03888, equation 6), the usual one for linear probes, does so with a step of
SGD. Both leave the steps of what is not decayed as they are, unless ``always_adapt=True``.
"""

from timm.optim import Lamb, Lars

from mae_toolkit.registry import OPTIMIZERS

for _optimizer in (Lamb, Lars):
    OPTIMIZERS.register_module(module=_optimizer)

__all__ = ['Lamb', 'Lars']
