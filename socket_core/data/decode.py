"""From image files to integer arrays, exactly: 16-bit depth stays 16-bit, colour becomes 8-bit RGB.

Nothing is guessed: a file that is not what its modality promises is a :class:`DataError` that names it.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from socket_core.data import decode_cache
from socket_core.data.types import Modality
from socket_core.errors import ConfigError, DataError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Decoded = Iterator[Pixels]
Progress = Callable[[int, int], None]

# Part of every cache key: raise it whenever decoding or resizing would give other values.
DECODE_VERSION = 1
_COLOUR_MODES = frozenset({"RGB", "RGBA", "L", "LA", "P", "CMYK", "YCbCr"})
FARTHEST_MM = 20_000
"""No sensor of SUN RGB-D measures beyond half of this."""


@dataclass(frozen=True)
class Stored:
    """How the target files of a data set hold their values; by default as they are.

    Attributes:
        rotated: 16-bit depth whose bits were rotated left by three places, as in SUN RGB-D.
        bits: The only bit depth that files may have, None for 8 or 16.
        replicated: One channel may be stored three times over, as RGB.
    """

    rotated: bool = False
    bits: int | None = None
    replicated: bool = False

    @property
    def key(self) -> tuple[int, ...]:
        """For cache keys."""
        return int(self.rotated), self.bits or 0, int(self.replicated)


PLAIN = Stored()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file as a Pillow image; whatever goes wrong inside becomes a :class:`DataError` naming it."""
    try:
        with warnings.catch_warnings():
            # Odd metadata says nothing about the pixels; an oversized image, however, must not be loaded.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except (DataError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"expected at most {Image.MAX_IMAGE_PIXELS} pixels: {error}",
            where=str(path),
            remedy="scale the image down before use, or remove it",
        ) from error
    except Exception as error:  # decoders fail with OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(
            f"expected a complete image file, found one that cannot be read ({type(error).__name__}: {error})",
            where=str(path),
            remedy="copy the file again from its origin, or remove it together with its paired image",
        ) from error


