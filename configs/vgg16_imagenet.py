"""VGG-16 on ImageNet 2012: as in the paper, which starts with net A; as torchvision trained it; or as one would today.

    python -m scripts.train --config=configs/vgg16_imagenet.py:net_a --workdir=runs/vgg_a
    python -m scripts.train --config=configs/vgg16_imagenet.py --config.transfer.net_a=runs/vgg_a --workdir=runs/vgg16
    python -m scripts.evaluate --run=runs/vgg16 --protocol=multi_crop,multi_scale --compare

The data are as in configs/alexnet_imagenet.py. None chooses a checkpoint, as in the papers.

paper: batches of 256, momentum 0.9, decay 5e-4, a rate of 0.01 that falls to a tenth three times in 74 epochs (by
hand then, at 25, 50 and 65 here); crops out of photos whose shorter side is scaled to 256 to 512 pixels, flips,
colour noise; net A's layers to start with (without --config.transfer.net_a, Glorot's initial kernels, which the paper
advises in the end). Pixels are over their deviation, as Glorot's kernels expect; the paper has them as 0..255.
Published for one net: top-1 74.4 % at 384 pixels (dense), 75.2 % at 256, 384 and 512, 75.6 % together with crops.
torchvision: crops of random size, decay 1e-4, a tenth of the rate every 30 of 90 epochs: centre crop 71.592 %, 90.382
%.
batch_norm: the same with batch normalisation, at a rate of 0.1: 73.360 %, 91.516 %.
modern: with batch normalisation, TrivialAugment, mixup, CutMix, smoothed labels, a cosine and averaged parameters.
There is no published figure.
Not trained here, for want of the data and of accelerators.
"""

from ml_collections import ConfigDict

from configs import alexnet_imagenet

FORMS = ("paper", "net_a", "torchvision", "batch_norm", "modern")


def get_config(form: str = "paper") -> ConfigDict:
    """Return the experiment.

    Args:
      form: one of `FORMS`.
    """
    if form not in FORMS:
        raise ValueError(f"configs/vgg16_imagenet.py:{form}: must be one of {', '.join(FORMS)}")
    config = alexnet_imagenet.imagenet()
    config.model.name = "vgg11" if form == "net_a" else "vgg16"
    config.model.batch_norm = form in ("batch_norm", "modern")
    config.schedule.learning_rate = 0.1 if form == "batch_norm" else 0.01
    config.train.batch_size = 256
    if form in ("paper", "net_a"):
        config.augment.scale_jitter = (256, 512)
        config.augment.color_noise = 0.1
        config.optimizer.weight_decay = 5e-4
        config.schedule.milestones = (25.0, 50.0, 65.0)
        config.train.epochs = 74.0
        config.evaluate.protocol = "dense"
    else:
        config.model.init = "he"
        config.augment.random_resized_crop = 0.08
        config.optimizer.weight_decay = 1e-4
        config.schedule.milestones = (30.0, 60.0)
        config.train.epochs = 90.0
    if form == "modern":
        alexnet_imagenet.modern(config)
        config.schedule.learning_rate = 0.4
    return config
