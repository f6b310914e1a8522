"""Images as descriptors of shape, colour and texture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.encoders.describe import Describer
from features.encoders.described import DescribedEncoder

if TYPE_CHECKING:
    from PIL import Image

SIDE = 64
EXPECTED = "image file names"
HOG_WIDTH = 3 * 3 * 2 * 2 * 8
COLOUR_BINS = (8, 4, 4)
COLOUR_WIDTH = 8 * 4 * 4
LBP_CODES = 10
LBP_WIDTH = 2 * 2 * LBP_CODES
BLOCKS = (HOG_WIDTH, COLOUR_WIDTH, LBP_WIDTH)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""Formats that Pillow decodes itself; others (EPS) would start a program."""
MOST_PIXELS = 64_000_000
LARGEST_FILE = 256 << 20


@dataclass(eq=False)
class ImageEncoder(DescribedEncoder):
    """Describes image files, scales the descriptors and keeps their principal components.

    An image is resized to 64 x 64 without regard to its proportions (transparent parts become white); its
    descriptor joins histograms of oriented gradients (Dalal and Triggs, 2005), a hue-saturation-value
    histogram and local binary patterns (Ojala et al., 2002) of the four quarters. Each of the three is scaled
    as a whole: to scale each of its components would blow up the noise of bins that are nearly always
    empty, and let the widest drown the others. File names are relative to `source`. A null name, and a file
    that is not there, is not of `FORMATS`, has over 64 million pixels or cannot be decoded, is missing; a
    warning counts the latter.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    dim
        Number of principal components; fewer where the images are few, None keeps the whole descriptor.
    """

    kind: ClassVar[str] = "image"
    expected: ClassVar[str] = EXPECTED
    blocks: ClassVar[tuple[int, ...] | None] = BLOCKS

    dim: int | None = 64

    def describer(self) -> Describer[Image.Image]:
        """Return what describes an image file."""
        # Imported here, before the threads of the describer, as lazy imports are not thread-safe.
        import PIL.Image
        import skimage.feature  # noqa: F401

        PIL.Image.init()
        return Describer(
            noun="image",
            width=sum(BLOCKS),
            load=read_image,
            each=describe_image,
            identity={"name": "hog-hsv-lbp", "version": 1},
            libraries=("numpy", "pillow", "scikit-image"),
            largest=LARGEST_FILE,
        )


def open_image(path: Path, side: int) -> Image.Image:
    """Read a file as an RGB image at about its size or, where the format can, not much above 2 x `side`.

    Raises
    ------
    ValueError
        If it has more than MOST_PIXELS, before any of them is decoded; a broken file raises what its
        decoder raises.
    """
    from PIL import Image

    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"it has {width} x {height} pixels, at most {MOST_PIXELS} are decoded")
        # JPEG files are decoded at a reduced size that is still above twice the wanted one.
        image.draft("RGB", (2 * side, 2 * side))
        opaque: Image.Image = image
        if image.has_transparency_data:
            coloured = image.convert("RGBA")
            opaque = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
        return opaque.convert("RGB")


def read_image(path: Path) -> Image.Image:
    """Read a file as a 64 x 64 RGB image; raises as `open_image` does."""
    from PIL import Image

    return open_image(path, SIDE).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def describe_image(image: Image.Image) -> NDArray[np.float32]:
    """Return the descriptor of a 64 x 64 RGB image, (456,) float32."""
    from skimage.feature import hog, local_binary_pattern

    grey = np.asarray(image.convert("L"))
    shape = hog(grey, orientations=8, pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    codes = local_binary_pattern(grey, P=8, R=1, method="uniform").astype(np.intp)
    half = SIDE // 2
    quarters = codes.reshape(2, half, 2, half).swapaxes(1, 2).reshape(4, -1)
    texture = [np.bincount(quarter, minlength=LBP_CODES) / half**2 for quarter in quarters]
    return np.concatenate([shape, _colour_histogram(image), *texture]).astype(np.float32)


def _colour_histogram(image: Image.Image) -> NDArray[np.float64]:
    """Return the square roots of the shares of hue, saturation and value bins (Hellinger distance)."""
    pixels = np.asarray(image.convert("HSV"), dtype=np.intp).reshape(-1, 3)
    hue, saturation, value = (pixels[:, i] * bins // 256 for i, bins in enumerate(COLOUR_BINS))
    cells = (hue * COLOUR_BINS[1] + saturation) * COLOUR_BINS[2] + value
    return np.sqrt(np.bincount(cells, minlength=COLOUR_WIDTH) / len(cells))
