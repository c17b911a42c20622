"""What `images` promises: an image fits its square, travels through JSON, and becomes the tensor it should."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convscope.errors import DamagedFile, DataError, ImageError, UnknownName, UsageError
from convscope.images import preprocess as images
from convscope.images.preprocess import FITS, Preprocess, statistics, to_tensor


def noise(width=24, height=16, seed=0, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def blocks(width=40, height=24, seed=0):
    """Flat 8 x 8 blocks, which a JPEG keeps the same whichever way the image is turned."""
    return np.kron(noise(width // 8, height // 8, seed), np.ones((8, 8, 1), np.uint8))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- Preprocess -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("sides", [(1, 1), (1, 50), (50, 1), (2, 10_000), (10_000, 2), (33, 32), (31, 64)])
def test_every_shape_fits(fit, sides):
    colour = (10, 200, 30)
    image = Preprocess(size=32, fit=fit).fit_image(Image.new("RGB", sides, colour))
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    allowed = [colour, images.PAD_COLOUR] if fit == "pad" else [colour]
    assert {tuple(c) for c in image.reshape(-1, 3).tolist()} <= set(allowed)
    assert (image == colour).all(axis=2).any()


@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_the_right_size_keeps_its_pixels(fit, tmp_path):
    Image.fromarray(noise(32, 32)).save(tmp_path / "p.png")
    assert np.array_equal(Preprocess(size=32, fit=fit).fit_image(tmp_path / "p.png"), noise(32, 32))


def test_crop_cuts_whole_pixels_from_the_middle():
    wide = noise(45, 32)
    assert np.array_equal(Preprocess(size=32).fit_image(Image.fromarray(wide)), wide[:, 6:38])


def test_pad_keeps_the_whole_image():
    wide = noise(32, 16)
    padded = Preprocess(size=32, fit="pad").fit_image(Image.fromarray(wide))
    assert np.array_equal(padded[8:24], wide)
    assert (padded[:8] == images.PAD_COLOUR).all()
    assert (padded[24:] == images.PAD_COLOUR).all()


def test_a_very_tall_thin_image_is_squashed_without_a_huge_step():
    tall = np.repeat(np.linspace(0, 255, 2_000_000).astype(np.uint8)[:, None], 1, axis=1)
    image = Preprocess(size=32, fit="squash").fit_image(Image.fromarray(tall))
    assert np.abs(image[:, 0, 0] - (np.arange(32) + 0.5) * 255 / 32).max() < 3


def test_a_broken_pillow_image_is_an_image_error():
    with (
        Image.open(io.BytesIO(encoded(Image.fromarray(noise(200, 150)), "JPEG", quality=90)[:-800])) as image,
        pytest.raises(ImageError, match="from the page: truncated"),
    ):
        Preprocess(size=8).fit_image(image, where="from the page")


numbers = st.floats(-2, 2, allow_nan=False)
positive = st.floats(1e-3, 4)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 1024),
    fit=st.sampled_from(sorted(FITS)),
    mean=st.tuples(numbers, numbers, numbers),
    std=st.tuples(positive, positive, positive),
)
def test_preprocess_survives_json(size, fit, mean, std):
    preprocess = Preprocess(size, fit, mean, std)
    text = json.dumps(preprocess.to_dict())
    assert Preprocess.from_dict(json.loads(text)) == preprocess
    assert json.loads(text) == preprocess.to_dict()


def test_preprocess_refuses_what_makes_no_sense():
    with pytest.raises(UnknownName, match="Did you mean 'crop'"):
        Preprocess(size=8, fit="corp")
    for wrong in (
        {"size": 0},
        {"size": 8.0},
        {"size": True},
        {"size": -8},
        {"size": 10**6},
        {"size": 8, "std": (0.1, 0, 0.1)},
        {"size": 8, "std": (0.1, float("nan"), 0.1)},
        {"size": 8, "mean": (0.5, 0.5)},
        {"size": 8, "mean": 0.5},
        {"size": 8, "version": 2},
    ):
        with pytest.raises(UsageError):
            Preprocess(**wrong)


def test_a_damaged_preprocess_is_told():
    good = Preprocess(size=8).to_dict()
    for wrong in ({**good, "extra": 1}, {"size": 8}, {**good, "version": 2}, {**good, "fit": "?"}, [], None):
        with pytest.raises(DamagedFile):
            Preprocess.from_dict(wrong)


def test_the_decoding_key_names_what_decides_the_pixels():
    key = Preprocess(size=8).decoding_key()
    assert key == Preprocess(size=8, mean=(0, 0, 0), std=(1, 1, 1)).decoding_key()
    assert len({key, Preprocess(size=9).decoding_key(), Preprocess(size=8, fit="pad").decoding_key()}) == 3


@settings(max_examples=40, deadline=None)
@given(mean=st.tuples(numbers, numbers, numbers), std=st.tuples(positive, positive, positive), last=st.booleans())
def test_normalise_is_the_formula(mean, std, last):
    preprocess = Preprocess(size=16, mean=mean, std=std)
    memory = torch.channels_last if last else torch.contiguous_format
    images = torch.from_numpy(np.arange(2 * 3 * 16 * 16).astype(np.uint8).reshape(2, 3, 16, 16))
    images = images.contiguous(memory_format=memory)
    kept = images.clone()
    normal = preprocess.normalise(images)
    m, s = (np.array(v, np.float64).reshape(1, 3, 1, 1) for v in (mean, std))
    expected = (images.numpy().astype(np.float64) / 255 - m) / s
    assert normal.dtype == torch.float32
    assert normal.is_contiguous(memory_format=memory)
    assert np.abs(normal.numpy() - expected).max() <= 4e-7 * (np.abs(m / s) + 1 / s).max()
    assert torch.equal(images, kept)


# --- tensors and statistics -------------------------------------------------------------------------------------------


def test_to_tensor_is_a_view(tmp_path):
    images = np.stack([noise(seed=s) for s in range(3)])
    images.tofile(tmp_path / "images.u8")
    mapped = np.memmap(tmp_path / "images.u8", np.uint8, "r", shape=images.shape)
    read_only = images.copy()
    read_only.flags.writeable = False
    for array in (images, mapped, read_only, mapped[1:]):
        tensor = to_tensor(array)
        assert tensor.shape == (len(array), 3, *images.shape[1:3])
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert tensor.data_ptr() == array.ctypes.data
        assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), array)
    assert not read_only.flags.writeable


def test_a_tensor_keeps_its_memory_alive():
    tensors = []
    for seed in range(20):
        array = noise(64, 64, seed)[None]
        array.flags.writeable = False
        tensors.append(to_tensor(array))
        del array
    for seed, tensor in enumerate(tensors):
        assert np.array_equal(tensor[0].permute(1, 2, 0).numpy(), noise(64, 64, seed))


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (7, 5, 9, 3), (300, 64, 65, 3)])
def test_statistics_are_numpys(shape):
    images = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8) // np.array([1, 2, 3], np.uint8)
    index = np.random.default_rng(4).permutation(len(images))[: max(1, len(images) - 1)]
    mean, std = statistics(images, index)
    flat = images[index].reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, np.maximum(flat.std(axis=0), 1 / 255), rtol=1e-10)
    assert (mean, std) == statistics(images, index[::-1])
    assert Preprocess(size=8, mean=mean, std=std)


def test_statistics_of_constant_and_of_no_images():
    mean, std = statistics(np.full((2, 4, 4, 3), 51, np.uint8), np.arange(2))
    assert mean == (0.2, 0.2, 0.2)
    assert std == (1 / 255,) * 3
    with pytest.raises(DataError):
        statistics(np.empty((0, 4, 4, 3), np.uint8), np.arange(0))


def test_statistics_take_a_block_of_the_images_at_a_time():
    taken = []

    class Seen(np.ndarray):
        def __getitem__(self, key):
            taken.append(len(key))
            return np.asarray(super().__getitem__(key))

    images = np.zeros((1_000, 64, 64, 3), np.uint8).view(Seen)
    statistics(images, np.arange(999))
    assert sum(taken) == 999
    assert max(taken) * 64 * 64 <= 1 << 20
