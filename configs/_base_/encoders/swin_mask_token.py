# Swin-B at 192 pixels with windows of 6, all tokens, a mask token where it is hidden: SimMIM's.
encoder = dict(type='Swin', arch='swin_base_patch4_window7_224', img_size=192, window_size=6, mask_token=True)
