# %% [markdown]
# # 6. Looking at the last hidden layer: PCA and t-SNE
#
# Before its last layer, a network has turned an image into some dozens of numbers: 84 in LeNet-5, 4,096 in AlexNet. An
# image is a point in a space of so many dimensions, and the last layer divides that space by planes. What you will
# learn:
#
# - to draw that space on paper, by PCA (a shadow of it) and by t-SNE (a map of neighbourhoods);
# - how the classes come apart from stage to stage, and while the network learns;
# - to put figures beside a picture, since the eye believes too much;
# - what t-SNE shows that is not there;
# - how the same looks for photos, where the classes are harder.
#
# MNIST and Tiny ImageNet are taken from the folder that `OLDMASTERS_DATA` names; without it, the digits that come with
# scikit-learn.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from absl import logging
from IPython.display import Image, display

import configs
from configs import alexnet_tiny_imagenet, lenet5_digits, lenet5_mnist
from train import cache, loop
from train.embedding import palette, projection, writing
from train.embedding.of_run import Options, embed
from train.embedding.quality import measure
from train.pages import drawing
from train.run import RunFolder

SHORT = "OLDMASTERS_SHORT" in os.environ
POINTS = 200 if SHORT else 1_600
print(f"{'Short' if SHORT else 'Full'} form: maps of up to {POINTS:,} images.")

checkout = Path(configs.__file__).resolve().parent.parent
trained_runs = Path(os.environ.get("OLDMASTERS_RUNS", checkout / "runs")).absolute()
data = os.environ.get("OLDMASTERS_DATA")
logging.set_verbosity(logging.FATAL)  # checkpoints are written without a word
cache.use_compilation_cache(None)  # compiled programs are kept, as the commands keep them
folder = tempfile.TemporaryDirectory()
if data:
    Path(folder.name, "data").symlink_to(Path(data).absolute())
os.chdir(folder.name)  # runs go there
plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## 1. A network to look into
#
# LeNet-5, trained for a minute.

# %%
mnist = bool(data) and Path("data/mnist").is_dir()
what = "MNIST" if mnist else "the embedded digits"
EPOCHS = (0.2 if SHORT else 2.0) if mnist else (3.0 if SHORT else 40.0)


def learn(name, epochs):
    """Train LeNet-5, keep three checkpoints, and return the run."""
    config = lenet5_mnist.get_config() if mnist else lenet5_digits.get_config()
    if mnist:
        config.dataset.source = "idx:data/mnist"
    config.train.epochs, config.schedule.warmup_epochs, config.train.ema = epochs, epochs / 4, 0.9
    config.evaluate.every_epochs, config.checkpoint.keep = epochs / 3, 3
    config.evaluate.report = config.log.tensorboard = False
    loop.train(config, Path(name))
    return RunFolder(Path(name))


lenet5 = learn("lenet5", EPOCHS)
print(f"These are {what}, and LeNet-5 after {EPOCHS:g} epochs.")

# %% [markdown]
# ## 2. From pixels to F6
#
# **PCA** turns the cloud of points until its longest direction lies to the right and the next longest upwards, and
# drops all others. It is a shadow: what is far apart in it is far apart in space; what is near may lie behind each
# other.
#
# **t-SNE** (van der Maaten and Hinton 2008) gives up distances. It lays points on paper so that each has the same
# *neighbours* as in space. Its *perplexity* is about how many neighbours each point listens to.
#
# The test images, at three places of the network: as pixels, behind the convolutions, and at the last hidden layer.


# %%
def show(embedding, method):
    """Show the maps of a method."""
    with drawing.plain() as new:
        display(Image(writing.draw(embedding.panels(method), embedding.labels, embedding.class_names, new), width=900))


by_stage = embed(lenet5, Options(stages=("pixels", "S4", "F6"), points=POINTS))
print(f"{len(by_stage.ids):,} of {by_stage.total:,} test images of {what}")
show(by_stage, "pca")

