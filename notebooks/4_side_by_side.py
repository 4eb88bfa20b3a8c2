# %% [markdown]
# # 4. LeNet-5, AlexNet and VGG-16 side by side
#
# Fourteen years lie between LeNet-5 and AlexNet, and the idea of the network hardly changed. What changed was the data,
# and the machines. What you will learn:
#
# - what ImageNet is, how it came about, and what its yearly contest measured;
# - what the three networks have in common, and by how much they differ in size;
# - where their parameters are and where their work is: not in the same layers;
# - why VGG stacks filters of 3x3, and what AlexNet's two towers saved.
#
# Nothing is trained; the figures are read off the networks themselves, which takes seconds.

# %%
import os

import matplotlib.pyplot as plt
from IPython.display import Image, Markdown, display

from models.arithmetic import ReceptiveField, Window
from models.summary import rows, training_memory
from train.lecture import drawing, summary

SHORT = "OLDMASTERS_SHORT" in os.environ
print("Short form: the same as the full one, for nothing is trained." if SHORT else "Full form.")

plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## 1. ImageNet
#
# Around 2006 most researchers looked for better algorithms, and tested them on some thousands of images. Fei-Fei Li's
# bet was that the data were the bottleneck: who has seen five photos of cats knows five poses in five lights. Her plan
# was to collect photos for the nouns of English.
#
# The list of nouns was there already. **WordNet**, begun by George Miller at Princeton in the 1980s, sorts words into
# sets of synonyms (*synsets*), and those into a tree: a dog is a canine, a canine is a carnivore, and so on up to
# "entity". Version 3.0 has 155,287 words in 117,659 synsets. Here is a part of the tree of nouns; levels between are
# left out, and the leaves are classes of the contest.

# %%
TREE = {
    "entity": {
        "animal": {
            "mammal": {"carnivore": {"dog": {"Siberian husky": {}}, "domestic cat": {"tabby": {}}}},
            "bird": {"finch": {"goldfinch": {}}},
            "fish": {"goldfish": {}},
        },
        "artifact": {
            "vehicle": {"motor vehicle": {"car": {"sports car": {}}}},
            "furniture": {"seat": {"chair": {"rocking chair": {}}}},
        },
    }
}


def draw_tree(axis, tree, depth, bottom):
    """Draw the children of a node, each in the middle of its own; returns their heights, and the next free one."""
    heights = []
    for name, children in tree.items():
        own, bottom_after = draw_tree(axis, children, depth + 1, bottom)
        height = sum(own) / len(own) if own else bottom
        for child in own:
            axis.plot([depth, depth + 0.55, depth + 0.95], [height, child, child], color="#9bb8d3", zorder=1)
        box = {"facecolor": "#ffffff" if children else "#e6f0d8", "edgecolor": "#9bb8d3", "boxstyle": "round"}
        axis.text(depth, height, name, ha="center", va="center", fontsize=8, bbox=box)
        heights.append(height)
        bottom = bottom_after if own else bottom + 1
    return heights, bottom


figure, axis = plt.subplots(figsize=(8.4, 3.2), layout="constrained")
draw_tree(axis, TREE, 0, 0)
axis.set(xlim=(-0.4, 5.6), ylim=(5.6, -0.6))
axis.set_axis_off()
axis.set_title("From WordNet's tree of nouns", fontsize=10)
plt.show()

# %% [markdown]
# Students would have needed decades to find and sort the photos. What made it possible was Amazon's Mechanical Turk,
# where many people around the world do small tasks for small sums: *click on the photos that show a delta*. The paper
# of 2009 (Deng, Dong, Socher, Li, Li and Fei-Fei, CVPR) had 3.2 million photos in 5,247 synsets, in twelve subtrees
# such as mammal, vehicle and furniture; it was shown as a poster. Later counts stand at 14,197,122 photos and 21,841
# synsets.
#
# ## 2. The contest
#
# From 2010 to 2017 the *ImageNet Large Scale Visual Recognition Challenge* (ILSVRC) took 1,000 of the classes: about
# 1.2 million photos for training (1,281,167 from 2012 on), 50,000 for validation, 100,000 for the test, whose labels
# were not given out (Russakovsky et al. 2015, IJCV 115). A program may name five classes for a photo, since there is
# often more than one thing in it: the **top-5 error** is the share of photos whose label is not among the five.

# %%
WINNERS = [  # year, who, top-5 error on the test in %, of several networks together where there were several; what
    (2010, "NEC-UIUC", 28.2, "hand-made\nfeatures"),
    (2011, "XRCE", 25.8, "hand-made\nfeatures"),
    (2012, "AlexNet", 16.4, "8 layers"),
    (2013, "Clarifai", 11.7, "8 layers"),
    (2014, "GoogLeNet", 6.7, "22 layers"),
    (2015, "ResNet", 3.57, "152 layers"),
    (2016, "Trimps-Soushen", 2.99, "several\nnetworks"),
    (2017, "SENet", 2.25, "several\nnetworks"),
]
figure, axis = plt.subplots(figsize=(8.4, 3.8), layout="constrained")
for year, who, error, _ in WINNERS:
    axis.bar(year, error, color="#c9c9c9" if year < 2012 else "#7aa6d8", width=0.75)
    axis.text(year, max(error, 5.1) + 0.4, f"{who}\n{error:g} %", ha="center", va="bottom", fontsize=8)
