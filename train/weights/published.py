"""Weights that are published, recognised by their hash, and how images are prepared for them.

Preparation is stated by name (`--preprocessing`) or known from the hash, never assumed: a file of the same names and
shapes may want other images. Where each fact comes from stands in docs/weights.md.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from train.errors import UserError

_IMAGENET_CLASSES = Path(__file__).with_name("imagenet_classes.txt")
# The pixel that Simonyan and Zisserman's models (and so Keras's) subtract, in RGB.
_OXFORD_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
# Of the mean image of ILSVRC 2012, as Caffe's CaffeNet has it (104, 117, 123 in BGR).
_CAFFE_MEAN = (123 / 255, 117 / 255, 104 / 255)
_IN_BYTES = (1 / 255, 1 / 255, 1 / 255)

# Keys of the section `dataset`. Pixels are 0..1 here, so that a deviation of 1/255 leaves them 0..255.
PREPROCESSINGS: Mapping[str, dict[str, Any]] = {
    # torchvision.transforms._presets.ImageClassification: shorter side 256, middle 224.
    "torchvision": {
        "image_size": 224,
        "channels": 3,
        "resize": "bilinear",
        "crop": 0.875,
        "channel_order": "RGB",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    # torchvision's VGG16_Weights.IMAGENET1K_FEATURES.
    "torchvision_features": {
        "image_size": 224,
        "channels": 3,
        "resize": "bilinear",
        "crop": 0.875,
        "channel_order": "RGB",
        "mean": (0.48235, 0.45882, 0.40784),
        "std": _IN_BYTES,
    },
    # keras.applications: preprocess_input in mode "caffe", which is Oxford's own for the Caffe models.
    "keras": {
        "image_size": 224,
        "channels": 3,
        "resize": "bilinear",
        "crop": 0.875,
        "channel_order": "BGR",
        "mean": _OXFORD_MEAN,
        "std": _IN_BYTES,
    },
    # BVLC's AlexNet and CaffeNet: middle 227 of 256.
    "caffe": {
        "image_size": 227,
        "channels": 3,
        "resize": "bilinear",
        "crop": 227 / 256,
        "channel_order": "BGR",
        "mean": _CAFFE_MEAN,
        "std": _IN_BYTES,
    },
}


class Published(NamedTuple):
    """A file of weights that is published.

    Attributes:
      name: of the file.
      digest: SHA-256, or as many of its first digits as are known; of Keras's files MD5, which is all they have.
      model: name and variant of our network.
      preprocessing: a key of `PREPROCESSINGS`.
      accuracy: top-1 and top-5 on ILSVRC 2012's validation, in per cent, as its publisher states them.
      head: what is usable of its dense layers: "keep", or "drop_dense" where there are none.
    """

    name: str
    digest: str
    model: tuple[str, str]
    preprocessing: str
    accuracy: tuple[float, float] | None
    head: str = "keep"


_A, _B, _D, _E = ("vgg11", "A"), ("vgg13", "B"), ("vgg16", "D"), ("vgg19", "E")
PUBLISHED = (
    Published("alexnet-owt-7be5be79.pth", "7be5be79", ("alexnet", "torchvision"), "torchvision", (56.522, 79.066)),
    Published("alexnet-owt-4df8aa71.pth", "4df8aa71", ("alexnet", "torchvision"), "torchvision", None),
    Published("vgg11-8a719046.pth", "8a719046", _A, "torchvision", (69.020, 88.628)),
    Published("vgg11-bbd30ac9.pth", "bbd30ac9", _A, "torchvision", None),
    Published("vgg11_bn-6002323d.pth", "6002323d", _A, "torchvision", (70.370, 89.810)),
    Published("vgg13-19584684.pth", "19584684", _B, "torchvision", (69.928, 89.246)),
    Published("vgg13-c768596a.pth", "c768596a", _B, "torchvision", None),
    Published("vgg13_bn-abd245e5.pth", "abd245e5", _B, "torchvision", (71.586, 90.374)),
    Published("vgg16-397923af.pth", "397923af", _D, "torchvision", (71.592, 90.382)),
    Published("vgg16_bn-6c64b313.pth", "6c64b313", _D, "torchvision", (73.360, 91.516)),
    Published("vgg16_features-amdegroot-88682ab5.pth", "88682ab5", _D, "torchvision_features", None, "drop_dense"),
    Published("vgg19-dcbb9e9d.pth", "dcbb9e9d", _E, "torchvision", (72.376, 90.876)),
    Published("vgg19_bn-c79401a0.pth", "c79401a0", _E, "torchvision", (74.218, 91.842)),
    # jcjohnson/pytorch-vgg: Oxford's weights under torchvision's names of 2016, which want Oxford's images.
    Published("vgg16-00b39a1b.pth", "00b39a1b", _D, "keras", None),
    Published("vgg19-d01eb7cb.pth", "d01eb7cb", _E, "keras", None),
    *(
        Published(f"timm/{name}: model.safetensors", digest, model, "torchvision", accuracy)
        for name, digest, model, accuracy in (
            ("vgg11.tv_in1k", "682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5", _A, (69.05, 88.63)),
            (
                "vgg13_bn.tv_in1k",
                "7dae235e35772693cd527e7ac9ef8f6594707a14a8d26aabdb83c0baa6847861",
                _B,
                (71.56, 90.372),
            ),
            ("vgg16.tv_in1k", "57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8", _D, (71.594, 90.398)),
            (
                "vgg16_bn.tv_in1k",
                "88bbedbc8e780413736db38ac4efd41b06fc0e93fd5b8879b584bba63a950129",
                _D,
                (73.354, 91.49),
            ),
            ("vgg19.tv_in1k", "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669", _E, (72.4, 90.878)),
            (
                "vgg19_bn.tv_in1k",
                "f8249087e63bae61c6166bb23d7c26efe1b2a43fd9fb5cd60ac6ce00535ba312",
                _E,
                (74.23, 91.848),
            ),
        )
    ),
    Published(
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5", "64373286793e3c8b2b4e3219cbf3544b", _D, "keras", (71.3, 90.1)
    ),
    Published(
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
        _D,
        "keras",
        None,
        "drop_dense",
    ),
    Published(
        "vgg19_weights_tf_dim_ordering_tf_kernels.h5", "cbe5617147190e668d6c5d5026f83318", _E, "keras", (71.3, 90.0)
    ),
    Published(
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "253f8cb515780f3b799900260a226db6",
        _E,
        "keras",
        None,
        "drop_dense",
    ),
    Published(
        "bvlc_alexnet.caffemodel",
        "4bff209a9837298157915ef50a4831a59636a6ca1a6b8ebacd990c3a5f3053e0",
        ("alexnet", "bvlc"),
        "caffe",
        (57.1, 80.2),
    ),
    Published(
        "bvlc_reference_caffenet.caffemodel",
        "472d4a06035497b180636d8a82667129960371375bd10fcb6df5c6c7631f25e0",
        ("alexnet", "caffenet"),
        "caffe",
        (57.4, 80.4),
    ),
    Published(
        "VGG_ILSVRC_16_layers.caffemodel",
        "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197",
        _D,
        "keras",
        None,
    ),
    Published(
        "VGG_ILSVRC_19_layers.caffemodel",
        "31b4c627c40c6ee151325f079b7ac557fddbd1f79af932888796127a4f4f6954",
        _E,
        "keras",
        None,
    ),
    *(
        Published(f"ONNX model zoo: {name}", digest, model, "torchvision", accuracy)
        for name, digest, model, accuracy in (
            ("vgg16-7.onnx", "f20805a3ecccaa88647bbab4ad011ff2412a9838485ea844de0fcbce349820b9", _D, (72.62, 91.14)),
            ("vgg16-bn-7.onnx", "4fdceabf1ef715c9ed3020fa2eac1cb2a448296c086b03633c80cf47e1c5afce", _D, (72.71, 91.21)),
            ("vgg19-7.onnx", "692f9f927f1df1b89033787a77a73eac59fd9b3344f9ecdf0b13221e41c2046f", _E, (73.72, 91.58)),
            ("vgg19-bn-7.onnx", "ce0987dfa6228ad29708013f38b7f73cbc14ca6066a05fc22ee49b35871c63ed", _E, (73.83, 91.79)),
        )
    ),
)


def digests(path: Path) -> dict[str, str]:
    """Return SHA-256 and MD5 of a file, in hexadecimal digits."""
    hashes = {name: hashlib.new(name) for name in ("sha256", "md5")}
    with path.open("rb") as file:
        while part := file.read(2**22):
            for each in hashes.values():
                each.update(part)
    return {name: each.hexdigest() for name, each in hashes.items()}


def recognise(hashes: Mapping[str, str]) -> Published | None:
    """Return the published file with one of these hashes, or None."""
    return next(
        (known for known in PUBLISHED if any(digest.startswith(known.digest) for digest in hashes.values())), None
    )


def class_names(source: str) -> dict[str, tuple[str, ...]]:
    """Return class_names, and class_ids where there are such, of the section `dataset`.

    Args:
      source: a file with a name a line; or "imagenet": ILSVRC 2012's 1,000 classes in the order of their WordNet
        numbers, as all sources have it, which are the ids.

    Raises:
      UserError: the file cannot be read.
    """
    path = _IMAGENET_CLASSES if source == "imagenet" else Path(source).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--class_names={source}: cannot be read as a text ({error}); a class a line") from error
    if source != "imagenet":
        return {"class_names": tuple(lines)}
    ids, names = zip(*(line.split(" ", 1) for line in lines), strict=True)
    return {"class_names": names, "class_ids": ids}
