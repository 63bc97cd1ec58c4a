"""OpenEXR files as others write them, by OpenImageIO."""

from __future__ import annotations

import pytest


def exr(path, pixels, names, kind="float", tile=0, **attributes):
    """Write pixels (h, w, channels), float32, under these names of channels."""
    oiio = pytest.importorskip("OpenImageIO")
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    spec.channelnames = names
    spec.tile_width = spec.tile_height = tile
    for name, value in attributes.items():
        if name in ("x", "y", "full_x", "full_y", "full_width", "full_height"):
            setattr(spec, name, value)
        else:
            spec.attribute(name, *value)
    named = path.with_suffix(".exr")  # by which OpenImageIO chooses its writer
    file = oiio.ImageOutput.create(str(named))
    assert file.open(str(named), spec), file.geterror()
    assert file.write_image(pixels), file.geterror()
    file.close()
    named.replace(path)
