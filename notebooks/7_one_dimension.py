# %% [markdown]
# # 7. Convolution in one dimension
#
# Sound, temperatures, heartbeats: a series has one dimension, and a filter slides along it. Everything from notebook 1
# holds, with one axis less. What you will learn:
#
# - what four filters make of a signal: smoothing, differences, curvature, and the search for a pattern;
# - that sizes, padding and receptive fields follow the same formulas;
# - how a LeNet-5 for series is built, and how it reads a digit row by row;
# - what a series does not know about an image.
#
# One small network is trained for comparison with LeNet-5, and LeNet-5 itself: less than a minute.

# %%
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import logging
from flax import nnx

from configs import lenet1d_digits, lenet5_digits
from models.arithmetic import ReceptiveField, Window
from models.geometry import windows
from models.layers import Convolution
from models.pooling import MaxPool
from models.summary import rows
from train import cache, devices, loop
from train.checkpoints import load_network
from train.data.dataset import load_test
from train.data.transforms import normalise
from train.lecture import summary
from train.run import RunFolder

SHORT = "OLDMASTERS_SHORT" in os.environ
EPOCHS = 4.0 if SHORT else 40.0
print(f"{'Short' if SHORT else 'Full'} form: {EPOCHS:g} epochs of training.")

logging.set_verbosity(logging.FATAL)  # checkpoints are written without a word
cache.use_compilation_cache(None)  # compiled programs are kept, as the commands keep them
jax.config.update("jax_default_matmul_precision", "highest")  # a TPU would round what is compared here to bfloat16
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)  # runs go there
plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## 1. A signal, and filters
#
# Here is one made by hand: a slow wave, a step, a short bump, and noise over all of it.

# %%
time = np.arange(240)
bump = np.exp(-0.5 * ((np.arange(21) - 10) / 3.5) ** 2)
signal = 0.6 * np.sin(2 * np.pi * time / 120) + 1.2 * (time >= 150)
signal[60:81] += 1.5 * bump
signal = (signal + np.random.default_rng(0).normal(0, 0.12, len(time))).astype(np.float32)


