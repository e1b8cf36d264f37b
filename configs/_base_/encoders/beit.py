# BEiT's transformer with a mask token, as SimMIM has it: no table of positions, but one bias of relative positions that
# all blocks share.
encoder = dict(
    type='ViT',
    arch='beit_base_patch16_224',
    img_size=224,
    use_abs_pos_emb=False,
    use_rel_pos_bias=False,
    use_shared_rel_pos_bias=True,
    init_values=0.1,
    drop_path_rate=0.1,
    norm_eps=1e-6,
    mask_token=True,
)
