# %% [markdown]
# # 2. Why not a multilayer perceptron?
#
# A perceptron can represent anything that a convolutional network can. What you will learn is what it costs, and what
# it has to find out that a convolutional network is given:
#
# - how many weights a perceptron needs for a photo, and a layer of filters beside it;
# - that a map of filters moves with the image (*equivariance*), and a hidden layer does not;
# - what happens to both networks when test images move by some pixels;
# - what happens to both when the pixels are shuffled: what a filter takes for granted.
#
# Four small networks are trained, on digits that come with scikit-learn; that takes about a minute.

# %%
import os
import tempfile
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import logging
from flax import nnx

from configs import permuted_mnist, shift_mnist
from models.summary import rows
from train import cache, devices, loop, side_by_side
from train.checkpoints import load_network
from train.data.dataset import load_test
from train.data.resize import resize
from train.data.sources import read
from train.data.transforms import move, normalise
from train.lecture.examples import EXAMPLES
from train.lecture.summary import network
from train.run import RunFolder

SHORT = "OLDMASTERS_SHORT" in os.environ
EPOCHS, FARTHEST = (4.0, 1) if SHORT else (30.0, 6)
print(f"{'Short' if SHORT else 'Full'} form: {EPOCHS:g} epochs, largest shift {FARTHEST} pixels.")

logging.set_verbosity(logging.FATAL)  # checkpoints are written without a word
cache.use_compilation_cache(None)  # compiled programs are kept, as the commands keep them
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)  # runs and data go there
plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## 1. Counting
#
# A telephone's camera takes 108 million pixels, three numbers each. A hidden layer of 100 units has a weight for every
# pair of a number and a unit.

# %%
mlp = EXAMPLES["mlp"]()
print(*mlp.steps, sep="\n")
assert mlp.output["weights"] == 32_400_000_000
assert mlp.output["bytes"] == 129_600_000_000

# %% [markdown]
# 32.4 thousand million weights, 130 GB for one layer (a float32 number has 32 *bits*, that is 4 bytes), and two classes
# to tell apart. A hundred filters of 5x5x3 have 7,600 parameters, however large the photo is: the same weights are used
# at every place. They are not free of charge, since they *compute* at every place; what is saved is what must be
# stored, and what must be learnt.

# %%
sides = np.array([8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 10_392])
filters = np.full(len(sides), 5 * 5 * 3 * 100 + 100)
figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
axis.loglog(sides**2, 3 * sides**2 * 100 + 100, "o-", label="perceptron: 100 hidden units")
axis.loglog(sides**2, filters, "s-", label="convolution: 100 filters of 5x5x3")
for name, pixels in (("MNIST", 28**2), ("AlexNet's input", 227**2), ("108 megapixels", 108_000_000)):
    axis.axvline(pixels, color="gray", linewidth=0.8, linestyle=":")
    axis.text(pixels * 0.85, 2e10, name, rotation=90, ha="right", va="top", fontsize=7, color="gray")
axis.set(xlabel="pixels", ylabel="parameters of the first layer", title="What the first layer must learn")
axis.legend(fontsize=8, loc="center right", bbox_to_anchor=(0.96, 0.3))
axis.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Small images are kinder to perceptrons. These are the two networks of this notebook, for 32x32 pixels: the perceptron
# has five times the parameters and does less work.

# %%
for name in ("lenet5", "mlp"):
    found = rows(network(name, None, image_size=32)[0])
    parameters, macs = sum(row.parameters for row in found), sum(row.macs for row in found)
    print(
        f"{name:7} {parameters:8,} parameters   {macs:8,} multiply-accumulates   stages:", *(row.name for row in found)
    )

# %% [markdown]
# ## 2. Digits with room to move
#
# The embedded digits are 8x8 pixels and fill their frame. Here they are scaled to 20x20 and put into the middle of
# 32x32, so that they can be moved. `npz:` is one of the sources that the project reads.

# %%
config = shift_mnist.get_config("lenet5")
digits = read("digits", config.dataset).splits["train"]
scaled = resize(digits.images, 20, "bilinear", 1.0)
np.savez("digits.npz", image=np.pad(scaled, ((0, 0), (6, 6), (6, 6), (0, 0)))[..., 0], label=digits.labels)


def train(configs, model, name):
    """Train a network as an experiment on MNIST has it, on these digits."""
    config = configs.get_config(model)
    config.dataset.source, config.dataset.validation = "npz:digits.npz", 0.1
    # Smaller batches and a lower rate than there, as these are 1,293 images and not 55,000.
    config.train.epochs, config.train.batch_size, config.train.ema = EPOCHS, 64, 0.99
    config.schedule.learning_rate, config.schedule.warmup_epochs = 0.05, EPOCHS / 10
    config.evaluate.every_epochs = EPOCHS / 4
    config.evaluate.report = config.log.tensorboard = False
    loop.train(config, Path(name))
    print()
    return RunFolder(Path(name))


lenet5 = train(shift_mnist, "lenet5", "lenet5")
perceptron = train(shift_mnist, "mlp", "mlp")

# %% [markdown]
# Neither has seen a digit that was not in the middle.
#
# ## 3. A map moves with the image
#
# Move the image by four pixels. Each map of LeNet-5's first layer moves by four pixels too, and is otherwise the same:
# the filters meet the same strokes, at another place. That is *equivariance*, and nobody had to train it.

