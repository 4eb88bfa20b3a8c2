"""The peer: the same work in PyTorch, in whichever of its settings is the fastest here."""

import re
import sys
import time
from typing import Any

import numpy as np
import torch

from train.benchmark.process import Clock, Measured, rate, serve
from train.benchmark.torch_networks import NETWORKS, copy_weights, each_in_torch
from train.benchmark.workloads import MEAN, PRODUCT_SIDE, STD, Workload, batch_of


class _TorchSide(Measured):
    """Answers of this process."""

    def prepare(self, workload: list[Any], channels_last: bool, compiled: bool, narrow: bool) -> dict[str, Any]:
        """Build a workload in a setting and run it once; `torch.compile` compiles in that first step.

        In bfloat16 autocast narrows weights in each step; with `narrow` they are so from the beginning.
        """
        work = Workload(*workload)
        self.images = work.network.batch_size
        images, labels = _batch(work, channels_last)
        layers = _build(work, dropout=0.5).to(torch.bfloat16 if narrow else torch.float32)
        network = torch.nn.Sequential(_Normalise(narrow), layers).train(work.suite == "train")
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True)
        called = torch.compile(network) if compiled else network

        def train() -> None:
            with _autocast(work):
                loss = torch.nn.functional.cross_entropy(called(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        @torch.inference_mode()
        def infer() -> None:
            with _autocast(work, enabled=not narrow):
                called(images)

        self.step = train if work.suite == "train" else infer
        began = time.perf_counter()
        self.step()
        first = time.perf_counter() - began
        began = time.perf_counter()
        self.step()
        words = ["channels_last" if channels_last else "contiguous", "compiled" if compiled else "eager"]
        words += ["bfloat16 weights"] * narrow + ["autocast"] * (work.precision == "bfloat16" and not narrow)
        return {
            "setting": ", ".join(words),
            "compile_seconds": max(0.0, first - (time.perf_counter() - began)) if compiled else 0.0,
            "first_step_seconds": self.clock.since_start() - (time.perf_counter() - began),
        }

    def matrix_rate(self, precision: str, seconds: float) -> dict[str, Any]:
        """Return floating-point operations a second of a large product."""
        a, b = torch.randn(2, PRODUCT_SIDE, PRODUCT_SIDE).to(getattr(torch, precision))
        return {"flops": rate(lambda: torch.mm(a, b), 2 * PRODUCT_SIDE**3, seconds)}

    def compare(self, workload: list[Any], path: str) -> dict[str, Any]:
        """Return how far this side's logits and gradients are from those in a file of jax_side.py's `export`.

        logits_error is the largest difference over the largest logit; gradient_error the largest, over all parameters,
        of the norm of the difference over the norm.
        """
        work = Workload(*workload)
        with np.load(path) as file:
            arrays = dict(file)
        found: dict[str, dict[int, dict[str, np.ndarray]]] = {"parameter": {}, "gradient": {}}
        for name, array in arrays.items():
            if match := re.fullmatch(r"(\w+)/(\d+)/(\w+)", name):
                found[match[1]].setdefault(int(match[2]), {})[match[3]] = array
        parameters, gradients = ([layers[place] for place in range(len(layers))] for layers in found.values())
        network = _build(work, dropout=0.0)
        copy_weights(network, parameters)
        images, labels = _batch(work, channels_last=False)
        with _autocast(work):
            logits = network(_Normalise(narrow=False)(images)).float()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        ours = torch.from_numpy(arrays["logits"])
        errors = []
        for layer, kernel, bias in each_in_torch(network, gradients):
            for theirs, mine in ((layer.weight.grad, kernel), (layer.bias.grad, bias)):
                errors.append((torch.linalg.norm(theirs - mine) / torch.linalg.norm(theirs)).item())
        return {
            "logits_error": ((logits - ours).abs().max() / logits.abs().max()).item(),
            "gradient_error": max(errors),
        }


def _batch(work: Workload, channels_last: bool) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = map(torch.from_numpy, batch_of(work))
    images = images.permute(0, 3, 1, 2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.contiguous(memory_format=layout), labels.long()


class _Normalise(torch.nn.Module):
    """Bytes to normalised pixels, in place where nothing fuses it."""

    def __init__(self, narrow: bool) -> None:
        super().__init__()
        self._narrow = narrow

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.float().mul_(1 / (255 * STD)).sub_(MEAN / STD)
        return pixels.bfloat16() if self._narrow else pixels


def _build(work: Workload, dropout: float) -> torch.nn.Module:
    torch.manual_seed(0)
    return NETWORKS[work.model](work.network.channels, work.network.classes, dropout)


def _autocast(work: Workload, enabled: bool = True) -> Any:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled and work.precision == "bfloat16")


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    side = _TorchSide(Clock(float(sys.argv[1])))
    serve({"prepare": side.prepare, "measure": side.measure, "matrix_rate": side.matrix_rate, "compare": side.compare})
