"""Published counts, and the formulas against what XLA counts, allocates and differentiates."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import base
from models import NETWORKS, Network
from models.arithmetic import GeometryError, ReceptiveField
from models.geometry import Layer, Shape, Sliding
from models.layers import Convolution, Dense
from models.network import Stage
from models.pooling import AveragePool, MaxPool
from models.summary import Row, inference_memory, rows, training_memory
from train import devices, settings
from train.prepare import prepare

# Every form of every network, at the size it was published for.
FORMS = {
    f"{name} {variant or ''}".strip(): (make, size)
    for name, size in (("lenet5", 32), ("lenet1d", 8), ("alexnet", 224), ("vgg", 224), ("mlp", 28))
    for variant, make in NETWORKS[name].items()
} | {f"alexnet {variant}": (NETWORKS["alexnet"][variant], 227) for variant in ("2012", "caffenet", "bvlc")}

# Those of VGG are as one another, but for how often they do the same.
ONE_OF_EACH = [
    pytest.param(form, marks=pytest.mark.slow) if form in ("vgg B", "vgg C", "vgg E", "vgg A-LRN") else form
    for form in FORMS
]


def shapes(make: Callable[..., Network], **options) -> Network:
    """Return a network of shapes, without numbers."""
    return nnx.eval_shape(lambda: make(**options, rngs=nnx.Rngs(0)))


def summary(name: str, variant: str | None, **options) -> list[Row]:
    return rows(shapes(NETWORKS[name][variant], **options))


@pytest.mark.parametrize(
    ("name", "variant", "options", "parameters"),
    [
        ("lenet5", "modern", {}, 61_706),  # the lecture
        ("lenet5", "1998", {}, 60_000),  # LeCun et al. 1998, section II.B
        ("alexnet", "2012", {"image_size": 227}, 60_965_224),
        ("alexnet", "caffenet", {"image_size": 227}, 60_965_224),
        ("alexnet", "bvlc", {"image_size": 227}, 60_965_224),
        # torchvision's documentation.
        ("alexnet", "torchvision", {}, 61_100_840),
        ("vgg", "A", {}, 132_863_336),
        ("vgg", "B", {}, 133_047_848),
        ("vgg", "D", {}, 138_357_544),
        ("vgg", "E", {}, 143_667_240),
        ("vgg11", "A", {"batch_norm": True}, 132_868_840),
        ("vgg13", "B", {"batch_norm": True}, 133_053_736),
        ("vgg16", "D", {"batch_norm": True}, 138_365_992),
        ("vgg19", "E", {"batch_norm": True}, 143_678_248),
        # Simonyan and Zisserman, table 2: 133, 133, 133, 134, 138, 144 million.
        ("vgg", "A-LRN", {}, 132_863_336),
        ("vgg", "C", {}, 133_638_952),
        # LeCun et al. 1998, section III.C: 28x28-300-100-10.
        ("mlp", None, {}, 266_610),
        # Other channels and classes change the first and the last layer alone.
        ("alexnet", "torchvision", {"channels": 1, "classes": 10}, 61_100_840 - 2 * 121 * 64 - 990 * 4_097),
        ("vgg16", "D", {"channels": 4, "classes": 2, "image_size": 32}, 138_357_544 + 9 * 64 - 998 * 4_097),
    ],
)
def test_parameters_are_the_published_ones(name: str, variant: str | None, options: dict, parameters: int) -> None:
    assert sum(row.parameters for row in summary(name, variant, **options)) == parameters


@pytest.mark.parametrize(
    ("name", "variant", "options", "macs"),
    [
        ("lenet5", "modern", {}, 416_520),
        ("alexnet", "torchvision", {}, 714_188_480),  # torchvision: 0.71 G
        ("alexnet", "torchvision", {"image_size": 128, "classes": 1000}, 254_835_392),
        ("alexnet", "2012", {"image_size": 227}, 724_406_816),  # "724 M"
        ("vgg", "D", {}, 15_470_264_320),  # torchvision: 15.47 G
        ("vgg", "A", {}, 7_609_090_048),  # torchvision: 7.61 G
        ("vgg", "B", {}, 11_308_466_176),  # torchvision: 11.31 G
        ("vgg", "E", {}, 19_632_062_464),  # torchvision: 19.63 G
        ("mlp", None, {"image_size": 6, "hidden": (20, 5), "classes": 4}, 36 * 20 + 20 * 5 + 5 * 4),
    ],
)
def test_macs_are_the_published_ones(name: str, variant: str | None, options: dict, macs: int) -> None:
    assert sum(row.macs for row in summary(name, variant, **options)) == macs


@pytest.mark.parametrize(
    ("name", "variant", "least"),
    [
        ("lenet5", "modern", 16),
        ("lenet5", "1998", 16),
        ("lenet1d", None, 4),
        ("alexnet", "torchvision", 63),
        ("alexnet", "2012", 67),
        ("alexnet", "caffenet", 39),
        ("alexnet", "bvlc", 39),
        ("vgg", "A", 32),
        ("vgg", "D", 32),
    ],
)
def test_the_least_image_is_the_documented_one(name: str, variant: str | None, least: int) -> None:
    assert all(min(row.shape) >= 1 for row in summary(name, variant, image_size=least))
    with pytest.raises(GeometryError, match=r"^stage \w+: a .* window makes 0(x0)? of a "):
        summary(name, variant, image_size=least - 1)


def test_alexnets_shapes() -> None:
    # Figure 2 of the paper; conv1 sees 227 pixels.
    stages = {row.name: row.shape for row in summary("alexnet", "2012", image_size=227)}
    assert stages == {
        "conv1": (55, 55, 96),
        "norm1": (55, 55, 96),
        "pool1": (27, 27, 96),
        "conv2": (27, 27, 256),
        "norm2": (27, 27, 256),
        "pool2": (13, 13, 256),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 384),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    }
    for variant, first in (("caffenet", ["conv1", "pool1", "norm1"]), ("bvlc", ["conv1", "norm1", "pool1"])):
        assert [row.name for row in summary("alexnet", variant, image_size=227)][:3] == first
    torchvision = {row.name: row.shape for row in summary("alexnet", "torchvision")}
    assert [torchvision[f"conv{number}"] for number in range(1, 6)] == [
        *((55, 55, 64), (27, 27, 192), (13, 13, 384), (13, 13, 256), (13, 13, 256))
    ]


def test_vggs_shapes() -> None:
    stages = {row.name: row.shape for row in summary("vgg", "D")}
    convolutions = [name for name in stages if name.startswith("conv")]
    assert convolutions == [
        *("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"),
        *("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3"),
    ]
    assert [stages[f"pool{block}"] for block in range(1, 6)] == [
        *((112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512))
    ]
    assert [row.name for row in summary("vgg", "A-LRN")][:3] == ["conv1_1", "norm1", "pool1"]


@pytest.mark.parametrize("form", FORMS)
def test_shapes_are_those_of_the_stages(form: str) -> None:
    make, size = FORMS[form]
    network = shapes(make, image_size=size)
    graph, state = nnx.split(network)
    x = jax.ShapeDtypeStruct((3, *network.input_shape), jnp.float32)
    stages = jax.eval_shape(lambda state, x: list(dict(nnx.merge(graph, state).stages(x)).values()), state, x)
    assert [stage.shape for stage in stages] == [(3, *row.shape) for row in rows(network)]


@pytest.mark.parametrize("form", ONE_OF_EACH)
def test_receptive_fields_are_those_that_gradients_show(form: str) -> None:
    """A gradient from the middle output of each stage reaches as far as the formula says, cut at the image's edge.

    Kernels are positive, activations left out, and the largest value replaced by the mean: nothing is lost on the way.
    """
    make, size = FORMS[form]
    graph, params, others = nnx.split(shapes(make, image_size=size), nnx.Param, ...)
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 1 / math.prod(leaf.shape[:-1])), params)
    network = nnx.merge(graph, params, others)
    x = jnp.ones((1, *network.input_shape))
    backward = []
    for row, stage in zip(rows(network), network.plan, strict=True):
        x, back = jax.vjp(functools.partial(linear, network, stage), x)
        backward.append(back)
        middle = [side // 2 for side in row.shape[:-1]]
        gradient = jnp.zeros_like(x).at[(0, *middle)].set(1.0)
        for back in reversed(backward):
            (gradient,) = back(gradient)
        reached = np.asarray(gradient[0]).any(-1)
        if "lenet1d" in form:
            reached = reached.ravel()
        for axis, field in enumerate(row.fields):
            others = tuple(other for other in range(reached.ndim) if other != axis)
            seen = np.flatnonzero(reached.any(others))
            first = field.offset + (middle[axis] if middle else 0) * field.stride
            length = reached.shape[axis]
            np.testing.assert_array_equal(seen, np.arange(max(0, first), min(length, first + field.size)), row.name)


def linear(network: Network, stage: Stage, x: jax.Array) -> jax.Array:
    for layer in network.layers_of(stage):
        x = (AveragePool(layer.windows) if isinstance(layer, MaxPool) else layer)(x)
    return x


def test_fields_where_adaptive_pooling_has_work() -> None:
    # At 128 pixels AlexNet's pool5 leaves 3x3, outputs 32 pixels apart: all of them together see what fc6 sees.
    stages = {row.name: row.fields[0] for row in summary("alexnet", "torchvision", image_size=128)}
    pool5 = stages["pool5"]
    assert stages["fc6"] == ReceptiveField(pool5.size + 2 * 32, 0, pool5.offset)


def layers_with_shapes(network: Network) -> list[tuple[str, Layer, Shape]]:
    found, shape = [], network.input_shape
    for stage in network.plan:
        for layer in network.layers_of(stage):
            found.append((stage.name, layer, shape))
            shape = layer.output(shape)
    return found


def share_inside(layer: Sliding, shape: Shape) -> float:
    """Return which share of a convolution's products is with pixels and not with padding."""
    pairs = list(zip(layer.windows, shape[:-1], strict=True))
    inside = math.prod(sum(window.counts(side)) for window, side in pairs)
    return inside / math.prod(window.size * window.outputs(side) for window, side in pairs)


