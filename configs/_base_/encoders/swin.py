# Swin-B on what is visible, as GreenMIM runs it.
encoder = dict(type='Swin', arch='swin_base_patch4_window7_224', img_size=224, norm_eps=1e-6)
