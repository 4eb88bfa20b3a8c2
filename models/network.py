"""What the networks have in common: named stages in a row, which run them and which their arithmetic is read off."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from models.arithmetic import GeometryError
from models.geometry import Initializer, Layer, Shape
from models.layers import ACTIVATIONS, Dense, Dropout
from models.pooling import AdaptiveAveragePool, MaxPool


class NetworkError(ValueError):
    """No such network: names the option and what it may be."""


class Stage(NamedTuple):
    """A stage of a network.

    Attributes:
      name: as the paper has it.
      layers: one behind the other; one with parameters stands here as the name of the network's attribute.
      activation: a key of `ACTIVATIONS`, of what the layers make.
    """

    name: str
    layers: tuple[Layer | str, ...]
    activation: str


class Network(nnx.Module):
    """Stages one behind the other. A subclass adds them in its constructor.

    A layer with parameters becomes an attribute with the stage's name, so that names in a tree of parameters are the
    paper's: `params["conv1"]["kernel"]`.

    Args:
      shape: of an example, `(*spatial, C)`.

    Attributes:
      input_shape: that.
      shape: what the stages so far make of it.
      plan: the stages.
    """

    VARIANTS: tuple[str, ...] = ()

    def __init__(self, shape: Shape) -> None:
        self.input_shape = self.shape = shape
        self.plan: tuple[Stage, ...] = ()

    @classmethod
    def _check(cls, variant: str) -> None:
        """Raise NetworkError where there is no such variant."""
        if variant not in cls.VARIANTS:
            raise NetworkError(f"variant {variant!r}: must be one of {', '.join(cls.VARIANTS)}")

    def add(self, name: str, *layers: Layer, activation: str = "identity") -> None:
        """Append a stage.

        Raises:
          GeometryError: a layer cannot take what comes in; names the stage.
        """
        entries: list[Layer | str] = []
        for layer in layers:
            try:
                self.shape = layer.output(self.shape)
            except GeometryError as error:
                raise GeometryError(f"stage {name}: {error}") from None
            if isinstance(layer, nnx.Module):
                attribute = name + "_norm" * isinstance(layer, nnx.BatchNorm)
                setattr(self, attribute, layer)
                entries.append(attribute)
            else:
                entries.append(layer)
        self.plan = (*self.plan, Stage(name, tuple(entries), activation))

    def add_classifier(
        self,
        side: int,
        classes: int,
        dropout: Dropout,
        before: Collection[str],
        *,
        dtype: DTypeLike,
        kernel_init: Initializer,
        bias_init: Initializer,
        last_init: Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        """Append fc6, fc7 and fc8, with which AlexNet and VGG end.

        Args:
          side: of the maps that fc6 sees, in pixels; adaptive average pooling makes them so.
          classes: number of logits.
          dropout: what stands before some of them.
          before: which.
          dtype: what they compute in.
          kernel_init: of fc6 and fc7.
          bias_init: of fc6 and fc7; fc8's begin at 0.
          last_init: of fc8's kernel.
          rngs: where the initial parameters come from.
        """
        for name, width in (("fc6", 4096), ("fc7", 4096), ("fc8", classes)):
            first, last = name == "fc6", name == "fc8"
            dense = Dense(
                self.shape[-1] * (side**2 if first else 1),
                width,
                dtype=dtype,
                kernel_init=last_init if last else kernel_init,
                bias_init=nnx.initializers.zeros if last else bias_init,
                rngs=rngs,
            )
            pooling = (AdaptiveAveragePool(side),) if first else ()
            dropped = (dropout,) if name in before else ()
            self.add(name, *pooling, *dropped, dense, activation="identity" if last else "relu")

    def layers_of(self, stage: Stage) -> list[Layer]:
        """Return the layers of a stage of the plan."""
        return [getattr(self, layer) if isinstance(layer, str) else layer for layer in stage.layers]

    def divided(self, last: str) -> tuple["Network", "Network"]:
        """Return two networks: the stages up to the one that is named `last`, and those behind it.

        Args:
          last: a stage, but not the network's last.

        Raises:
          NetworkError: there is no such stage, or none behind it.
        """
        names = [stage.name for stage in self.plan]
        if last not in names[:-1]:
            raise NetworkError(f"stage {last!r}: must be one of {', '.join(names[:-1])}")
        behind = names.index(last) + 1
        shape = self.input_shape
        for stage in self.plan[:behind]:
            for layer in self.layers_of(stage):
                shape = layer.output(shape)
        first, second = self._with(self.plan[:behind]), self._with(self.plan[behind:])
        first.shape = second.input_shape = shape
        return first, second

    def _with(self, plan: tuple[Stage, ...]) -> "Network":
        """Return this network with some of its stages, and without the layers of others."""
        part = nnx.clone(self)
        kept = {layer for stage in plan for layer in stage.layers}
        for stage in self.plan:
            for layer in stage.layers:
                if isinstance(layer, str) and layer not in kept:
                    delattr(part, layer)
        part.plan = plan
        return part

    def stages(self, x: jax.Array, *, key: jax.Array | None = None) -> Iterator[tuple[str, jax.Array]]:
        """Yield (name, activation) of each stage for a batch `[B, *spatial, C]`; with a key, as in training."""
        x, activation = jnp.asarray(x), "identity"
        for place, stage in enumerate(self.plan):
            stage_key = None if key is None else jax.random.fold_in(key, place)
            for layer in self.layers_of(stage):
                # A monotone activation commutes with the maximum, and behind it there is less to activate. Where nobody
                # looks at what has been yielded in between, the compiler drops it.
                if not isinstance(layer, MaxPool):
                    x, activation = ACTIVATIONS[activation](x), "identity"
                x = layer(x, stage_key)
            if stage.activation != "identity":
                x, activation = ACTIVATIONS[activation](x), stage.activation
            yield stage.name, ACTIVATIONS[activation](x)

    def __call__(self, x: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Return logits `[B, classes]` of a batch `[B, *spatial, C]`."""
        *_, (_, logits) = self.stages(x, key=key)
        return logits

    def log_probabilities(self, logits: jax.Array) -> jax.Array:
        """Return the logarithm of each class's probability, `[B, classes]`."""
        return jax.nn.log_softmax(logits)

    def cross_entropy(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """Return the loss of each example, `[B]`; targets are probabilities `[B, classes]`, one-hot or smoothed."""
        return -jnp.sum(targets * self.log_probabilities(logits), axis=-1, where=targets > 0)
