"""vilg: text-to-image and image-to-text generators in JAX/Flax on a device mesh."""

__version__ = "0.1.0"
