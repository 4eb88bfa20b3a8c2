"""Does what AlexNet has learnt of fifteen classes help with five others? Tiny ImageNet, at 96 pixels.

    python -m scripts.train --config=configs/transfer_tiny_imagenet.py:fifteen --workdir=runs/fifteen \
        --config.dataset.source=npz:PREFIX
    python -m scripts.train --config=configs/transfer_tiny_imagenet.py:five --workdir=runs/five/scratch \
        --config.dataset.source=npz:PREFIX --config.dataset.per_class=20
    python -m scripts.train --config=configs/transfer_tiny_imagenet.py:five --workdir=runs/five/transfer \
        --config.dataset.source=npz:PREFIX --config.dataset.per_class=20 --config.transfer.weights=runs/fifteen

PREFIX_train.npz and PREFIX_val.npz hold packed JPEG files of 64x64 pixels of twenty classes. Every fourth is one of the
five; dataset.split_seed draws which of their images are learnt from.
Measured: 51.6 % on the 750 images of val of the fifteen classes, in 26 minutes on two CPU cores with other work on them
(seed 0).
"""

from ml_collections import ConfigDict

from configs import alexnet_tiny_imagenet

_CLASSES = {
    "fifteen": (
        *("goldfish", "centipede", "black stork", "walking stick", "bison", "academic gown", "bucket"),
        *("Christmas stocking", "dumbbell", "miniskirt", "pill bottle", "refrigerator", "teapot", "viaduct"),
        "ice lolly",
    ),
    "five": ("tabby", "beach wagon", "iPod", "sombrero", "meat loaf"),
}


def get_config(classes: str = "fifteen") -> ConfigDict:
    """Return the experiment on the classes that come first, fifteen, or on those that come then, five."""
    if classes not in _CLASSES:
        raise ValueError(f"{classes!r}: must be one of {', '.join(_CLASSES)}")
    config = alexnet_tiny_imagenet.get_config()
    config.dataset.only_classes = _CLASSES[classes]
    if classes == "five":
        config.dataset.validation = 0.0
        config.transfer.views = 8
        config.optimizer.name = "adamw"
        config.optimizer.weight_decay = 0.05
        config.schedule.learning_rate = 3e-4
        config.train.epochs = 60.0
        config.train.batch_size = 25
        config.log.every_steps = 10
    return config