def _colour(image: Image.Image, wide: bool, path: Path) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8; alpha is dropped, grey is replicated."""
    if image.mode not in _COLOUR_MODES:
        raise DataError(
            f"expected an 8-bit colour image, found Pillow mode {image.mode!r}",
            where=str(path),
            remedy="store RGB images as 8-bit JPEG or PNG, and check that no depth map lies in the RGB folder",
        )
    if wide:  # Pillow keeps the upper eight bits and does not say so
        raise DataError(
            "expected an 8-bit colour image, found 16 bits a channel",
            where=str(path),
            remedy="convert it to 8 bits a channel with a tool whose tone mapping you know",
        )
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _single(image: Image.Image, frames: int, path: Path, modality: Modality) -> Pixels:
    """``(H, W)`` uint8 or uint16, values as stored."""
    remedy = f"store {modality} images with one channel of 8 or 16 bits and one frame, for example as 16-bit PNG"
    if frames != 1:
        raise DataError(f"expected one frame, found {frames}", where=str(path), remedy=remedy)
    if image.mode == "L":
        return np.array(image, dtype=np.uint8)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)  # astype also turns big-endian into native order
    if image.mode == "I":  # 32-bit: also what Pillow makes of 16-bit PGM
        wide = np.asarray(image)
        if int(wide.min()) >= 0 and int(wide.max()) <= np.iinfo(np.uint16).max:
            return wide.astype(np.uint16)
        found = f"32-bit values from {wide.min()} to {wide.max()}, which do not fit 16 bits"
        raise DataError(f"expected a {modality} image, found {found}", where=str(path), remedy=remedy)
    raise DataError(
        f"expected one channel of 8 or 16 bits, found Pillow mode {image.mode!r}", where=str(path), remedy=remedy
    )


def _one_of_three(image: Image.Image) -> Image.Image:
    """The first channel, if the image holds it three times over; else the image as it is."""
    if image.mode != "RGB":
        return image
    red, green, blue = image.split()
    return red if red.tobytes() == green.tobytes() == blue.tobytes() else image


def _unpack(pixels: Pixels, path: Path, stored: Stored) -> Pixels:
    """Values as measured, from values as stored; same shape and dtype."""
    bits = pixels.dtype.itemsize * 8
    if stored.bits is not None and bits != stored.bits:
        raise DataError(
            f"expected {stored.bits} bits a pixel, found {bits}",
            where=str(path),
            remedy="use the data set's original file: what was lost in a conversion cannot be restored",
        )
    if not stored.rotated:
        return pixels
    if pixels.dtype != np.uint16:
        raise DataError(
            "expected 16-bit depth with rotated bits, found 8 bits a pixel",
            where=str(path),
            remedy="use the data set's original file, or set data.rotated to false",
        )
    turned = ((pixels >> np.uint16(3)) | (pixels << np.uint16(13))).astype(np.uint16)
    valid = turned[turned > 0]
    if len(valid) and np.count_nonzero(valid > FARTHEST_MM) * 4 > len(valid):
        raise DataError(
            f"expected depth whose bits are rotated by three, but undoing that puts "
            f"{np.count_nonzero(valid > FARTHEST_MM)} of {len(valid)} valid pixels beyond {FARTHEST_MM // 1000} m",
            where=str(path),
            remedy="use the data set's original file; if depth was converted to millimetres, set data.rotated to false",
        )
    return turned


def decode(path: Path, modality: Modality, stored: Stored = PLAIN) -> Pixels:
    """Decode one file, turned upright by its EXIF orientation.

    Args:
        path: The image file.
        modality: What the file must hold.
        stored: How depth and infrared values are stored; RGB takes no heed of it.

    Returns:
        RGB: ``(H, W, 3)`` uint8. Depth and infrared: ``(H, W)``, uint8 or uint16, as exact as the file.

    Raises:
        DataError: The file is unreadable, truncated, too large, not of this modality, or not stored as said.
    """
    with _opened(path) as image:
        frames = int(getattr(image, "n_frames", 1))  # counted here: the upright image is a copy of one frame
        wide = any(";16" in str(tile) for tile in getattr(image, "tile", ()))  # known before the pixels are loaded
        upright = ImageOps.exif_transpose(image)
        if modality == "rgb":
            return _colour(upright, wide, path)
        upright = _one_of_three(upright) if stored.replicated and not wide else upright
        return _unpack(_single(upright, frames, path, modality), path, stored)


def original_size(path: Path) -> tuple[int, int]:
    """``(width, height)`` of the upright image, read from the header alone."""
    with _opened(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # the EXIF orientations that swap the sides
        return (height, width) if turned else (width, height)


def check_pair_sizes(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Raise a :class:`DataError` naming both files if the halves of a pair differ in original size.

    Resizing would hide this, yet it means that the halves were cropped differently and do not align.
    """
    for first, second in pairs:
        one, two = original_size(first), original_size(second)
        if one != two:
            raise DataError(
                f"expected the halves of a pair to have one size, found {one[0]}x{one[1]} and {two[0]}x{two[1]}",
                where=f"{first} and {second}",
                remedy="register the two images to each other (same crop, same size), or remove both",
            )


def _scaled(plane: NDArray[np.float32], size: int, resample: Image.Resampling) -> NDArray[np.float32]:
    """One float plane at ``(size, size)``; Pillow cannot filter 16-bit integers, but floats hold them exactly."""
    return np.asarray(Image.fromarray(plane).resize((size, size), resample), dtype=np.float32)


