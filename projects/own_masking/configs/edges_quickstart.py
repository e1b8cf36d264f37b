# The quickstart with a masking of one's own.
_base_ = '../../../configs/pretrain/quickstart.py'

custom_imports = dict(imports=['projects.own_masking'], allow_failed_imports=False)

model = dict(masking=dict(type='EdgeMasking', strength=0.5))
