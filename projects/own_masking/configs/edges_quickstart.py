# The quickstart with a custom masking.
_base_ = '../../../configs/pretrain/quickstart.py'

custom_imports = dict(imports=['projects.own_masking'], allow_failed_imports=False)

model = dict(masking=dict(type='EdgeMasking', strength=0.5))
