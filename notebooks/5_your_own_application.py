# %% [markdown]
# # 5. Training for your own application
#
# You have a camera, a question, and a few photos of each class. Nobody trains VGG-16 on thirty photos. What you will
# learn:
#
# - how to begin with what a network has learnt elsewhere, in three ways, and what it saves;
# - how photos in folders become a data set;
# - what stored activations are, and why they make training cheap;
# - which stages are of use for other photos, and which for other classes;
# - to say how sure a figure from so few images is.
#
# Everything here is small, so that it runs in about two minutes: digits, and LeNet-5. With your photos and AlexNet or
# VGG-16 the calls are the same, and at the end stand the commands.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from absl import logging
from IPython.utils.capture import capture_output
from PIL import Image, ImageFilter

from configs import lenet5_digits
from train import cache, loop
from train.data.dataset import load_test
from train.evaluate import evaluate_run
from train.features import of_run
from train.predict import predict
from train.probes import methods
from train.run import RunFolder

SHORT = "OLDMASTERS_SHORT" in os.environ
EPOCHS, DRAWS = (4, (0,)) if SHORT else (30, (0, 1, 2))
print(f"{'Short' if SHORT else 'Full'} form: {EPOCHS} epochs, draws {DRAWS}.")

logging.set_verbosity(logging.FATAL)  # checkpoints are written without a word
cache.use_compilation_cache(None)  # compiled programs are kept, as the commands keep them
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)  # runs, photos and stores go there
plt.rcParams["figure.dpi"] = 90


def recipe(epochs):
    """Return the config of LeNet-5 on the embedded digits, for so many epochs."""
    config = lenet5_digits.get_config()
    config.train.epochs, config.schedule.warmup_epochs = float(epochs), epochs / 6
    config.evaluate.every_epochs = epochs / 2
    config.evaluate.report = config.log.tensorboard = False
    return config


# %% [markdown]
# ## 1. What somebody else has trained
#
# This takes the place of ImageNet's million photos: 1,293 clean digits. A fifth of the digits is the test set; the
# network never learns from those.

# %%
loop.train(recipe(EPOCHS), Path("elsewhere"))
elsewhere = RunFolder(Path("elsewhere"))
test = load_test(elsewhere.config.dataset, "digits", elsewhere.environment["data"]["fingerprint"]).images

# %% [markdown]
# ## 2. Your photos
#
# Your digits are written with a pencil on gray paper, narrow and aslant, and your camera is a poor one. They are made
# here of the 360 test digits. A folder for each class, image files in it: that is a data set, `folder:photos`.

# %%
random = np.random.default_rng(0)
for place, (pixels, label) in enumerate(zip(test.images[..., 0], test.labels, strict=True)):
    paper = Image.new("L", (32, 32))
    paper.paste(Image.fromarray(pixels).resize((20, 26)), (6, 3))
    drawn = paper.rotate(random.normal(15, 8), Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(0.6))
    photo = 60 + 0.5 * np.asarray(drawn, float) + random.normal(0, 25, (32, 32))
    Path("photos", str(label)).mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(Path("photos", str(label), f"{place:03}.png"))

figure, axes = plt.subplots(2, 8, figsize=(8, 2.3), layout="constrained")
for place, (above, below) in enumerate(axes.T):
    above.imshow(test.images[place, ..., 0], cmap="gray")
    below.imshow(Image.open(f"photos/{test.labels[place]}/{place:03}.png"), cmap="gray", vmin=0, vmax=255)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("elsewhere", fontsize=8)
axes[1, 0].set_ylabel("your photos", fontsize=8)
plt.show()

# %% [markdown]
# The first question is always: does the network that there is do already?

# %%
as_it_is = evaluate_run(elsewhere, "folder:photos")
print(f"without any training: {as_it_is['accuracy']:.1%} of {as_it_is['count']} photos")

# %% [markdown]
# ## 3. From scratch, or transferred
#
# Three photos of each class shall teach it, thirty in all; 29 others choose the checkpoint, 216 are for the test. Which
# they are is drawn at random (`split_seed`); so each figure is a mean over draws, and their spread says how much of it
# is luck.
#
# - `scratch`: begin with random weights;
# - `finetune`: begin with the other network's weights, and train all of them;
# - `stored`: keep the stages up to C5 as they are, compute their activations **once**, store them, and train what is
#   behind. Eight augmented views of each photo are stored here.

