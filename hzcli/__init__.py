"""hz: image harmonisation for photographers, at full resolution and 16 bits."""

__version__ = "0.1.0"

__all__ = ["__version__"]
