"""AlexNet on ImageNet 2012: as in 2012, as torchvision trained it, or as one would today.

    python -m scripts.train --config=configs/alexnet_imagenet.py:2012 --workdir=runs/alexnet_imagenet
    python -m scripts.evaluate --run=runs/alexnet_imagenet --protocol=ten_crop --compare

The data are tfds:imagenet2012 (scripts.prepare builds it from the files that image-net.org gives to researchers), or
--config.dataset.source=folder:ROOT with train/ and val/. None chooses a checkpoint, as in the papers.

2012: two towers, 227 pixels; batches of 128, momentum 0.9, decay 5e-4, a rate of 0.01 that falls to a tenth three
times in about 90 epochs (by hand then, at 30, 60 and 80 here); crops out of photos of 256 pixels (anywhere; the paper
cut their middle out first), flips, colour noise. Published, ten crops: top-1 59.3 %, top-5 81.8 %.
torchvision: one tower, 224 pixels; batches of 256, decay 1e-4, a tenth of the rate every 30 of 90 epochs, crops of
random size. Published, centre crop: 56.522 %, 79.066 %.
modern: the same network with TrivialAugment, mixup, CutMix, smoothed labels, a cosine and averaged parameters. There
is no published figure.
Not trained here, for want of the data and of accelerators.
"""

from ml_collections import ConfigDict

from configs import base

FORMS = ("2012", "torchvision", "modern")
# By channel, of ImageNet's training images at 224 pixels, pixels being 0..1: torchvision's.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of its channels, pixels being 0..1: the variances (0.2175, 0.0188, 0.0045) and principal components that
# facebookarchive/fb.resnet.torch has for Krizhevsky's colour noise (datasets/imagenet.lua), multiplied out.
COVARIANCE = (0.0805, 0.0702, 0.0634, 0.0702, 0.0764, 0.0722, 0.0634, 0.0722, 0.0840)


def get_config(form: str = "2012") -> ConfigDict:
    """Return the experiment.

    Args:
      form: one of `FORMS`.
    """
    if form not in FORMS:
        raise ValueError(f"configs/alexnet_imagenet.py:{form}: must be one of {', '.join(FORMS)}")
    config = imagenet()
    config.model.name = "alexnet"
    config.model.variant = "2012" if form == "2012" else "torchvision"
    config.schedule.learning_rate = 0.01
    config.train.epochs = 90.0
    if form == "2012":
        config.dataset.image_size = 227
        config.dataset.crop = 227 / 256
        config.dataset.std = (1 / 255,) * 3  # pixels are 0..255, as the initial kernels, N(0, 0.01), expect
        config.augment.scale_jitter = (256, 256)
        config.augment.color_noise = 0.1
        config.optimizer.weight_decay = 5e-4
        config.schedule.milestones = (30.0, 60.0, 80.0)
        config.train.batch_size = 128
        config.evaluate.protocol = "ten_crop"
    else:
        config.model.init = "torch"
        config.augment.random_resized_crop = 0.08
        config.optimizer.weight_decay = 1e-4
        config.schedule.milestones = (30.0, 60.0)
        config.train.batch_size = 256
    if form == "modern":
        modern(config)
    return config


def imagenet() -> ConfigDict:
    """Return what all recipes for ImageNet share."""
    config = base.get_config()
    config.dataset.source = "tfds:imagenet2012"
    config.dataset.stream = True
    config.dataset.image_size = 224
    config.dataset.crop = 0.875
    config.dataset.validation = 0.0
    config.dataset.mean, config.dataset.std, config.dataset.covariance = MEAN, STD, COVARIANCE
    config.augment.flip = True
    config.optimizer.nesterov = False
    config.optimizer.decay_all = True
    config.schedule.name = "step"
    config.schedule.factor = 0.1
    config.evaluate.batch_size = 256
    config.evaluate.report = False  # 50,000 images and their neighbours; scripts.report draws it when asked
    config.log.every_steps = 100
    return config


def modern(config: ConfigDict) -> None:
    """Change a recipe to what has been found since: Wightman et al. 2021 (arXiv 2110.00476), and torchvision's own."""
    config.augment.trivial_augment = True
    config.augment.mixup = 0.2
    config.augment.cutmix = 1.0
    config.optimizer.nesterov = True
    config.optimizer.decay_all = False
    config.optimizer.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.milestones = None
    config.schedule.factor = None
    config.schedule.warmup_epochs = 5.0
    config.schedule.learning_rate = 0.04
    config.train.batch_size = 1024
    config.train.epochs = 120.0
    config.train.label_smoothing = 0.1
    config.train.ema = 0.9998
    config.precision = "bfloat16"
