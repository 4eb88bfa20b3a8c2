"""This project's side: the step that training compiles, on a batch that lies on the device."""

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from train import devices, network, settings
from train.benchmark.process import Clock, Measured, rate, serve
from train.benchmark.workloads import MEAN, PRODUCT_SIDE, STD, Workload, batch_of
from train.data.transforms import normalise
from train.network import PyTree
from train.prepare import batch_shape, prepare


class _JaxSide(Measured):
    """Answers of this process."""

    def prepare(self, workload: list[Any], config: str) -> dict[str, Any]:
        """Compile a workload and run it once; `config` is configs/base.py's as JSON."""
        work = Workload(*workload)
        experiment = _experiment(work, config)
        mesh = devices.make_mesh(1)
        batch = jax.device_put(batch_of(work), devices.by_batch(mesh))
        self.images = work.network.batch_size
        if work.suite == "train":
            prepared = prepare(experiment, 10_000, mesh)
            state, train_step = prepared.state, prepared.train_step

            def step() -> None:
                nonlocal state
                state, metrics = train_step(state, batch)
                jax.block_until_ready(metrics)

            self.step, compile_seconds = step, prepared.compile_seconds
        else:
            graph, params, stats = _built(experiment)
            params = network.narrowed(params, work.precision)  # once, as evaluation does

            def logits(params: PyTree, stats: PyTree, images: jax.Array) -> jax.Array:
                return nnx.merge(graph, params, stats)(normalise(images, experiment.dataset))

            began = time.perf_counter()
            program = devices.jit(logits, work.precision)
            compiled = program.lower(params, stats, batch_shape(experiment, self.images).images).compile()
            compile_seconds = time.perf_counter() - began
            self.step = lambda: jax.block_until_ready(compiled(params, stats, batch.images))
        self.step()
        return {
            "setting": "XLA",
            "compile_seconds": compile_seconds,
            "first_step_seconds": self.clock.since_start(),
        }

    def matrix_rate(self, precision: str, seconds: float) -> dict[str, Any]:
        """Return floating-point operations a second of a large product, accumulated in float32."""
        a, b = jax.random.normal(jax.random.key(0), (2, PRODUCT_SIDE, PRODUCT_SIDE), precision)
        product = jax.jit(lambda a, b: jax.lax.dot(a, b, preferred_element_type=jnp.float32))
        jax.block_until_ready(product(a, b))
        return {"flops": rate(lambda: jax.block_until_ready(product(a, b)), 2 * PRODUCT_SIDE**3, seconds)}

    def export(self, workload: list[Any], config: str, path: str) -> dict[str, Any]:
        """Write weights, and this side's logits and gradients on the batch, to an .npz file for torch_side.py."""
        work = Workload(*workload)
        experiment = _experiment(work, config)
        experiment.model.dropout = 0.0
        graph, params, stats = _built(experiment)
        images, labels = map(jnp.asarray, batch_of(work))

        def loss(params: PyTree) -> tuple[jax.Array, jax.Array]:
            logits = nnx.merge(graph, params, stats)(normalise(images, experiment.dataset)).astype(jnp.float32)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

        gradients, logits = devices.jit(jax.grad(loss, has_aux=True), work.precision)(params)
        arrays = {"logits": logits}
        plan = nnx.merge(graph, params, stats).plan
        for name, tree in (("parameter", params), ("gradient", gradients)):
            layers = [tree[stage.name] for stage in plan if stage.name in tree]
            arrays |= {f"{name}/{place}/{key}": layer[key] for place, layer in enumerate(layers) for key in layer}
        numpy: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        np.savez(path, **numpy)
        return {}


def _built(experiment: ConfigDict) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    """Initialise in one program, as training does."""
    graph, _, _ = network.describe(experiment)
    return graph, *jax.jit(lambda: network.build(experiment, jax.random.key(0))[1:])()


def _experiment(work: Workload, text: str) -> ConfigDict:
    """Return the config of a workload, resolved, and completed as data would."""
    config, measured = settings.from_json(text), work.network
    config.model.name = work.model
    config.precision = work.precision
    settings.resolve(config)
    config.dataset.update(
        image_size=measured.image_size,
        channels=measured.channels,
        classes=measured.classes,
        mean=(MEAN,) * measured.channels,
        std=(STD,) * measured.channels,
    )
    config.train.batch_size = measured.batch_size
    return config


if __name__ == "__main__":
    side = _JaxSide(Clock(float(sys.argv[1])))
    serve({"prepare": side.prepare, "measure": side.measure, "matrix_rate": side.matrix_rate, "export": side.export})
