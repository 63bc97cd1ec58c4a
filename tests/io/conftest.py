from __future__ import annotations

import pytest


@pytest.fixture
def profile() -> bytes:
    """An sRGB profile, made by LittleCMS."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