# %%
SHOTS = 3
WAYS = {
    "scratch": {},
    "finetune": {"transfer.mode": "finetune"},
    "stored": {"transfer.mode": "stored", "transfer.frozen_until": "C5", "transfer.views": 8},
}


def learn(way, draw):
    """Train on a few photos, and return the finished run."""
    config = recipe(2 * EPOCHS)
    config.dataset.update(source="folder:photos", channels=1, test=0.6, validation=0.2, per_class=SHOTS, stream=False)
    config.dataset.split_seed = config.seed = draw
    config.train.batch_size, config.train.ema, config.log.every_steps = 30, 0.9, 10
    config.schedule.learning_rate = 0.02 if way == "finetune" else 0.05  # what is good already shall change less
    if way != "scratch":
        config.transfer.weights = "elsewhere"
    config.update_from_flattened_dict(WAYS[way])
    loop.train(config, Path(f"{way}_{draw}"))
    return RunFolder(Path(f"{way}_{draw}"))


runs = {way: [learn(way, DRAWS[0])] for way in WAYS}
with capture_output():  # the other draws say the same
    for way in WAYS:
        runs[way] += [learn(way, draw) for draw in DRAWS[1:]]

# %% [markdown]
# The tables above say where each layer's weights come from, and which of them learn. What came of it:

# %%
figure, axis = plt.subplots(figsize=(6.8, 2.6), layout="constrained")
for height, (way, of_draws) in enumerate(runs.items()):
    accuracies = [run.result["test"]["accuracy"] for run in of_draws]
    seconds = np.mean([run.result["seconds"] for run in of_draws])
    draws = ", ".join(f"{accuracy:.1%}" for accuracy in accuracies)
    print(f"{way:9} {np.mean(accuracies):6.1%} (draws: {draws}), {seconds:4.1f} s a run")
    axis.barh(height, np.mean(accuracies), color="#c9c9c9" if way == "scratch" else "#7aa6d8", height=0.6)
    axis.plot(accuracies, [height] * len(accuracies), "o", color="black", markersize=4)
axis.axvline(as_it_is["accuracy"], color="#c05a00", linestyle=":")
axis.text(as_it_is["accuracy"] - 0.01, -0.5, "the other network as it is", ha="right", fontsize=7, color="#c05a00")
axis.set(xlim=(0, 1), xlabel="accuracy on the test photos", yticks=range(len(runs)), yticklabels=runs)
axis.set_ylim(2.5, -0.75)
axis.set_title(f"{SHOTS} photos a class; dots are draws", fontsize=10)
plt.show()

# %% [markdown]
# Thirty photos cannot teach a network what a stroke is; a network that knows strokes needs them only to get used to
# your paper. That happens in the first stages, and `stored` leaves those as they are: it is quick, and comes out near
# the other network as it was. Transfer is no guarantee either. Look at *scratch* and at *as it is* each time.
#
# ## 4. What is in a store
#
# Stages that do not learn make the same of an image every time. So it is computed once, and written where training can
# read it: with AlexNet, that is most of the work of every epoch. Any stages can be stored, and any classifier can be
# trained on them; a linear one is called a *probe*.

# %%
STAGES = ("C5", "F6") if SHORT else ("S2", "S4", "C5", "F6")
store = of_run.extract(elsewhere, "folder:photos", STAGES, Path("store"), {"dataset.test": 0.5})
print("stages:", dict(store.layers))
print("photos:", store.manifest["splits"])
print("files :", *sorted(path.name for path in Path("store").iterdir())[:4], "...")
parts = {split: store.load(split, "C5") for split in store.splits}
for name, probe in (("logistic regression", methods.linear), ("nearest neighbours", methods.knn)):
    found = probe(parts)
    low, high = found["interval"]
    print(f"{name} on C5: {found['accuracy']:.1%} (95 %: {low:.1%} to {high:.1%}) of {found['count']} photos")

