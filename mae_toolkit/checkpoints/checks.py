"""Checks of the tensors in a file, made before anything is computed with them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mae_toolkit.errors import UserError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# Tensors may share memory (tied weights, a teacher that equals its student): their shapes may promise SHARING times as
# many bytes as the file holds, and ALLOWANCE more.
SHARING, ALLOWANCE = 4, 2**30
# The counters of batch norms matter only in training, and older files lack them.
COUNTER = '.num_batches_tracked'


def check_layouts(path: object, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not dense arrays of ordinary numbers, without touching their values.

    Raises:
        UserError: With how many such tensors there are, the first of them, and what it is.
    """
    odd = {name: what for name, tensor in state.items() if (what := _oddity(tensor) or _quantized_weight(name, tensor))}
    if odd:
        name, what = next(iter(odd.items()))
        raise UserError(
            f'{path}: {len(odd)} of its {len(state)} tensors cannot be used as weights, the first {name} ({what}): '
            'save the weights as dense tensors of float32, float16 or bfloat16.'
        )


def check_sizes(path: object, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose shapes promise far more numbers than the file holds, as an expanded tensor's do.

    Raises:
        UserError: With the largest such tensor and both numbers of bytes.
    """
    state = {name: local_part(tensor) for name, tensor in state.items()}
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.values()}
    promised = {name: t.numel() * t.element_size() for name, t in state.items()}
    if sum(promised.values()) <= SHARING * sum(held.values()) + ALLOWANCE:
        return
    name = max(promised, key=lambda name: promised[name])
    raise UserError(
        f'{path}: its tensors have shapes of {sum(promised.values())} bytes in all, and the file holds '
        f'{sum(held.values())}; the largest, {name}, has shape {tuple(state[name].shape)}: save it as it is needed, '
        'not expanded.'
    )


def check_finite(path: object, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        UserError: With how many tensors hold such values, and the first of them.
    """
    bad = [name for name, value in state.items() if value.is_floating_point() and not _is_finite(value)]
    if bad:
        raise UserError(
            f'{path}: {len(bad)} of its {len(state)} tensors {"is" if len(bad) == 1 else "are"} not finite, the first '
            f'{bad[0]}: the training had diverged; take an earlier checkpoint, and train on with a lower learning rate.'
        )


def check_kinds(path: object, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse whole numbers where a model has floating-point numbers, and fractions where it has whole ones.

    Raises:
        UserError: With how many tensors differ, the first of them, and both types.
    """
    wrong = [name for name in state if name in own and not _same_kind(state[name], own[name])]
    if wrong:
        name, verb = wrong[0], 'has' if len(wrong) == 1 else 'have'
        raise UserError(
            f'{path}: {len(wrong)} of its {len(state)} tensors {verb} another kind of numbers than the '
            f'model, the first {name} ({_dtype(state[name])} there, {_dtype(own[name])} here): are they quantized, or '
            'of another model? Save them in the type in which they were trained.'
        )


def local_part(tensor: Tensor) -> Tensor:
    """Return the part of a distributed tensor that this process holds; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _oddity(tensor: Tensor) -> str | None:
    """Say what makes a tensor unfit as a weight; None if nothing does."""
    tensor = local_part(tensor)
    if type(tensor) not in (Tensor, nn.Parameter):
        return f'a {type(tensor).__name__}'
    if tensor.is_nested:
        return 'a nested tensor'
    if tensor.is_meta:
        return 'a meta tensor, which has no values'
    if tensor.layout != torch.strided:
        return f'sparse, {str(tensor.layout).removeprefix("torch.")}'
    if tensor.is_quantized:
        return f'quantized, {_dtype(tensor)}'
    return None if tensor.dtype in (*FLOATS, *INTEGERS) else _dtype(tensor)


def _quantized_weight(name: str, tensor: Tensor) -> str | None:
    """Return the type of whole numbers under a name that layers give to fractions alone; None if there are none."""
    return _dtype(tensor) if tensor.dtype in INTEGERS and name.endswith(('.weight', '.bias')) else None


def _is_finite(tensor: Tensor) -> bool:
    tensor = local_part(tensor)
    storage = tensor.untyped_storage()
    if tensor.numel() * tensor.element_size() > storage.nbytes():  # elements overlap: look at each stored one once
        whole = storage.nbytes() // tensor.element_size()
        tensor = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, (whole,), (1,))
    return bool(tensor.isfinite().all())


def _same_kind(given: Tensor, own: Tensor) -> bool:
    if own.is_floating_point():
        return given.is_floating_point()
    if not given.is_floating_point() or given.numel() != own.numel():
        return not given.is_complex()
    return bool((given == given.round()).all())  # counters that were rounded to half precision with the weights


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix('torch.')