axis.plot(2014.55, 7.3, "D", color="#c05a00", markersize=5)
axis.annotate("VGG, second: 7.3 %", (2014.55, 7.3), (2014.6, 13), fontsize=8, arrowprops={"arrowstyle": "-"})
axis.axhline(5.1, color="gray", linestyle=":", linewidth=1)
axis.text(2017.6, 5.5, "a person\nwho had\npractised:\n5.1 %", fontsize=8, color="#404040")
axis.set_xticks([year for year, *_ in WINNERS], [f"{year}\n{what}" for year, *_, what in WINNERS], fontsize=8)
axis.set(ylabel="top-5 error, %", xlim=(2009.4, 2018.6), ylim=(0, 34), title="ILSVRC, classification: the winners")
plt.show()

# %% [markdown]
# Sources: 2010 to 2014 and the person's error: Russakovsky et al. 2015. AlexNet: Krizhevsky, Sutskever and Hinton 2012
# (15.3 % with networks that had first been trained on all of ImageNet, which the contest did not ask for). VGG:
# Simonyan and Zisserman 2014, arXiv 1409.1556. GoogLeNet: Szegedy et al. 2015, CVPR. ResNet: He, Zhang, Ren and Sun
# 2016, CVPR. 2016: the contest's page of results. SENet: Hu, Shen and Sun 2018, CVPR. The person is one annotator on
# 1,500 photos, who had learnt the classes: no general "human level".
#
# ## 3. Three networks
#
# All three are the same kind of thing: convolutions and pooling, maps that become smaller and more, then dense layers.

# %%
NETWORKS = {
    "LeNet-5": ("lenet5", "modern", 1998),
    "AlexNet": ("alexnet", "2012", 2012),
    "VGG-16": ("vgg", "D", 2014),
}
built = {name: summary.network(model, variant) for name, (model, variant, _) in NETWORKS.items()}
table = {name: rows(network) for name, (network, _) in built.items()}

assert sum(row.parameters for row in table["LeNet-5"]) == 61_706
assert sum(row.parameters for row in table["AlexNet"]) == 60_965_224
assert sum(row.parameters for row in table["VGG-16"]) == 138_357_544

# %%
for network, made_of in built.values():
    described = summary.describe(network, made_of, batch_size=128, memory=2**34)
    display(Image(drawing.draw(described, "png"), width=1000))

# %% [markdown]
# In figures. An operation is a multiplication or an addition: a multiply-accumulate (MAC) is two. A training step takes
# about three times the work of a prediction: once forward, twice backward (for the values and for the weights).

# %%
PASSES = {"LeNet-5": (20, 60_000), "AlexNet": (90, 1_281_167), "VGG-16": (74, 1_281_167)}  # epochs, images: the papers'
lines = {}
for name, found in table.items():
    epochs, images = PASSES[name]
    macs, parameters = sum(row.macs for row in found), sum(row.parameters for row in found)
    side = built[name][0].input_shape
    lines[name] = (
        str(NETWORKS[name][2]),
        "x".join(map(str, side)),
        str(sum(row.parameters > 0 for row in found)),
        f"{parameters:,}",
        f"{macs:,}",
        f"{training_memory(built[name][0]).of(128) / 2**30:.2f} GiB",
        f"{2 * 3 * macs * epochs * images:.1e}",
    )
heads = (
    *("year", "input", "layers with weights", "parameters", "MACs of an image"),
    *("training memory, batch 128", "operations of the training"),
)
text = [f"| | {' | '.join(lines)} |", "|---|" + "---:|" * len(lines)]
text += [f"| {head} | {' | '.join(line[place] for line in lines.values())} |" for place, head in enumerate(heads)]
display(Markdown("\n".join(text)))

# %% [markdown]
# AlexNet has a thousand times the parameters of LeNet-5, and its training takes more than a hundred thousand times as
# many operations. Two graphics cards did it within five to six days, the paper says; no computer of 1998 could have.
#
# ## 4. Parameters here, work there

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.6), layout="constrained", sharey=True)
for axis, key, title in ((axes[0], "parameters", "parameters"), (axes[1], "macs", "multiply-accumulates")):
    for bar, (_name, found) in enumerate(table.items()):
        total, left = sum(getattr(row, key) for row in found), 0.0
        for row in found:
            share = getattr(row, key) / total
            dense = len(row.shape) == 1
            axis.barh(bar, share, left=left, color="#8cc08a" if dense else "#7aa6d8", edgecolor="white", linewidth=0.6)
            if share > 0.07:
                axis.text(left + share / 2, bar, row.name, ha="center", va="center", fontsize=6.5)
            left += share
    axis.set(title=title, xlim=(0, 1), yticks=range(3), yticklabels=table, xticks=[])
    axis.set_frame_on(False)
