# %% [markdown]
# # 1. Convolution, step by step
#
# What you will learn:
#
# - what a filter computes at each position, number by number;
# - how large the result is: $n - f + 1$, then with padding, then with a stride;
# - why the pixels at the edge count for little, and what padding does about it;
# - what pooling, several channels, a bias and a non-linearity add;
# - what filters make of a photo: edges.
#
# Every number below is computed by the layers that the networks of this project are made of. Nothing is trained; the
# notebook runs in seconds.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.patches import Rectangle
from PIL import Image
from scipy.signal import convolve2d, correlate2d

from models.arithmetic import Window, sizes_until_none_fits
from train.lecture import rendering
from train.lecture.edges import edges, read
from train.lecture.examples import EXAMPLES, FILTER, INPUT, convolve, number

SHORT = "OLDMASTERS_SHORT" in os.environ
print("Short form: the photo of section 6 is small." if SHORT else "Full form.")

folder = tempfile.TemporaryDirectory()  # pictures are drawn there, and go with it
plt.rcParams["figure.dpi"] = 90


def show(example):
    """Show the matrices of a worked example, and what to learn from it."""
    path = Path(folder.name, "example.png")
    rendering.save(example, path)
    picture = Image.open(path)
    picture.thumbnail((820, 760))  # as wide as a page
    display(picture)
    print(*example.notes, sep="\n")


# %% [markdown]
# ## 1. A filter slides over an image
#
# Lay a small matrix of weights, the *filter* (or *kernel*), on the top left corner of the image. Multiply each weight
# by the pixel below it, add the nine products: that is the first number of the result. Move the filter by one pixel and
# do it again. When you come to the right edge, begin at the left, one row further down.

# %%
filtered = EXAMPLES["filter"]()
show(filtered)
print("\nThe first and the last of the nine positions:")
print(filtered.steps[0], filtered.steps[-1], sep="\n")
assert filtered.output.tolist() == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]

# %% [markdown]
# Here are all nine positions. Large numbers are pixels; the small ones in the window are the weights that lie on them.

# %%
figure, axes = plt.subplots(3, 3, figsize=(7.2, 7.8), layout="constrained")
for (row, column), axis in np.ndenumerate(axes):
    axis.imshow(INPUT, cmap="Blues", vmin=0, vmax=8)
    axis.add_patch(Rectangle((column - 0.5, row - 0.5), 3, 3, facecolor="#f4b266", alpha=0.45))
    axis.add_patch(Rectangle((column - 0.5, row - 0.5), 3, 3, fill=False, edgecolor="#c05a00", linewidth=2))
    for (y, x), pixel in np.ndenumerate(INPUT):
        axis.text(x, y, number(pixel), ha="center", va="center", fontsize=12)
        if row <= y < row + 3 and column <= x < column + 3:
            axis.text(x + 0.3, y + 0.32, number(FILTER[y - row, x - column]), ha="center", va="center", fontsize=7)
    axis.set(xticks=[], yticks=[], title=f"row {row + 1}, column {column + 1}: {number(filtered.output[row, column])}")
plt.show()

# %% [markdown]
# A word of caution. Mathematicians turn the filter by 180 degrees before they slide it and call *that* a convolution;
# what neural networks do is their *cross-correlation*. For learning it makes no difference, since a network would learn
# the turned weights. It matters when you compare with another library:

# %%
np.testing.assert_allclose(correlate2d(INPUT, FILTER, mode="valid"), filtered.output)
np.testing.assert_allclose(convolve2d(INPUT, FILTER[::-1, ::-1], mode="valid"), filtered.output)
print("SciPy's correlate2d agrees, and so does convolve2d with the filter turned.")

# %% [markdown]
# ## 2. How large is the result?
#
# A window of $f$ pixels fits into a row of $n$ pixels at $n - f + 1$ places. A network of many such layers shrinks its
# maps until no filter fits any more. How often can a 5x5 filter be applied to 32x32 pixels? And does one ever reach
# 1x1?

# %%
shrink = EXAMPLES["shrink"]()
print(*shrink.steps, *shrink.notes, sep="\n")
assert shrink.output == [32, 28, 24, 20, 16, 12, 8, 4]

# %%
figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
axis.plot(shrink.output, "o-", label="no padding, stride 1")
axis.plot([32] * 8, "s--", label="padding 2 on each side, stride 1")
axis.plot(sizes_until_none_fits(32, Window(5, stride=2)), "^-", label="no padding, stride 2")
axis.set(xlabel="convolutions with a 5x5 filter", ylabel="side of the map, pixels", ylim=(0, 36))
axis.set_title("Without padding a network cannot go deep")
axis.legend(loc="upper right", bbox_to_anchor=(1, 0.86), fontsize=8)
axis.grid(alpha=0.3)
plt.show()

