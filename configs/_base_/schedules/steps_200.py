# Two hundred steps of a detector or segmenter on the images that come with the package: about two minutes on two CPU
# cores.
_base_ = './steps_500.py'

steps = 200
