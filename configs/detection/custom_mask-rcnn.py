# Outlines of your own objects: Mask R-CNN, with the settings of custom_faster-rcnn.py.
_base_ = './custom_faster-rcnn.py'

masks = True
