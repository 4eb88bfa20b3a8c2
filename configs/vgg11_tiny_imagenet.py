"""VGG's net A (11 layers) on twenty classes of Tiny ImageNet, at 32 pixels.

    python -m scripts.train --config=configs/vgg11_tiny_imagenet.py --workdir=runs/vgg11_tiny_imagenet \
        --config.dataset.source=npz:PREFIX

PREFIX_train.npz and PREFIX_val.npz hold packed JPEG files of 64x64 pixels: 500 and 50 of each class.
Expected: top-1 16.7 %, top-5 49.1 % on the 1,000 images of val after two epochs, in 19 minutes on two CPU cores (seed
0). It shows that
net A trains; for more, give it more epochs and an accelerator.
"""

from ml_collections import ConfigDict

from configs import alexnet_tiny_imagenet


def get_config() -> ConfigDict:
    """Return the experiment."""
    config = alexnet_tiny_imagenet.get_config()
    config.model.name = "vgg11"
    config.model.init = "he"
    config.dataset.image_size = 32
    config.schedule.learning_rate = 0.01
    config.schedule.warmup_epochs = 0.5
    config.train.epochs = 2.0
    config.evaluate.every_epochs = 1.0
    return config
