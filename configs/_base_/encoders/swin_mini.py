# A small Swin of three stages for the small sets; windows of 6 divide its maps.
encoder = dict(
    type='Swin',
    arch='swin_tiny_patch4_window7_224',
    embed_dim=48,
    depths=(2, 2, 4),
    num_heads=(2, 4, 8),
    window_size=6,
    img_size=96,
)
