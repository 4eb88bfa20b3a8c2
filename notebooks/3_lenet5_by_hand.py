# %% [markdown]
# # 3. LeNet-5, worked out by hand
#
# LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition") read the
# digits on cheques. It is small enough to be understood to the last number. What you will learn:
#
# - to follow an image through the network, stage by stage, with the formula $n - f + 1$;
# - how seven questions about its picture are answered, and why it has 61,706 parameters;
# - that parameters and work lie in different places;
# - what each stage makes of a real digit, and how the trained network answers;
# - in what the network of 1998 was different.
#
# Answer each question before you run the cell below it.

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
from IPython.display import Image as Picture
from IPython.display import display
from PIL import Image

from configs import lenet5_digits
from models import LeNet5
from models.arithmetic import ReceptiveField, Window
from models.geometry import windows
from models.layers import Convolution
from models.summary import rows
from train import cache, devices, loop
from train.checkpoints import load_network
from train.data.dataset import load_test
from train.data.transforms import normalise
from train.lecture import drawing, summary
from train.predict import predict
from train.run import RunFolder

SHORT = "OLDMASTERS_SHORT" in os.environ
EPOCHS = 4.0 if SHORT else 30.0
print(f"{'Short' if SHORT else 'Full'} form: {EPOCHS:g} epochs of training.")

logging.set_verbosity(logging.FATAL)  # checkpoints are written without a word
cache.use_compilation_cache(None)  # compiled programs are kept, as the commands keep them
jax.config.update("jax_default_matmul_precision", "highest")  # a TPU would round what is compared here to bfloat16
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)  # pictures and the run go there
plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## The network
#
# In the picture blocks are maps: as high as they have pixels, as wide as they have channels. Bars are dense layers.
# Below each stage stand its name, the shape of what it yields, and its parameters. C means convolution, S subsampling
# (pooling), F fully connected; the names are the paper's.

# %%
lenet5, made_of = summary.network("lenet5", "modern")
described = summary.describe(lenet5, made_of, batch_size=128, memory=2**34)
display(Picture(drawing.draw(described, "png"), width=900))
stage = {row.name: row for row in rows(lenet5)}  # what the network says about itself

# %% [markdown]
# ## Seven questions
#
# **1. What size has the input?**

# %%
assert lenet5.input_shape == (32, 32, 1)
print("32 x 32 pixels, and one channel: gray. MNIST's digits have 28 x 28; a border of two pixels of zeros makes 32.")

# %% [markdown]
# **2. C1 makes maps of 28x28. Which filter does that, without padding and with stride 1?**

# %%
fitting = [f for f in range(1, 33) if 32 - f + 1 == 28]
assert fitting == [5]
assert stage["C1"].shape[:2] == (28, 28)
print("32 - f + 1 = 28, so f =", *fitting)

# %% [markdown]
# **3. How many filters has C1?**

# %%
assert stage["C1"].shape[-1] == 6
print("Six: each filter makes one map, and there are six maps.")

# %% [markdown]
# **4. S2 makes 14x14 of 28x28. What are the size and the stride of its window?**

# %%
assert Window(2, stride=2).outputs(28) == 14 == stage["S2"].shape[0]
print("2 x 2 with stride 2: floor((28 - 2) / 2) + 1 = 14. Windows do not overlap, and no pixel is left out:")
print(set(Window(2, stride=2).uses(28)), "is how often each pixel is used.")

# %% [markdown]
# **5. C3 makes sixteen maps of 10x10. Size and number of its filters? And how many weights has one of them?**

# %%
assert Window(5).outputs(14) == 10 == stage["C3"].shape[0]
assert stage["C3"].shape[-1] == 16
print("Sixteen filters of 5 x 5, for 14 - 5 + 1 = 10.")
print("One of them has", 5 * 5 * 6, "weights: a slice of 5 x 5 for each of the six maps that come in.")

# %% [markdown]
# **6. And S4, which makes 5x5 of 10x10?**

# %%
assert Window(2, stride=2).outputs(10) == 5 == stage["S4"].shape[0]
print("Again 2 x 2 with stride 2.")

# %% [markdown]
# **7. How do sixteen maps of 5x5 go into a layer of 120 units?**

# %%
assert np.prod(stage["S4"].shape) == 400
print(
    "They are written one behind the other: 5 * 5 * 16 = 400 numbers, and each of the 120 units has a weight for each."
)

# %% [markdown]
# The paper calls that layer C5, not F5, and for a reason: 120 filters of 5x5x16 on maps of 5x5 have exactly one place
# to lie on. They compute the same from the same weights. (On a larger image the convolution would go on to work, and
# the dense layer would not.)

