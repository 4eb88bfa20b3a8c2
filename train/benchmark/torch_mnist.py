"""The peer in time to accuracy: LeNet-5 on MNIST in PyTorch, from the start of the process to the test figure.

    python -m train.benchmark.torch_mnist FOLDER SEED THREADS LAYOUT

It does no more than that: files are read once, images stay in memory, and nothing is kept. The recipe is that of
configs/lenet5_mnist_fast.py.
"""

import json
import sys
from pathlib import Path

import torch

from train.benchmark.torch_networks import NETWORKS
from train.data.examples import Examples
from train.data.idx import read_folder

EPOCHS, BATCH, RATE, BETAS, RISE, SMOOTHING = 1.25, 256, 0.01, (0.7, 0.9), 0.2, 0.05
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# Of MNIST's training images padded to 32x32, pixels being 0..1.
_MEAN, _STD = 0.1000, 0.2752


def main(folder: str, seed: str, threads: str, layout: str) -> None:
    """Train, test, and print the accuracy as JSON."""
    torch.set_num_threads(int(threads))
    torch.manual_seed(int(seed))
    splits = {split: _placed(examples, LAYOUTS[layout]) for split, examples in read_folder(Path(folder)).items()}
    images, labels = splits["train"]
    steps = -(-int(EPOCHS * len(images)) // BATCH)
    network = NETWORKS["lenet5"](1, 10, 0.0).to(memory_format=LAYOUTS[layout])
    optimizer = torch.optim.AdamW(network.parameters(), RATE, BETAS, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, steps, pct_start=RISE, cycle_momentum=False, div_factor=10, final_div_factor=1000
    )
    epochs = [torch.randperm(len(images)) for _ in range(-(-steps * BATCH // len(images)))]
    for batch in torch.cat(epochs).split(BATCH)[:steps]:
        loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch], label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    images, labels = splits["test"]
    with torch.inference_mode():
        logits = torch.cat([network(some) for some in images.split(500)])
        rightly = (logits.argmax(1) == labels).sum().item()
    print(json.dumps({"accuracy": rightly / len(images)}))


def _placed(examples: Examples, layout: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.nn.functional.pad(torch.from_numpy(examples.images).permute(0, 3, 1, 2), (2, 2, 2, 2))
    pixels = images.float().div_(255).sub_(_MEAN).div_(_STD)
    return pixels.contiguous(memory_format=layout), torch.from_numpy(examples.labels).long()


if __name__ == "__main__":
    main(*sys.argv[1:])
