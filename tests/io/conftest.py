from __future__ import annotations

from pathlib import Path

import made_metadata
import pytest


@pytest.fixture
def profile() -> bytes:
    """An sRGB profile, made by LittleCMS."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG with EXIF, XMP, IPTC and Photoshop's resources."""
    return made_metadata.photo(tmp_path / "photo.jpg")