@pytest.mark.parametrize("form", FORMS)
def test_macs_less_those_with_padding_are_xlas(form: str) -> None:
    make, size = FORMS[form]
    network = shapes(make, image_size=size)
    products = [(name, layer, shape) for name, layer, shape in layers_with_shapes(network) if layer.macs(shape)]
    compared = 0
    for name, layer, shape in products:
        if not isinstance(layer, Convolution | Dense):
            assert form == "lenet5 1998"  # its own layers: see the next test
            continue
        graph, state = nnx.split(layer)
        x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        counted = jax.jit(lambda state, x, graph=graph: nnx.merge(graph, state)(x)).lower(state, x).cost_analysis()
        macs = layer.macs(shape)
        if isinstance(layer, Convolution):
            macs *= share_inside(layer, shape)
        # XLA counts two operations a multiply-accumulate, and one for each bias that is added.
        assert counted["flops"] == round(2 * macs) + math.prod(layer.output(shape)), name
        compared += 1
    assert compared >= 3


def test_xla_counts_the_zeros_of_a_partial_convolution() -> None:
    # It is computed as a full one; the formula counts the pairs that exist, sixty of ninety-six.
    layer, shape = next((layer, s) for name, layer, s in layers_with_shapes(shapes(*lenet1998())) if name == "C3")
    graph, state = nnx.split(layer)
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    counted = jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, x).cost_analysis()["flops"]
    full = 2 * 100 * 25 * 96 + 1_600
    assert layer.macs(shape) == 100 * 25 * 60
    assert full <= counted <= full + 2 * 25 * 96  # putting the kernels into place may count