def convolve(series, kernel, stride=1, padding=0):
    """Slide a kernel along a series: the layer that lenet1d is made of, with one channel and given weights."""
    window = windows(len(kernel), stride=stride, padding=padding, dimensions=1)
    layer = Convolution(1, 1, window, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(kernel, jnp.float32)[:, None, None]
    return np.asarray(layer(jnp.asarray(series)[None, :, None])[0, :, 0])


# By hand, at one place: three neighbours, three weights, one sum.
assert np.isclose(convolve(signal, [1, 2, -1])[10], signal[10] + 2 * signal[11] - signal[12], atol=1e-5)

# %%
smooth = np.full(9, 1 / 9)
pattern = (bump - bump.mean()) / np.sum((bump - bump.mean()) ** 2)
FILTERS = {
    "mean of nine: noise goes": smooth,
    "difference over eight: the step": np.array([-1.0, *[0.0] * 7, 1.0]),
    "second difference: bends": np.array([1.0, *[0.0] * 7, -2.0, *[0.0] * 7, 1.0]),
    "the bump itself: where is it?": pattern,
}
figure, axes = plt.subplots(5, 1, figsize=(7.6, 8), sharex=True, layout="constrained")
axes[0].plot(time, signal, color="black", linewidth=0.9)
axes[0].set_title("the signal", fontsize=9)
for axis, (name, kernel) in zip(axes[1:], FILTERS.items(), strict=True):
    padding = (len(kernel) - 1) // 2
    response = convolve(signal, kernel, padding=padding)
    inside = slice(padding, len(time) - padding)  # elsewhere the filter sees zeros that are no signal
    axis.plot(time[inside], response[inside], color="#3d6fa5")
    axis.axhline(0, color="gray", linewidth=0.6)
    axis.set_title(f"{name} ({len(kernel)} weights)", fontsize=9)
axes[-1].axvline(70, color="#c05a00", linestyle=":")
axes[-1].text(72, axes[-1].get_ylim()[1] * 0.8, "the bump was put here", fontsize=8, color="#c05a00")
axes[-1].set_xlabel("time")
plt.show()

# %% [markdown]
# A filter answers most to what looks like itself: the sum of products is largest where pixels and weights agree. That
# is all there is to a *feature detector*; a convolutional network learns which features are worth looking for.

# %%
found = convolve(signal, pattern, padding=10)
print("The bump's filter answers most at", found.argmax(), "and the bump was put around 70.")
assert abs(found.argmax() - 70) <= 2

# %% [markdown]
# ## 2. The same arithmetic
#
# With one axis instead of two, $n$ values under a filter of $f$ leave $n - f + 1$; padding, stride and pooling do what
# they did to images.

# %%
for f, p, s in ((9, 0, 1), (9, 4, 1), (9, 4, 2), (21, 0, 4)):
    outputs = Window(f, stride=s, padding=(p, p)).outputs(len(signal))
    assert outputs == (len(signal) + 2 * p - f) // s + 1 == len(convolve(signal, np.ones(f), s, p))
    print(f"240 values, filter of {f:2}, padding {p}, stride {s}: {outputs:3} remain")
pooled = MaxPool(windows(4, stride=4, dimensions=1))(jnp.asarray(signal)[None, :, None])
assert pooled.shape == (1, 60, 1)
print("Max pooling over 4 with stride 4 leaves", pooled.shape[1])

# %% [markdown]
# ## 3. A digit as a series
#
# Take an image of 8x8 pixels and read it like a text: row by row, 64 values. A stroke from top to bottom becomes a
# beat, one peak every eight values.

# %%
config = lenet1d_digits.get_config()
config.train.epochs, config.schedule.warmup_epochs = EPOCHS, EPOCHS / 6
config.evaluate.every_epochs = EPOCHS / 4
config.evaluate.report = config.log.tensorboard = False
loop.train(config, Path("lenet1d"))
series = RunFolder(Path("lenet1d"))
test = load_test(series.config.dataset, "digits", series.environment["data"]["fingerprint"]).images

# %%
figure, axes = plt.subplots(3, 2, figsize=(7.6, 4.2), width_ratios=[1, 5], layout="constrained")
for (image_axis, series_axis), label in zip(axes, (0, 1, 7), strict=True):
    image = test.images[np.flatnonzero(test.labels == label)[0], ..., 0]
    image_axis.imshow(image, cmap="gray")
    image_axis.set(xticks=[], yticks=[])
    series_axis.plot(image.ravel(), "o-", markersize=2.5, linewidth=0.9, color="#3d6fa5")
    for row in range(1, 8):
        series_axis.axvline(8 * row - 0.5, color="gray", linewidth=0.5, linestyle=":")
    series_axis.set(xlim=(-0.5, 63.5), yticks=[])
axes[0, 1].set_title("the same numbers, row behind row (dotted: a new row begins)", fontsize=9)
axes[-1, 1].set_xlabel("place in the series")
plt.show()

# %% [markdown]
# `lenet1d` is LeNet-5 with windows of one dimension: five values in the place of 5x5, pooling of two in the place of
# 2x2.

# %%
network, made_of = summary.network("lenet1d", None)
print(f"{'stage':8}{'shape':>8}{'parameters':>12}{'MACs':>9}{'a number sees':>16}")
for row in rows(network):
    shape = "x".join(map(str, row.shape))
    print(f"{row.name:8}{shape:>8}{row.parameters:12,}{row.macs:9,}{row.fields[0].size:9} values")
by_hand = (6 * 5 + 6) + (16 * 5 * 6 + 16) + (120 * 13 * 16 + 120) + (84 * 120 + 84) + (10 * 84 + 10)
assert sum(row.parameters for row in rows(network)) == by_hand == 36_626

field = ReceptiveField().behind(Window(5)).behind(Window(2, 2)).behind(Window(5)).behind(Window(2, 2))
assert field.size == 16  # of S4: two rows of eight

# %% [markdown]
# What has the first layer learnt? Six filters of five weights each, and what they answer to a 7:

# %%
trained = nnx.merge(*load_network(series, devices.make_mesh(None)))
seven = test.images[np.flatnonzero(test.labels == 7)[:1]]
stages = {
    name: np.asarray(value[0]) for name, value in trained.stages(normalise(jnp.asarray(seven), series.config.dataset))
}
kernels = np.asarray(trained.C1.kernel[...])[:, 0]  # [5, 6]
figure, axes = plt.subplots(6, 2, figsize=(7.6, 5), width_ratios=[1, 5], sharex="col", layout="constrained")
for place, (left, right) in enumerate(axes):
    left.bar(range(5), kernels[:, place], color=np.where(kernels[:, place] < 0, "#c05a00", "#3d6fa5"))
    left.axhline(0, color="gray", linewidth=0.6)
    left.set(yticks=[], xticks=[], ylim=(-np.abs(kernels).max(), np.abs(kernels).max()))
    right.plot(range(2, 62), stages["C1"][:, place], color="#3d6fa5")
    right.set(yticks=[])
axes[0, 0].set_title("filter", fontsize=9)
axes[0, 1].set_title("its answer to a 7, behind ReLU", fontsize=9)
axes[-1, 1].set_xlabel("place in the series")
plt.show()

# %% [markdown]
# ## 4. What the series does not know
#
# To a series, the pixel to the right is the next value, but the pixel below is eight values away. A filter of five sees
# parts of one row, and a little of the next where it runs over the end. LeNet-5 sees both neighbours. Beside each other
# on the same images, neither with moved or turned images in training:

# %%
config = lenet5_digits.get_config()
config.train.epochs, config.schedule.warmup_epochs = EPOCHS, EPOCHS / 6
config.evaluate.every_epochs = EPOCHS / 4
config.evaluate.report = config.log.tensorboard = False
config.augment.shift, config.augment.rotate, config.augment.scale, config.augment.shear = 0, 0.0, 0.0, 0.0  # as above
loop.train(config, Path("lenet5"))
image = RunFolder(Path("lenet5"))

# %%
for run in (series, image):
    right = run.result["test"]["accuracy"]
    print(f"{run.path.name:8} {run.result['parameters']:7,} parameters: {right:.1%} of {test.total} test images")

# %% [markdown]
# Of 360 images, two or three more or less are chance: count how many images lie between the two figures before you
# believe in a difference. On images as small as these a series loses little: S4 sees two of the eight rows, and the
# dense layer C5 all of them. On 28x28 pixels S4 would see about half of one row.
#
# What an image allows, and a series does not, is to be moved, turned and sheared in training. LeNet-5 with such images
# comes to 99.6 % (mean of three seeds; README), the series without them to 96.6 %.
#
# ## Try it
#
# 1. A *dilated* filter looks at every d-th value. With `Window(5, dilation=8)` a filter looks straight down a column.
#    How large is its extent, and how many outputs does it leave of 64? Could a network of both kinds of filters catch
#    up with LeNet-5?
# 2. Make the noise of section 1 three times as large. Which of the four filters still tells you something? Why does a
#    longer filter stand more noise?
# 3. Build series of your own: sine, square and sawtooth of random phase, 64 values each, as bytes. Saved as an archive
#    of 8x8 "images" (`np.savez("waves.npz", image=..., label=...)`), they are a data set for
#    `lenet1d` (`config.dataset.source = "npz:waves.npz"`). How good does it become?
# 4. Reverse the order of the rows in all images, in training and test. What happens to each of the two networks? And if
#    the order of the pixels is shuffled (notebook 2)?
