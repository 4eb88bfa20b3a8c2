"""The arithmetic of convolution: how large a map leaves a stage."""


class GeometryError(ValueError):
    """A stage would leave a map smaller than one pixel."""


def output_size(stage: str, size: int, window: int, stride: int = 1, padding: int = 0) -> int:
    """Length of a map's side after a convolution or a pooling: floor((n + 2p - f) / s) + 1.

    The formula is the one of Dumoulin and Visin, "A guide to convolution arithmetic for deep learning"
    (arXiv 1603.07285), relationship 6.

    Args:
      stage: the stage's name, for the message.
      size: n, side of the incoming map in pixels.
      window: f, side of the kernel or pooling window in pixels.
      stride: s, in pixels.
      padding: p, pixels added on each side.

    Raises:
      GeometryError: the window does not fit into the map.
    """
    if size + 2 * padding < window:
        padded = f" padded by {padding}" if padding else ""
        raise GeometryError(f"stage {stage}: a {window}x{window} window does not fit a {size}x{size} map{padded}")
    return (size + 2 * padding - window) // stride + 1
