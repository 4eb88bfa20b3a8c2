"""AlexNet as published (two towers, local response normalisation) on twenty classes of Tiny ImageNet, at 99 pixels.

    python -m scripts.train --config=configs/alexnet2012_tiny_imagenet.py --workdir=runs/alexnet2012_tiny_imagenet \
        --config.dataset.source=npz:PREFIX

PREFIX_train.npz and PREFIX_val.npz hold packed JPEG files of 64x64 pixels: 500 and 50 of each class.
The recipe follows the paper's section 5: batches of 128, momentum 0.9, weight decay 5e-4 on all parameters, a rate of
0.01 that is divided by 10 (once here, three times there in about 90 epochs). Crops are random in size, and gradients
are clipped, as in alexnet_tiny_imagenet.py. Pixels are 0..255 minus their mean, as the initial kernels, N(0, 0.01),
expect: over their standard deviation, the loss stays at chance (ln 20) for five epochs and more.
Expected: top-1 41.6 %, top-5 75.2 % on the 1,000 images of val, in 33 minutes on two CPU cores with other work on them
(seed 0).
"""

from ml_collections import ConfigDict

from configs import alexnet_tiny_imagenet


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = alexnet_tiny_imagenet.get_config()
    config.model.variant = "2012"
    config.dataset.image_size = 99
    config.dataset.std = (1 / 255, 1 / 255, 1 / 255)
    config.optimizer.nesterov = False
    config.optimizer.decay_all = True
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.01
    config.schedule.warmup_epochs = 0.0
    config.schedule.milestones = (10.0,)
    config.train.epochs = 12.0
    return config