# %% [markdown]
# With $p$ pixels of padding on each side and a stride of $s$ the full formula is
#
# $$\left\lfloor \frac{n + 2p - f}{s} \right\rfloor + 1 .$$
#
# The brackets round down: where the last step would leave the image, it is not taken. `Window` is what every layer of
# this project asks for its size.

# %%
print("   n   f   p   s   result")
cases = [(5, 3, 0, 1), (5, 3, 1, 1), (5, 3, 1, 2), (32, 5, 0, 1), (28, 2, 0, 2), (227, 11, 0, 4), (6, 3, 0, 2)]
for n, f, p, s in cases:
    outputs = Window(f, stride=s, padding=(p, p)).outputs(n)
    assert outputs == (n + 2 * p - f) // s + 1
    print(f"{n:4} {f:3} {p:3} {s:3} {outputs:8}")
print("In the last line the sixth pixel is never looked at; each pixel's uses:", Window(3, stride=2).uses(6))

# %% [markdown]
# ## 3. The edge counts for little: padding
#
# In how many of the nine sums does each pixel take part? The corner in one, the middle in all nine. So what is drawn at
# the edge of an image has little influence. The same holds for a 5x5 filter on 32x32 pixels.

# %%
show(EXAMPLES["usage"]())

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
for axis, padding in zip(axes, (0, 2), strict=True):
    along = Window(5, padding=(padding, padding)).uses(32)
    picture = axis.imshow(np.outer(along, along), vmin=1, vmax=25)
    axis.set(title=f"padding {padding}: corner {along[0] ** 2}, middle {along[16] ** 2}", xticks=[], yticks=[])
figure.colorbar(picture, ax=axes, label="outputs that look at the pixel", shrink=0.9)
plt.show()

# %% [markdown]
# A border of zeros helps: the corner comes to be used more often, and with $p = (f - 1) / 2$ the result is as large as
# the image, which is called *same* padding. The price is that the filter sees zeros that nobody has photographed.
#
# A stride of 2 keeps every other position, in both directions: a quarter of the numbers, and a quarter of the work.

# %%
show(EXAMPLES["padding"]())
padded = EXAMPLES["padding"]().output
assert padded.tolist() == [[6, 17, 3], [8, 17, 13], [6, 4, 4]]
assert (padded == convolve(INPUT, FILTER, padding=1)[::2, ::2]).all()  # stride 2 is stride 1 with every other one kept

# %% [markdown]
# ## 4. Pooling
#
# Pooling slides a window too, but has no weights: it keeps the largest value, or the mean. Which of the nine pixels was
# the largest is forgotten, and so is a small movement of the image. With a stride, it also makes maps smaller.

# %%
for name in ("max_pool", "average_pool"):
    pooled = EXAMPLES[name]()
    print(pooled.title)
    show(pooled)
    print()
assert EXAMPLES["max_pool"]().output.tolist() == [[3, 3, 3], [3, 3, 3], [3, 2, 3]]

# %% [markdown]
# ## 5. Channels, a bias and a non-linearity
#
# A colour image has three values a pixel. A filter for it has three slices; each slides over its own channel, and the
# three results are **added**: one filter makes one map, however many channels come in. A layer with 64 filters makes 64
# maps, which are the channels that the next layer sees.

# %%
show(EXAMPLES["channels"]())

# %% [markdown]
# Then one number, the bias, is added to the whole map, and a non-linear function is applied to each value. Without the
# latter, two layers could be replaced by one: a sum of sums is a sum.

# %%
show(EXAMPLES["nonlinearity"]())

# %% [markdown]
# ## 6. Filters on a photo
#
# Long before networks learnt filters, people designed them. Weights that add up to zero answer where brightness
# changes; equal weights blur. A convolutional network finds such weights by itself, because they help.

# %%
photo = read(None)  # comes with scikit-learn
photo = photo[::4, ::4] if SHORT else photo
show(edges(photo, "china.jpg of scikit-learn"))

# %% [markdown]
# ## Try it
#
# 1. Design a filter that answers to lines from the lower left to the upper right, and apply it to `photo` with
#    `convolve(photo, your_filter)`. Draw the result.
# 2. `INPUT` under `FILTER` with padding 2: how large is the result, and what stands in its corners? Work it out before
#    you compute it.
# 3. Apply the Sobel filter twice, once from left to right and once from top to bottom, and draw the root of the sum of
#    the squares. What does it show that neither of them shows?
# 4. Two 3x3 filters one behind the other, without a non-linearity between: which single filter does the same, and how
#    large is it? (`convolve2d` of the one with the other, `mode="full"`, is a good beginning.)