def lenet1998() -> tuple[Callable[..., Network]]:
    return (NETWORKS["lenet5"]["1998"],)


@pytest.mark.parametrize(
    ("name", "variant", "size", "batch"),
    [
        ("alexnet", "torchvision", 224, 64),
        ("alexnet", "torchvision", 224, 16),
        ("alexnet", "2012", 227, 64),
        ("vgg", "D", 224, 8),
        ("vgg", "D", 224, 2),
        ("vgg", "A", 224, 8),
    ],
)
def test_training_memory_is_what_xla_allocates(name: str, variant: str, size: int, batch: int) -> None:
    config = base.get_config()
    config.model.update(name=name, variant=variant)
    config.train.batch_size = batch
    settings.resolve(config)
    config.dataset.update(image_size=size, channels=3, classes=1000, mean=(0.5,) * 3, std=(0.25,) * 3)
    stats = prepare(config, 10_000, devices.make_mesh(1)).train_step.memory_analysis()
    allocated = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    allocated += stats.temp_size_in_bytes
    predicted = training_memory(shapes(NETWORKS[name][variant], image_size=size)).of(batch)
    assert predicted == pytest.approx(allocated, rel=0.2)


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    memory = training_memory(shapes(NETWORKS["vgg16"]["D"]))
    available = 16 * 2**30
    batch = memory.largest_batch(available)
    assert memory.of(batch) <= available < memory.of(batch + 1)
    assert memory.largest_batch(2**30) == 0
    # Parameters, gradients and one moment in float32; Adam keeps two.
    assert memory.fixed == 3 * 4 * 138_357_544
    assert training_memory(shapes(NETWORKS["vgg16"]["D"]), moments=2).fixed == 4 * 4 * 138_357_544


def test_inference_holds_a_stages_input_and_output() -> None:
    memory = inference_memory(shapes(NETWORKS["vgg16"]["D"]))
    assert memory.fixed == 4 * 138_357_544
    assert memory.image == 4 * 2 * 224 * 224 * 64