# %% [markdown]
# ## 5. Which stage for what?
#
# Early stages answer to strokes, late ones to classes. So late stages should help where the *classes* are the same, and
# early ones where they are not. A second network learns the digits 0 to 4 alone. Then five images a class of the digits
# 5 to 9, which it has never seen, are told apart by a linear probe on each of its stages; and the same is done with
# your photos and the first network.

# %%
FIVE, OTHERS = tuple("01234"), tuple("56789")
config = recipe(EPOCHS)
config.dataset.only_classes = FIVE
loop.train(config, Path("five"))
others = of_run.extract(RunFolder(Path("five")), None, STAGES, Path("others"), {"dataset.only_classes": OTHERS})


def by_stage(store):
    """Return what few-shot probes say, by stage: the mean accuracy over draws, and its 95 % interval."""
    found = {}
    for stage in STAGES:
        parts = {split: store.load(split, stage) for split in store.splits}
        found[stage] = methods.few_shot(parts, shots=[5], draws=2 if SHORT else 8, seed=0)
    return found


figure, axis = plt.subplots(figsize=(6.8, 3.4), layout="constrained")
for name, there in (("the same classes, other photos", store), ("other classes, the same photos", others)):
    found = by_stage(there)
    means = np.array([figures["accuracy"] for figures in found.values()])
    low, high = np.array([figures["interval"] for figures in found.values()]).T
    axis.errorbar(STAGES, means, yerr=(means - low, high - means), fmt="o-", capsize=3, label=name)
    print(f"{name:31}", *(f"{stage} {mean:.1%}" for stage, mean in zip(STAGES, means, strict=True)), sep="   ")
axis.set(xlabel="stage whose activations the probe sees", ylabel="accuracy", title="Five images a class")
axis.legend(fontsize=8)
axis.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Compare the slopes and not the heights, for one line is of ten classes and the other of five. Towards the end of the
# network the first becomes better and the second worse: a network throws away what its own classes do not need.
# Yosinski et al. 2014 ("How transferable are features in deep neural networks?") found the same in a network of
# AlexNet's kind. The rule of thumb: the farther your task is from the old one, the earlier the stage to begin at; and
# the fewer photos you have, the more of the old network should stay.
#
# ## 6. Use it

# %%
files = [f"photos/{test.labels[place]}/{place:03}.png" for place in range(8)]
figure, axes = plt.subplots(1, 8, figsize=(8, 1.5), layout="constrained")
for axis, found in zip(axes, predict(runs["finetune"][0], files, top=1), strict=True):
    axis.imshow(Image.open(found.image), cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{found.guesses[0].name} ({found.guesses[0].probability:.0%})", fontsize=8)
plt.show()

# %% [markdown]
# (Some of these photos may have been among the thirty; a figure is measured on photos that were not.)
#
# ## With real photos
#
# Put them into `photos/ants/`, `photos/bees/` and so on. With a run that has learnt elsewhere, or with weights that
# others have published (torchvision's files, for instance), as `RUN_OR_FILE`:
#
# ```sh
# python -m scripts.train --config=configs/own_photos.py:photos --workdir=runs/photos \
#   --config.transfer.weights=RUN_OR_FILE
# python -m scripts.predict --run=runs/photos photo.jpg
# ```
#
# Measured with this project (README): 244 photos of ants and bees teach AlexNet 67.3 % from scratch, and 73.0 % with
# stored activations of an AlexNet that knows fifteen other classes, in seconds and not in minutes. Fine-tuned on five
# new classes with 5, 20 and 100 photos each, that AlexNet gains 8.8, 6.9 and 1.8 points over scratch: the more photos
# you have, the less there is to gain.
#
# ## Try it
#
# 1. Set `SHOTS = 10` (and 1). Where does `scratch` catch up?
# 2. Freeze up to S4 or F6 in the place of C5 (`transfer.frozen_until`). Does section 5 predict what happens?
# 3. Make the photos negatives (dark strokes on light paper). What does the other network as it is say now? Which of the
#    three ways copes best?
# 4. In which case would you rather collect ten more photos than try another method? Argue with the spread of the draws.