axes[0].invert_yaxis()
figure.suptitle("Blue: convolutions. Green: dense layers.", fontsize=9)
plt.show()

for name, found in table.items():
    dense = [row for row in found if len(row.shape) == 1]
    parameters = sum(row.parameters for row in dense) / sum(row.parameters for row in found)
    macs = sum(row.macs for row in dense) / sum(row.macs for row in found)
    print(f"{name:8} dense layers: {parameters:6.1%} of the parameters, {macs:6.1%} of the work")

# %% [markdown]
# The dense layers hold nearly all parameters and do little work; for convolutions it is the other way round, since they
# use each weight at each place. VGG's fc6 alone, 512 x 7 x 7 inputs and 4,096 units, has 74 % of VGG-16's parameters.
# Networks after VGG take the mean over each map in its place, and lose little by it.
#
# ## 5. What a number sees
#
# The receptive field of a number grows by each window it has come through. Where it is larger than the image, some of
# it is padding.

# %%
figure, axis = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
for name, found in table.items():
    maps = [row for row in found if len(row.shape) == 3]
    side = built[name][0].input_shape[0]
    axis.plot(
        range(1, len(maps) + 1), [row.fields[0].size / side for row in maps], "o-", label=f"{name} ({side} pixels)"
    )
    for place, row in enumerate(maps, start=1):
        if row.name.startswith(("pool", "S")):
            axis.annotate(
                row.name, (place, row.fields[0].size / side), (0, 5), textcoords="offset points", fontsize=6.5
            )
axis.set(xlabel="stage", ylabel="receptive field, share of the side", title="How far a number sees")
axis.set_xticks(range(1, 19))
axis.margins(y=0.1)
axis.legend(fontsize=8)
axis.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ## 6. Two ideas
#
# **VGG: small filters, many of them.** Two layers of 3x3 see 5x5, three see 7x7. With $C$ channels in and out, they
# have fewer weights than one large filter, and a non-linearity between.

# %%
for layers, large in ((2, 5), (3, 7)):
    field = ReceptiveField()
    for _ in range(layers):
        field = field.behind(Window(3))
    assert field.size == large
    side = f"{large}x{large}"
    print(f"{layers} layers of 3x3 see {side}: {layers * 9} C^2 weights; one layer of {side} has {large**2} C^2")

# %% [markdown]
# **AlexNet: two towers.** The network of 2012 did not fit into the 3 GB of one graphics card. Half of the maps lay on
# each of two cards, and conv2, conv4 and conv5 see the maps of their own card only (today: a convolution in two
# groups). That halves their weights and their work. Beside it, the same layers with all connections:

# %%
towers = {row.name: row for row in table["AlexNet"]}
for name in ("conv2", "conv3", "conv4", "conv5"):
    inputs = {"conv2": 96, "conv3": 256, "conv4": 384, "conv5": 384}[name]
    *_, width = towers[name].shape
    size = 5 if name == "conv2" else 3
    print(
        f"{name}: {towers[name].parameters:9,} parameters; with all connections {size**2 * inputs * width + width:9,}"
    )
assert towers["conv2"].parameters == 5 * 5 * 48 * 256 + 256

# %% [markdown]
# **And a riddle: 224 or 227 pixels?** The paper says 224x224, filters of 11x11, stride 4, maps of 55x55. The formula
# says otherwise: 54. With 227 pixels, or with two pixels of padding, it comes out.

# %%
print("224 pixels:", Window(11, stride=4).outputs(224))
print("227 pixels:", Window(11, stride=4).outputs(227))
print("224 pixels and padding 2:", Window(11, stride=4, padding=(2, 2)).outputs(224))

# %% [markdown]
# ## Try it
#
# 1. Print `table["VGG-16"]` stage by stage (or `python -m scripts.summarize --model=vgg16`). In which stage is the most
#    work? Which stage needs the most memory in training, and why is it another one than that with the most parameters?
# 2. Replace VGG-16's three dense layers by the mean over each of the 512 maps and one dense layer of 1,000 units. How
#    many parameters remain?
# 3. What do AlexNet and VGG-16 cost on images of 96 pixels (`summary.network("alexnet", "2012", image_size=96)`)? Which
#    part of the cost shrinks, and which does not?
# 4. `summary.network("vgg", "A")` is the paper's shallowest network, `"E"` its deepest. On the validation photos, at a
#    single scale (256), the paper gives top-5 errors of 10.4, 8.8 and 9.0 % for A, D and E. Was depth worth its price?
