"""AlexNet on twenty classes of Tiny ImageNet, from scratch, at 96 pixels.

    python -m scripts.train --config=configs/alexnet_tiny_imagenet.py --workdir=runs/alexnet_tiny_imagenet \
        --config.dataset.source=npz:PREFIX

PREFIX_train.npz and PREFIX_val.npz hold packed JPEG files of 64x64 pixels: 500 and 50 of each class.
Expected: top-1 48.4 %, top-5 81.3 % on the 1,000 images of val, in 25 to 40 minutes on two CPU cores (seed 0;
by an earlier version of the code, whose dropout drew other units, 50.5 % and 82.4 %).
In about the same time, the images scaled to 96 pixels teach more than to 128: 40.8 % after 6 epochs, against 38.8 %
after 5.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = base.get_config()
    config.model.name = "alexnet"
    config.dataset.source = "npz:data/tiny_imagenet20"
    config.dataset.image_size = 96
    config.dataset.validation = 0.05
    config.augment.random_resized_crop = 0.35
    config.augment.flip = True
    config.augment.color_noise = 0.1
    config.optimizer.weight_decay = 5e-4
    config.optimizer.clip_norm = 5.0
    config.schedule.name = "one_cycle"
    config.schedule.learning_rate = 0.02
    config.schedule.warmup_epochs = 3.0
    config.train.epochs = 14.0
    config.train.batch_size = 128
    config.evaluate.batch_size = 250
    config.evaluate.every_epochs = 2.0
    config.log.every_steps = 20
    return config
