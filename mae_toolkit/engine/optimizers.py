"""Register timm's optimizers for large batches as ``Lamb`` and ``Lars``.

They can be named in a config like those of :mod:`torch.optim`:
``optimizer=dict(type='Lamb', lr=3.2e-3, weight_decay=0.04, max_grad_norm=5.0)``.

LAMB (arXiv:1904.00962, algorithm 2), with which SparK pretrains, scales each step of Adam to the norm of the parameter
that it changes. It clips the norm of all gradients itself, to ``max_grad_norm`` (1.0 by default), so ``clip_grad`` is
not needed. LARS (arXiv:1708.03888, equation 6), the usual optimizer for linear probes, scales steps of SGD in the same
way. Both leave the steps of parameters without weight decay as they are, unless ``always_adapt=True``.
"""

from timm.optim import Lamb, Lars

from mae_toolkit.registry import OPTIMIZERS

for _optimizer in (Lamb, Lars):
    OPTIMIZERS.register_module(module=_optimizer)

__all__ = ['Lamb', 'Lars']