# %%
show(by_stage, "tsne")

# %% [markdown]
# In the pixels some classes lie apart already, and others run into each other (4 and 9, 3, 5 and 8): whoever draws a 4
# and a 9 uses much the same pixels. At F6 each class is a heap of its own. That is what the stages before are for: they
# bring images together that mean the same, so that planes can divide them.
#
# ## 3. How good is a map?
#
# Any cloud can be drawn. Three figures say how far to believe a drawing:
#
# - *trustworthiness*: are a point's neighbours on paper its neighbours in space? 1 is best;
# - *neighbours agree*: for how many images do most of five neighbours have the same label, in space and on paper?
# - *silhouette*: how much nearer is an image to its own class than to the next one? 1 is best, 0 is mixed.

# %%
print(
    f"{'stage':8}{'method':8}{'trust':>8}{'agree, space':>14}{'agree, paper':>14}{'silhouette, space':>19}{'paper':>8}"
)
for one in by_stage.maps:
    q = one.quality
    print(
        f"{one.stage:8}{one.method:8}{q.trustworthiness:8.3f}{q.knn_activations:14.1%}{q.knn_map:14.1%}"
        f"{q.silhouette_activations:19.2f}{q.silhouette_map:8.2f}"
    )

# %% [markdown]
# Compare *agree* in space and on paper. Two directions of PCA are not enough to keep ten classes apart; a map of t-SNE
# keeps nearly all. But look at the columns of space, too: what t-SNE draws of pixels looks tidier than the space is.

# %%
f6 = {one.method: one.points for one in by_stage.maps if one.stage == "F6"}
wrong = by_stage.seen[-1].taken_for != by_stage.labels
figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
for label, look in enumerate(palette.looks(10)):
    x, y = f6["tsne"][by_stage.labels == label].T
    axis.scatter(x, y, s=6, color=look.colour, label=by_stage.class_names[label])
axis.scatter(*f6["tsne"][wrong].T, s=70, facecolors="none", edgecolors="black", label="answered wrongly")
axis.legend(fontsize=7, markerscale=1.2, loc="center left", bbox_to_anchor=(1, 0.5))
axis.set(xticks=[], yticks=[], title="Where the mistakes are (F6, t-SNE)")
plt.show()
print(f"{wrong.sum()} of {len(wrong)} images are answered wrongly")

# %% [markdown]
# Mistakes lie at the borders, or in another class's heap: the network is not blind there, it takes them for that class.
#
# ## 4. While it learns
#
# Another run, an eighth as long, so that there is something to see: its last hidden layer at three moments, of the same
# images.

