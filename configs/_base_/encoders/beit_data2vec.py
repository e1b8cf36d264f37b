# The same as data2vec has it.
_base_ = './beit_mask_token.py'

encoder = dict(init_values=1e-4, drop_path_rate=0.25, attn_drop_rate=0.05)