# %%
test = load_test(lenet5.config.dataset, "npz:digits.npz", lenet5.environment["data"]["fingerprint"]).images
mesh = devices.make_mesh(None)


def stages(run, images):
    """Return the activations of every stage by name."""
    trained = nnx.merge(*load_network(run, mesh))
    return {name: np.asarray(value) for name, value in trained.stages(normalise(images, run.config.dataset))}


images = jnp.asarray(test.images)
moved = move(images, 0, 4)
still, gone = stages(lenet5, images), stages(lenet5, moved)
np.testing.assert_allclose(gone["C1"][:, :, 4:], still["C1"][:, :, :-4], atol=1e-4)

figure, axes = plt.subplots(2, 5, figsize=(8, 3.5), layout="constrained")
for line, pixels, maps in ((axes[0], images, still), (axes[1], moved, gone)):
    line[0].imshow(pixels[0, ..., 0], cmap="gray")
    for place, axis in enumerate(line[1:]):
        axis.imshow(maps["C1"][0, ..., place], vmin=0, vmax=float(still["C1"][0, ..., place].max()) or 1)
for axis, title in zip(axes[0], ("image", *(f"map {place} of C1" for place in range(1, 5))), strict=True):
    axis.set_title(title, fontsize=9)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("in the middle", fontsize=9)
axes[1, 0].set_ylabel("4 pixels to the right", fontsize=9)
plt.show()

# %% [markdown]
# A hidden layer of the perceptron has no such property: pixel 100 meets one weight and pixel 104 another, which has
# been learnt from other strokes.
#
# A classifier wants more than equivariance: an answer that does *not* move, *invariance*. Pooling makes a little of it,
# because it does not tell where in its window the largest value was.
#
# ## 4. Moved test images
#
# Now the test images move, by 1 to 6 pixels, in four directions; the figure is the mean. Neither network was ever shown
# a moved digit.

# %%
shifts = {run.path.name: side_by_side.curve(run, "shift", FARTHEST) for run in (lenet5, perceptron)}
figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for name, curve in shifts.items():
    axis.plot(*zip(*curve, strict=True), "o-", label=name)
    print(f"{name:7}", *(f"{pixels} px {accuracy:6.1%}" for pixels, accuracy in curve), sep="   ")
axis.set(
    xlabel="test images moved by, pixels",
    ylabel="accuracy",
    ylim=(0, 1.03),
    title="Trained in the middle, tested beside it",
)
axis.axhline(0.1, color="gray", linewidth=0.8, linestyle=":")
axis.text(0, 0.11, "chance", fontsize=8, color="gray")
axis.legend()
axis.grid(alpha=0.3)
plt.show()

# %% [markdown]
# LeNet-5 holds longer, but not for ever: its dense layers see places like any perceptron. On MNIST the same experiment
# gives 84.5 % against 61.5 % at three pixels (README). What helps for good is to show moved images in training
# (`config.augment.shift`).
#
# ## 5. Shuffled pixels
#
# Take one permutation of the 1,024 pixels and apply it to every image, in training and in the test. Nothing is lost:
# who knows the permutation can undo it.

# %%
shuffled = {model: train(permuted_mnist, model, f"{model}_permuted") for model in ("lenet5", "mlp")}

# %%
figure, axes = plt.subplots(2, 6, figsize=(7.2, 2.6), layout="constrained")
seen = normalise(images, shuffled["lenet5"].config.dataset)
for place in range(6):
    axes[0, place].imshow(images[place, ..., 0], cmap="gray")
    axes[1, place].imshow(seen[place, ..., 0], cmap="gray")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("as read", fontsize=9)
axes[1, 0].set_ylabel("permuted", fontsize=9)
plt.show()

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.2), layout="constrained")
for height, run in enumerate((lenet5, shuffled["lenet5"], perceptron, shuffled["mlp"])):
    accuracy = side_by_side.figures(run)["accuracy"]
    wrong = round((1 - accuracy) * test.total)
    print(f"{run.path.name:16} {accuracy:7.2%} of {test.total} test images right, {wrong:3} wrong")
    axis.barh(run.path.name, wrong, color="#7aa6d8" if height < 2 else "#e0a06b")
    axis.text(wrong, height, f" {wrong}", va="center")
axis.set(xlabel=f"wrong answers to {test.total} test images", title="Pixels as they are, and permuted")
axis.margins(x=0.08)
axis.invert_yaxis()
plt.show()

# %% [markdown]
# A perceptron treats its inputs as a list without an order; permute the list, and it learns the same. A filter looks at
# neighbours together, because in photos neighbours belong together. Where they do not, that assumption is wrong, and
# LeNet-5 pays for it. With some hundreds of test images a difference of a few images is chance; on MNIST's 10,000 it is
# plain: LeNet-5 falls from 99.15 to 96.51 %, the perceptron stays (98.39 and 98.47 %; README).
#
# An assumption that is built in is called an *inductive bias*. A good one spares data; a wrong one costs.
#
# ## Try it
#
# 1. Set `config.augment.shift = 6` in `train` and repeat section 4. Which of the two networks gains more?
# 2. Give LeNet-5 more pooling, or a perceptron fewer hidden units (`config.model.hidden = (30,)`). What becomes of the
#    curves?
# 3. Permute the image in blocks instead of pixels: cut `scaled` into 4x4 pieces and shuffle those. Do you expect
#    LeNet-5 to suffer as much? Why?
# 4. At which side of a square gray image does a hidden layer of 300 units have more parameters than all of AlexNet
#    (61,100,840)?