# %%
beginning = learn("beginning", EPOCHS / 8)
growing = embed(beginning, Options(methods=("tsne",), points=POINTS // 2, every_checkpoint=True))
for row in growing.panels("tsne"):
    print(f"step {row[0].step:5,}: silhouette in space {row[0].quality.silhouette_activations:.2f}")
with drawing.plain() as new:
    rows = [[row[0] for row in growing.panels("tsne")]]
    display(Image(writing.draw(rows, growing.labels, growing.class_names, new), width=900))

# %% [markdown]
# ## 5. What t-SNE shows that is not there
#
# Here is nothing at all: 400 points of noise in 84 dimensions, without classes. With a small perplexity t-SNE finds
# clumps in it. Nor do distances between heaps, or their sizes, mean anything. So: try several perplexities, look at the
# figures, and believe in heaps that stay. (Wattenberg, Viégas and Johnson 2016, "How to Use t-SNE Effectively",
# Distill, is worth an hour.)

# %%
noise = np.random.default_rng(0).normal(size=(150 if SHORT else 400, 84)).astype(np.float32)
figure, axes = plt.subplots(1, 3, figsize=(8.4, 3), layout="constrained")
maps = {"PCA": projection.pca(noise)}
maps |= {f"t-SNE, perplexity {perplexity}": projection.tsne(noise, perplexity) for perplexity in (2, 30)}
figures = measure(noise, maps, np.arange(len(noise)) % 10)  # labels that mean nothing
for axis, (name, points) in zip(axes, maps.items(), strict=True):
    axis.scatter(*points.T, s=5, color="#3d6fa5")
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{name}\ntrustworthiness {figures[name].trustworthiness:.2f}", fontsize=9)
plt.show()

# %% [markdown]
# ## 6. Photos
#
# The same with AlexNet and Tiny ImageNet: twenty of ImageNet's classes, 64x64 pixels, scaled to 96. Where
# `runs/tiny_imagenet` is there (the README's command makes it in 40 minutes), that network is looked into; otherwise
# one that has seen five classes for a short while.

# %%
alexnet = None
if not (data and Path("data/tiny_imagenet20_val.npz").is_file()):
    print("OLDMASTERS_DATA has no photos here: the rest of this notebook has nothing to show.")
elif not SHORT and (trained_runs / "tiny_imagenet" / "result.json").is_file():
    Path("tiny_imagenet").symlink_to(trained_runs / "tiny_imagenet")
    alexnet = RunFolder(Path("tiny_imagenet"))
    print("a network that was there: runs/tiny_imagenet, AlexNet on twenty classes,", end=" ")
else:
    config = alexnet_tiny_imagenet.get_config()
    names = tuple(str(name) for name in np.load("data/tiny_imagenet20_val.npz")["class_names"][:20:4])
    config.dataset.source, config.dataset.only_classes = "npz:data/tiny_imagenet20", names
    config.dataset.image_size, config.dataset.per_class = 67, 20 if SHORT else 300
    config.train.batch_size, config.train.epochs, config.schedule.warmup_epochs = 50, 1.0 if SHORT else 4.0, 0.5
    config.schedule.learning_rate = 0.005
    config.evaluate.every_epochs = config.train.epochs
    config.evaluate.report = config.log.tensorboard = False
    loop.train(config, Path("five_classes"))
    alexnet = RunFolder(Path("five_classes"))
    print("trained just now, and shortly: AlexNet on five classes at 67 pixels,", end=" ")
if alexnet:
    print(f"{alexnet.result['test']['accuracy']:.1%} of the test photos right")

# %%
if alexnet:
    photos = embed(
        alexnet, Options(source="npz:data/tiny_imagenet20", stages=("pixels", "pool5", "fc7"), points=POINTS)
    )
    show(photos, "pca")
    show(photos, "tsne")

# %%
if alexnet:
    for one in photos.maps:
        q = one.quality
        print(
            f"{one.stage:7} {one.method:5} trust {q.trustworthiness:.3f}   neighbours agree: in space "
            f"{q.knn_activations:.1%}, on paper {q.knn_map:.1%}   silhouette in space {q.silhouette_activations:.2f}"
        )

# %% [markdown]
# Pixels say little about what is in a photo, and what they say is mostly colour. With the run of twenty classes, some
# classes have a place of their own at fc7 (goldfish, beach wagon, bison), and many lie in each other in the middle.
# That is honest: a network that is right on about half of the photos has no clearer order to show. Compare the figures
# with those of the digits.
#
# ## Try it
#
# 1. Perplexities of 5, 50 and 200 in section 2 (`Options(perplexity=...)`): which heaps stay, and which change places?
# 2. Map an *untrained* LeNet-5: set `config.train.epochs` to a hundredth. How much of the order in F6 was there before
#    anything was learnt?
# 3. Apply the network to other data: `Options(source="idx:data/fashion_mnist")`, clothes in the place of digits. Where
#    does a network that knows digits alone put a shoe?
# 4. `python -m scripts.embed --run=RUN --output=FOLDER` makes a page to walk about in. Find the images that are far
#    from their class, and decide for each: a mistake of the network, or of the label?
