"""Readings: from a configuration to a file's metadata and back."""

from __future__ import annotations

from typing import Any

import pytest

from hzcli import catalog, models
from hzcli.models.told import told

CONFIGS = [
    config
    for card in catalog.CARDS
    for config in (
        *(models.published(variant).config for variant in card.variants),
        getattr(models.module(card), f"{card.network}Config").compact(),
    )
    if card.id != "hinet"  # which reads older files too, by rules of its own
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_what_is_written_is_read(config: Any) -> None:
    wanted = {name: getattr(config, name) for name in config.READINGS}
    metadata = {**models.readings_of(config), "format": "2", "id": "mine"}

    assert told(type(config), metadata) == wanted
    assert {name: type(value) for name, value in told(type(config), metadata).items()} == {
        name: type(value) for name, value in wanted.items()
    }
    assert told(type(config), {}) == {}


@pytest.mark.parametrize(
    ("system", "name", "text", "words"),
    [
        ("aict", "clamp", "perhaps", "clamp is 'perhaps', expected false or true"),
        ("pctnet", "mode", "nearest", "mode is 'nearest', expected bilinear or bicubic"),
        ("cdtnet", "thumbnail_filter", "x", "expected area or bilinear or triangle"),
        ("s2crnet", "thumbnail", "large", "invalid literal"),
        ("hdnet", "masks", "soft", "masks is 'soft'"),
    ],
)
def test_what_no_field_may_be_is_refused(system: str, name: str, text: str, words: str) -> None:
    config = models.published({"s2crnet": "s2crnet-s"}.get(system, system)).config

    with pytest.raises(ValueError, match=words):
        type(config)(**told(type(config), {name: text}))
