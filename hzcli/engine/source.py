"""A picture's own pixels and room for results, for Transforms that must see all of it first."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hzcli.core.window import Window
from hzcli.engine.pipeline import heed
from hzcli.engine.plan import Box
from hzcli.engine.thumbnail import Reader, full_scale

if TYPE_CHECKING:
    from hzcli.engine.colour import Colour


class Source:
    """`core.transform.Source` over an open picture and its mask.

    Results are kept in memory while there is room, then in nameless files of the temporary
    folder, mapped: their pages leave this process's memory with every `relax`, and the files
    are gone when the last tensor is.

    Args:
        reader: gives (h, w, 3) codes. mask_reader: (h, w) codes, of the same size.
        box: (top, bottom, left, right) of the pixels with mask > 0.
        device: where `read` puts its tensors. Scratch tensors are the CPU's.
        room: bytes of results that may be kept in memory.
        colour: how the picture's numbers become sRGB; None where they are.
    """

    def __init__(
        self,
        reader: Reader,
        mask_reader: Reader,
        box: Box,
        device: torch.device,
        room: int,
        colour: Colour | None = None,
    ) -> None:
        self.size = reader.size
        self.box = Window(*box, reader.size)
        self._readers = ((reader, 3, colour), (mask_reader, 1, None))
        self._device = device
        self._room = room
        self._maps: list[mmap.mmap] = []

    def read(self, window: Window) -> tuple[Tensor, Tensor]:
        """Colours (1, 3, h, w), sRGB-encoded, [0, 1], and mask (1, 1, h, w) of a window."""
        heed()
        self.relax()
        found = []
        for reader, channels, colour in self._readers:
            codes = reader.read(window).reshape(window.height, window.width, channels)
            scale = np.float32(1 / full_scale(reader.depth))
            # Written out, for a product of its own would keep the order of the codes.
            values = np.empty((channels, window.height, window.width), np.float32)
            np.multiply(codes.transpose(2, 0, 1), scale, out=values, dtype=np.float32)
            if colour is not None:
                flat = torch.from_numpy(values).view(channels, -1)
                colour.shown(flat, flat)
            elif codes.dtype == np.float32:
                np.nan_to_num(values.clip(0, 1, out=values), copy=False)
            found.append(torch.from_numpy(values)[None].to(self._device))
        return found[0], found[1]

    def scratch(self, *shape: int) -> Tensor:
        """A float32 tensor, its values not set; in a temporary file if memory is short.

        Raises:
            OSError: there is no room for the file.
        """
        count = 4 * math.prod(shape)
        if count <= self._room:
            self._room -= count
            return torch.empty(shape)
        with tempfile.TemporaryFile(prefix="hz-") as file:
            if hasattr(os, "posix_fallocate"):
                # Taken at once: a full disk is an error now, not a crash in the middle.
                os.posix_fallocate(file.fileno(), 0, count)
            else:
                file.truncate(count)
            mapped = mmap.mmap(file.fileno(), count)
        self._maps.append(mapped)
        return torch.frombuffer(mapped, dtype=torch.float32).view(shape)

    def relax(self) -> None:
        """Let the pages of mapped results leave memory; their contents stay in the files."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
        # Tensors may still look at the maps: each goes when the last of its tensors does.
        self._maps.clear()
