"""The sheet's arithmetic, against sums done by hand and against what the compiler makes of a step."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from train.lecture import scaling, summary
from train.lecture.scaling import Machine, Sizes

# Two devices a host; a second computes 600 operations, moves 100 bytes inside and 10 between.
TOY = Machine("toy", 2, 600.0, 100.0, 10.0, "nobody")
NETWORK = Sizes(macs=25, convolutions=40, dense=400, gathered=8, summed=6)


def test_sizes_are_those_of_the_papers_networks() -> None:
    alexnet = scaling.sizes(summary.network("alexnet", None)[0])
    assert alexnet.convolutions + alexnet.dense == 4 * 61_100_840
    assert alexnet.dense == 4 * (9216 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000)
    assert alexnet.gathered == 4 * 9216
    assert alexnet.summed == 4 * (4096 + 9216 + 4096)
    vgg = scaling.sizes(summary.network("vgg16", None)[0])
    assert vgg.convolutions == 4 * 14_714_688
    assert vgg.macs == 15_470_264_320


@pytest.mark.parametrize(
    ("data", "model", "communicate", "bytes_out"),
    [
        (1, 1, 0, 0),
        (2, 1, 440 / 100, 440),  # 2 * 1/2 of all gradients
        (1, 2, (40 + 16 / 2 + 2 * 6) / 100, 40 + 8 + 12),  # those of convolutions, and activations of 2 images
        (4, 1, 660 / 10, 660),  # 2 * 3/4, over hosts
        # Convolutions in one ring, each half of the dense layers in one of two; activations stay inside.
        (2, 2, 60 / 10 + 2 * 200 / 10 + (8 + 12) / 100, 60 + 400),
        (1, 4, 60 / 10 + (3 / 4 * 32 + 2 * 3 / 4 * 24) / 10, 60 + 24 + 36),
    ],
)
def test_a_step_by_hand(data: int, model: int, communicate: float, bytes_out: float) -> None:
    found = scaling.step(NETWORK, TOY, 1, data, model, utilisation=0.5)
    assert found.compute == pytest.approx(6 * 25 / 300)
    assert found.communicate == pytest.approx(communicate)
    assert found.bytes_out == pytest.approx(bytes_out)


def test_the_best_mesh_is_the_quickest() -> None:
    best = scaling.best(NETWORK, TOY, 1, 4, 0.5)
    assert (best.data, best.model) == (1, 4)
    assert (scaling.best(NETWORK, TOY, 1000, 4, 0.5)).model == 1  # so many activations weigh more than kernels


COLLECTIVES = r"""
import re, sys
from configs import lenet5_digits
from train import devices, settings
from train.prepare import prepare
config = lenet5_digits.get_config()
settings.resolve(config)
config.dataset.update(classes=10, channels=1, mean=(0.0,), std=(1.0,))
config.train.batch_size = 64
text = prepare(config, 1000, devices.make_mesh(*map(int, sys.argv[1:]))).train_step.as_text()
for result, kind in re.findall(r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\(", text):
    for shape in re.findall(r"\w+\[([\d,]*)\]", result):
        print(kind, shape)
"""


@pytest.mark.parametrize("mesh", [(8, 1), (4, 2)])
def test_the_compiler_communicates_what_the_sheet_says(mesh: tuple[int, int]) -> None:
    """Over "model" go activations, never kernels."""
    code = [sys.executable, "-c", COLLECTIVES, *map(str, mesh)]
    eight = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
    process = subprocess.run(code, env=eight, capture_output=True, text=True, cwd=CHECKOUT)
    assert process.returncode == 0, process.stderr
    total = {"all-reduce": 0, "all-gather": 0}
    for kind, shape in re.findall(r"(\S+) (\S*)\n", process.stdout):
        count = 4
        for side in filter(None, shape.split(",")):
            count *= int(side)
        total[kind] += count
    data, model = mesh
    group = 64 // data  # images of the devices that share kernels
    of = scaling.sizes(summary.network("lenet5", None)[0])
    shared = model > 1
    summed = of.convolutions + of.dense / model + shared * group * of.summed
    assert total["all-reduce"] == pytest.approx(summed, rel=5e-3)
    assert total["all-gather"] == pytest.approx(shared * group * of.gathered, abs=1000)  # and labels, and places