# %%
rngs = nnx.Rngs(0)
network = LeNet5(rngs=rngs)
as_convolution = Convolution(16, 120, windows(5), rngs=rngs)
as_convolution.kernel[...] = network.C5.kernel[...].reshape(5, 5, 16, 120)
as_convolution.bias[...] = network.C5.bias[...]
maps = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 5, 16)), jnp.float32)
np.testing.assert_allclose(as_convolution(maps)[:, 0, 0], network.C5(maps), atol=1e-5)
assert as_convolution(maps).shape == (3, 1, 1, 120)
print("120 filters of 5 x 5 x 16 and a dense layer of 400 to 120: the same numbers.")

# %% [markdown]
# ## How many parameters?
#
# A filter has $f \cdot f \cdot c$ weights for $c$ channels that come in, and one bias. A dense layer has a weight for
# each pair of an input and an output, and a bias for each output. Pooling has nothing to learn.

# %%
by_hand = {
    "C1": 6 * (5 * 5 * 1) + 6,
    "S2": 0,
    "C3": 16 * (5 * 5 * 6) + 16,
    "S4": 0,
    "C5": 120 * 400 + 120,
    "F6": 84 * 120 + 84,
    "output": 10 * 84 + 10,
}
print(f"{'stage':8}{'shape':>12}{'by hand':>10}{'network':>10}")
for name, row in stage.items():
    print(f"{name:8}{'x'.join(map(str, row.shape)):>12}{by_hand[name]:10,}{row.parameters:10,}")
    assert by_hand[name] == row.parameters
assert sum(by_hand.values()) == 61_706
print(f"{'all':8}{'':12}{sum(by_hand.values()):10,}")

# %% [markdown]
# ## Where the parameters are, and where the work is
#
# One multiply-accumulate (MAC) is a weight times a value, added to a sum. A dense layer uses each weight once; C3 uses
# each of its weights at all 100 places of its maps.

# %%
macs_by_hand = {"C1": 28 * 28 * 6 * 25, "C3": 10 * 10 * 16 * 25 * 6, "C5": 400 * 120, "F6": 120 * 84, "output": 84 * 10}
assert all(stage[name].macs == count for name, count in macs_by_hand.items())
assert sum(macs_by_hand.values()) == 416_520

figure, axis = plt.subplots(figsize=(6.8, 2.3), layout="constrained")
totals = {"parameters": 61_706, "macs": 416_520}
left = dict.fromkeys(totals, 0.0)
for name, colour in zip(macs_by_hand, ("#7aa6d8", "#3d6fa5", "#8cc08a", "#5a9a58", "#34693a"), strict=True):
    for bar, (key, total) in enumerate(totals.items()):
        share = getattr(stage[name], key) / total
        axis.barh(bar, share, left=left[key], color=colour, edgecolor="white")
        if share > 0.03:
            axis.text(left[key] + share / 2, bar, f"{name}\n{share:.0%}", ha="center", va="center", fontsize=8)
        left[key] += share
axis.set(yticks=[0, 1], yticklabels=["61,706 parameters", "416,520 MACs"], xlim=(0, 1), xticks=[])
axis.set_title("Blue: convolutions. Green: dense layers.", fontsize=10)
axis.set_frame_on(False)
plt.show()

# %% [markdown]
# Four fifths of the parameters are in C5, and six sevenths of the work is in C1 and C3. You will meet the same picture
# in AlexNet and VGG-16 (notebook 4).
#
# ## What a number sees
#
# A number of C1 sees 5x5 pixels. A number of S2 sees four neighbouring numbers of C1, which together see 6x6. Two steps
# of S2 are two pixels of the image, so C3's window of five covers $6 + 4 \cdot 2 = 14$. Such an area is called the
# *receptive field*.

# %%
field = ReceptiveField()
for name, window in (
    ("C1", Window(5)),
    ("S2", Window(2, 2)),
    ("C3", Window(5)),
    ("S4", Window(2, 2)),
    ("C5", Window(5)),
):
    field = field.behind(window)
    assert field == stage[name].fields[0]
    print(
        f"{name}: a number sees {field.size:2} x {field.size:<2} pixels; its neighbour looks {field.stride} further on"
    )

# %% [markdown]
# ## A digit on its way
#
# The embedded digits (1,797 of them, 8x8 pixels, scaled to 32x32) are enough to train it, within seconds.