def resize(pixels: Pixels, size: int, modality: Modality) -> Pixels:
    """Scale to ``(size, size)``, keeping the dtype; the aspect ratio is not kept.

    RGB and infrared use an antialiased bilinear filter. Depth uses the mean over the area of a new pixel,
    counting valid (non-zero) pixels only; the new pixel is a hole (0) if less than half its area is valid.
    Holes thus never pull a distance towards zero.

    Args:
        pixels: ``(H, W, 3)`` uint8 or ``(H, W)`` uint8 or uint16.
        size: New height and width, in pixels.
        modality: Selects the filter.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    if modality == "rgb":
        image = Image.fromarray(pixels.astype(np.uint8, copy=False))
        return np.array(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
    plane = pixels.astype(np.float32)
    if modality == "nir":
        result = _scaled(plane, size, Image.Resampling.BILINEAR)
    else:
        weight = _scaled((pixels > 0).astype(np.float32), size, Image.Resampling.BOX)
        total = _scaled(plane, size, Image.Resampling.BOX)  # holes are zeros and add nothing
        # A hair below one half: the filter's weights are rounded, and an exact half counts as valid.
        valid = weight >= 0.5 - 1e-4
        result = np.where(valid, total / np.where(valid, weight, np.float32(1)), np.float32(0))
    if pixels.dtype == np.uint16:
        return np.clip(np.rint(result), 0, 65535).astype(np.uint16)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def full_scale_for(pixels: Pixels, given: float | None) -> float:
    """The pixel value that becomes 1.0: ``given``, else 255 for 8-bit pixels.

    Raises:
        ConfigError: ``given`` is not a positive number.
        DataError: 16-bit pixels and nothing given; the unit depends on the sensor and is never guessed.
    """
    if given is not None:
        if not (math.isfinite(given) and given > 0):
            raise ConfigError(f"expected a positive number, found {given}", where="data.full_scale")
        return float(given)
    if pixels.dtype == np.uint8:
        return 255.0
    raise DataError(
        "16-bit images need the pixel value that stands for 1.0, found none",
        where="data.full_scale",
        remedy="set data.full_scale, for example 10000 for depth in millimetres up to 10 m",
    )


def _decoded(
    paths: Sequence[Path], modality: Modality, size: int, stored: Stored, progress: Progress | None
) -> Decoded:
    """The images of a set, decoded and resized one after the other; all have the type of the first."""
    kind: np.dtype[np.uint8] | np.dtype[np.uint16] | None = None
    for index, path in enumerate(paths):
        image = resize(decode(path, modality, stored), size, modality)
        kind = image.dtype if kind is None else kind
        if image.dtype != kind:
            raise DataError(
                f"expected one bit depth in a set, found {kind} and {image.dtype}",
                where=f"{paths[0]} and {path}",
                remedy=f"store all {modality} images with the same bit depth and unit",
            )
        yield image
        if progress is not None:
            progress(index + 1, len(paths))


def _stack(count: int, images: Decoded) -> Pixels:
    """One array of all, allocated once."""
    first = next(images)
    stack = np.empty((count, *first.shape), dtype=first.dtype)
    for index, image in enumerate(itertools.chain([first], images)):
        stack[index] = image
    return stack


def decode_many(
    paths: Sequence[Path],
    modality: Modality,
    size: int,
    *,
    stored: Stored = PLAIN,
    root: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Pixels:
    """Decode a set of files to one array, through the cache if one is given.

    Args:
        paths: The files, in the order of the result.
        modality: What every file must hold.
        size: Height and width of the result, in pixels.
        stored: How depth and infrared values are stored.
        root: Folder that the names in the cache key are relative to, so that a moved data set keeps its
            cache. Use one cache folder per data set.
        cache: Folder for decoded sets; created if missing. None: decode every time.
        progress: Called as ``progress(done, total)``, in files.

    Returns:
        ``(N, size, size, 3)`` uint8 for RGB, else ``(N, size, size)`` uint8 or uint16. With a cache the array is
        mapped from its file and read-only.

    Raises:
        DataError: No files, a file that :func:`decode` refuses, or 8- and 16-bit files in one set.
    """
    if not paths:
        raise DataError(f"expected at least one {modality} image, found none")
    key = (DECODE_VERSION, PIL.__version__, modality, size, *stored.key)
    file = decode_cache.file_of(cache, key, paths, root) if cache is not None else None
    shape = (len(paths), size, size, 3) if modality == "rgb" else (len(paths), size, size)
    if file is None:
        return _stack(len(paths), _decoded(paths, modality, size, stored, progress))
    pixels = decode_cache.read(file, shape)
    if pixels is not None:
        if progress is not None:
            progress(len(paths), len(paths))
        return pixels
    decode_cache.write(file, len(paths), _decoded(paths, modality, size, stored, progress))
    pixels = decode_cache.read(file, shape)
    if pixels is None:
        raise DataError("decoded images changed as soon as they were written", where=str(file), remedy="check the disk")
    return pixels
