"""Weights of EVA-02 under its authors' names are read as timm reads them, with the last norm and the mask token."""

import pytest
import torch
from timm.models.eva import checkpoint_filter_fn

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.names.eva02 import EVA02, EVA02_FUSED
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build
from parts import VIT, randomized


@pytest.mark.parametrize(
    ('arch', 'form'), [('eva02_base_patch16_clip_224', EVA02), ('eva02_tiny_patch14_224', EVA02_FUSED)]
)
@pytest.mark.parametrize('tuned', [False, True])
def test_the_authors_names(tmp_path, arch, form, tuned):
    config = {'type': 'Eva', 'arch': arch, **VIT, 'img_size': 32, 'mask_token': True}
    first, second = (randomized(build(Encoder, dict(config))) for _ in range(2))
    for parameter in second.parameters():
        parameter.data.zero_()
    state = form.to_theirs({f'encoder.{name}': value for name, value in first.state_dict().items()})
    state |= {'rope.freqs_cos': torch.ones(1)}
    if tuned:  # by pooling, behind which the norm is then
        state = {name.replace('norm.', 'fc_norm.') if name.startswith('norm.') else name: state[name] for name in state}
        del state['mask_token']
    torch.save({'module': state}, tmp_path / 'eva02.pt')
    report = load_pretrained(second, tmp_path / 'eva02.pt')
    new = ['encoder.body.norm.bias', 'encoder.body.norm.weight', 'encoder.mask_token'] if tuned else []
    assert report.new == new and 'rope.freqs_cos' in report.dropped
    by_timm = checkpoint_filter_fn(dict(state), first.body)
    for name, value in second.state_dict().items():
        if f'encoder.{name}' not in new:
            assert torch.equal(value, first.state_dict()[name]), name
        if '.blocks.' in name:
            assert torch.equal(value, by_timm[name.removeprefix('body.')]), name
