"""Images on the device: normalised, cropped and flipped as told, each on its own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from loreun_bench.classification.data.images import Augment, Images


@pytest.fixture
def pixels():
    return torch.randint(1, 256, (20, 6, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images(pixels):
    return Images(pixels, torch.zeros(3), torch.full((3,), 1 / 255))


def raw(batch):
    return batch.permute(0, 2, 3, 1).round().to(torch.uint8)


def test_batches_are_normalised_per_channel_and_channels_last(pixels):
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    batch = Images(pixels, mean, std).batch(torch.tensor([3, 1]))
    expected = (pixels[[3, 1]].float() / 255 - mean) / std
    torch.testing.assert_close(batch, expected.permute(0, 3, 1, 2))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_every_augmented_image_is_a_crop_of_its_own_image_maybe_flipped(images, pixels):
    index = torch.arange(20)
    found = raw(images.batch(index, Augment(crop=2, flip=True), torch.Generator().manual_seed(1)))
    padded = F.pad(pixels, (0, 0, 2, 2, 2, 2))
    places = set()
    for i in range(20):
        options = [(dy, dx, flip) for dy in range(5) for dx in range(5) for flip in (False, True)]
        matches = {place for place in options if torch.equal(found[i], _crop(padded[i], *place))}
        assert matches
        places |= matches
    assert len({p[:2] for p in places}) > 5
    assert {p[2] for p in places} == {False, True}


def _crop(padded, dy, dx, flip):
    part = padded[dy : dy + 6, dx : dx + 5]
    return part.flip(1) if flip else part


def test_flip_alone_flips_about_half(images, pixels):
    index = torch.zeros(400, dtype=torch.int64)
    found = raw(images.batch(index, Augment(flip=True), torch.Generator().manual_seed(2)))
    flipped = (found == pixels[0].flip(1)).flatten(1).all(1)
    same = (found == pixels[0]).flatten(1).all(1)
    assert (flipped | same).all()
    assert 140 < int(flipped.sum()) < 260


def test_no_augmentation_draws_nothing(images):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    images.batch(torch.tensor([0]), Augment(), generator)
    assert torch.equal(generator.get_state(), before)


def test_the_stored_pixels_are_never_changed(images, pixels):
    before = pixels.clone()
    images.batch(torch.arange(20), Augment(1, True), torch.Generator())
    assert torch.equal(pixels, before)
