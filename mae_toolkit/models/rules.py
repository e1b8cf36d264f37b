"""What goes with what: every rule about two parts, and its reason.

A rule looks at attributes alone, of parts or of anything that has the same attributes, and returns the sentence that
refuses them, or None. The sentence names the parts, and after a colon gives the reason, which holds for any such parts.
"""

from mae_toolkit.errors import UserError


def check(refusal):
    """Raise a refusal, if there is one."""
    if refusal is not None:
        raise UserError(refusal)


def check_hidden_filled(encoder, decoder):
    """Somebody must fill the hidden cells: the encoder by its mask token, or the decoder."""
    if decoder.pointwise and not encoder.fills_hidden:
        return (
            f'{_name(decoder)} after {_name(encoder)}: the decoder fills no hidden cell, and the encoder leaves them '
            'empty; set mask_token=True in an encoder that has it, or choose another decoder.'
        )
    return None


def check_strides(encoder, decoder, unit):
    """Cells of the mask are whole positions on every map on which it is used.

    Where the encoder fills the hidden cells and the decoder works within positions, none asks on their maps what is
    hidden: only the map on which the tokens are put counts, as where SimMIM hides less than a position of a Swin's last
    map (arXiv:2111.09886, table 1).
    """
    strides = {}
    if not (encoder.fills_hidden and decoder.pointwise):
        strides |= {f'encoder level {i}': stride for i, stride in enumerate(encoder.out_strides, 1)}
        strides |= {'the decoder': decoder.out_stride}
    return _not_dividing(strides | {'the encoder mask unit': encoder.token_unit or encoder.mask_unit}, unit)


def check_target_stride(name, target, unit):
    """The positions of the target divide the cells."""
    return _not_dividing({f'the target of objective {name!r}': target.stride}, unit)


def check_loss_kind(target, loss):
    """A loss compares only some kinds of target."""
    if target.kind not in loss.compares:
        *others, last = (_KINDS[kind] for kind in loss.compares)
        compared = f'{", ".join(others)} or {last}' if others else last
        return (
            f'{_name(loss)} of {_name(target)}: the loss compares {compared}, and the target gives '
            f'{_KINDS[target.kind]}; {_REMEDIES[loss.compares == ("picture",), target.kind]}.'
        )
    return None


_KINDS = {'picture': 'pictures', 'patches': 'normalized patches', 'vectors': 'vectors', 'codes': 'codes'}
# By whether the loss compares pictures alone, and the kind of the target.
_REMEDIES = {
    (True, 'patches'): 'set norm_pix=False, or choose another loss',
    (True, 'vectors'): 'choose the PixelTarget, or another loss',
    (True, 'codes'): 'choose the PixelTarget, or another loss',
    (False, 'picture'): 'choose a target of codes, or another loss',
    (False, 'patches'): 'choose a target of codes, or another loss',
    (False, 'vectors'): 'choose a target of codes, or another loss',
    (False, 'codes'): 'choose MaskedCrossEntropyLoss, or another target',
}


def _not_dividing(strides, unit):
    for where, stride in strides.items():
        if unit % stride:
            return f'Stride {stride} of {where} does not divide mask unit {unit}.'
    return None


def _name(part):
    return part.__name__ if isinstance(part, type) else type(part).__name__