# %%
config = lenet5_digits.get_config()
config.train.epochs, config.schedule.warmup_epochs = EPOCHS, EPOCHS / 6
config.evaluate.every_epochs = EPOCHS / 2
config.evaluate.report = config.log.tensorboard = False
loop.train(config, Path("lenet5"))
run = RunFolder(Path("lenet5"))

# %%
test = load_test(run.config.dataset, "digits", run.environment["data"]["fingerprint"]).images
trained = nnx.merge(*load_network(run, devices.make_mesh(None)))
digit = test.images[np.flatnonzero(test.labels == 4)[:1]]
stages = {
    name: np.asarray(value[0]) for name, value in trained.stages(normalise(jnp.asarray(digit), run.config.dataset))
}

figure = plt.figure(figsize=(9.2, 5.6), layout="constrained")
grid = figure.add_gridspec(6, 17, width_ratios=[6] + [3] * 16)
axis = figure.add_subplot(grid[0:2, 0])
axis.imshow(digit[0, ..., 0], cmap="gray")
axis.set(xticks=[], yticks=[])
axis.set_title("input 32x32", fontsize=8)
for line, name in enumerate(("C1", "S2", "C3", "S4")):
    maps = stages[name]
    for place in range(maps.shape[-1]):
        axis = figure.add_subplot(grid[line, place + 1])
        axis.imshow(maps[..., place], vmin=0, vmax=maps.max())
        axis.set(xticks=[], yticks=[])
        if place == 0:
            axis.set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
for line, name in ((4, "C5"), (5, "output")):
    axis = figure.add_subplot(grid[line, 1:])
    axis.bar(range(len(stages[name])), stages[name], color="#8cc08a", width=0.9)
    axis.set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    axis.set(yticks=[], xticks=range(10) if name == "output" else [])
plt.show()
print("the largest logit is that of", run.config.dataset.class_names[stages["output"].argmax()])

# %% [markdown]
# From above: six maps of C1 are halved by S2; C3 mixes them into sixteen, and S4 halves those; then come the 120
# numbers of C5, and the ten logits. The further down, the less it looks like a 4, and the more it says that it is one.
#
# What does it say of images that it has never seen? `train.predict` reads files, as `python -m scripts.predict` does.

# %%
for place in range(12):
    Image.fromarray(test.images[place, ..., 0]).save(f"{place:02}.png")
figure, axes = plt.subplots(2, 6, figsize=(8, 3.4), layout="constrained")
for axis, found in zip(axes.flat, predict(run, [f"{place:02}.png" for place in range(12)], top=2), strict=True):
    axis.imshow(Image.open(found.image), cmap="gray")
    first, second = found.guesses
    axis.set_title(f"{first.name} ({first.probability:.1%})\n{second.name} ({second.probability:.1%})", fontsize=8)
    axis.set(xticks=[], yticks=[])
figure.suptitle("Two guesses for each of twelve test images", fontsize=10)
plt.show()

# %% [markdown]
# ## And in 1998?
#
# The form above is the one taught today. The published network has 60,000 trainable parameters. A map of C3 sees only
# three, four or six of S2's maps, by a table: that breaks the symmetry between maps, and saved time. Subsampling has
# two trainable numbers a map: a coefficient and a bias. The output layer has none: its fixed weights are little
# pictures of the digits. The paper also counts *connections*: the inputs of every unit at every place, biases among
# them.

# %%
published, _ = summary.network("lenet5", "1998")
print(f"{'stage':8}{'today':>8}{'1998':>8}{'connections of 1998':>22}")
for now, then in zip(rows(lenet5), rows(published), strict=True):
    print(f"{now.name:8}{now.parameters:8,}{then.parameters:8,}{then.connections:22,}")
assert sum(row.parameters for row in rows(published)) == 60_000
assert sum(row.connections for row in rows(published)) == 340_908
print(f"{'all':8}{61_706:8,}{60_000:8,}{340_908:22,}")

# %% [markdown]
# ## Try it
#
# 1. The input grows to 64x64. Which of the parameters become more, and how many are there in all? Work it out, then ask
#    `summary.network("lenet5", "modern", image_size=64)`.
# 2. Replace S2 and S4 by convolutions with stride 2 and as many filters. How many parameters does that add?
# 3. Make C1 twice as wide (`config.model.widths = (12, 16)`). By how much do parameters and multiply-accumulates grow?
#    Is the network better on the digits, and are 360 test images enough to tell?
# 4. Feed the trained network an image of your own: write a digit, photograph it, and call `predict`. If the answer is
#    wrong, look at what the network has been trained on: light strokes on a dark ground.
