# A folder of images: with subfolders, in any mixture of sizes and formats, but with one type of numbers.
data_root = 'data/my_images'
shards = None  # in place of data_root: tars or LMDBs, such as 'https://host/train-{0000..0127}.tar'
channels = 3  # of the images: gray is repeated, and an opacity dropped
mean = [123.675, 116.28, 103.53]  # per channel, in the units of the files
std = [58.395, 57.12, 57.375]  # per channel
size = 224  # pixels of the crops, or (height, width): multiples of the encoder's mask unit
least_area = 0.2  # share of an image that a crop shows at least
batch_size = 64  # images per step and process
repeat = 1  # passes over the images in what the log calls an epoch: with few images, more than one
hold_out = 20  # one image in this many is held out of training, for validation
workers = 8  # processes that load images

images = dict(type='ImageDataset', data_root=data_root) if shards is None else dict(type='ShardDataset', urls=shards)
sampler = 'EpochSampler' if shards is None else 'ShardSampler'  # which reads few shards at a time
data_preprocessor = dict(type='ImagePreprocessor', mean=mean, std=std)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=workers,
    persistent_workers=workers > 0,
    pin_memory=True,
    sampler=dict(type=sampler, shuffle=True),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        **images,
        channels=channels,
        hold_out=hold_out,
        repeat=repeat,
        pipeline=[
            dict(type='RandomResizedCrop', size=size, scale=(least_area, 1.0), interpolation='bicubic'),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=min(workers, 2),
    sampler=dict(type='EpochSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='mae_toolkit.image_collate'),
    dataset=dict(
        **images,
        channels=channels,
        hold_out=-hold_out,
        pipeline=[
            dict(type='Resize', size=size if isinstance(size, int) else max(size), interpolation='bicubic'),
            dict(type='CenterCrop', size=size),
        ],
    ),
)
val_cfg = dict(type='MAEValLoop', seed=0)
