"""Images as descriptors of shape, colour and texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders.base import Encoded
from features.encoders.columns import check_columns, check_number, pick_single
from features.encoders.files import FileDescriptor, Unreadable
from features.encoders.projection import Projection, encode_present, fit_projection
from features.encoders.storage import parameters_of, read_json, write_json

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


@dataclass(eq=False)
class ImageEncoder:
    """Describes image files, scales the descriptors and keeps their principal components.

    An image is resized to 64 x 64 without regard to its proportions (transparent parts become white); its
    descriptor joins histograms of oriented gradients (Dalal and Triggs, 2005), a hue-saturation-value
    histogram and local binary patterns (Ojala et al., 2002) of the four quarters. Each of the three is scaled
    as a whole: to scale each of its components would blow up the noise of bins that are nearly always
    empty, and let the widest drown the others. File names are relative to `source`. A null name, and a file
    that is not there or cannot be decoded, is missing; a warning counts the latter.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    dim
        Number of principal components; fewer where the images are few, None keeps the whole descriptor.
    """

    kind: ClassVar[str] = "image"
    version: ClassVar[int] = 1

    columns: Sequence[str] | None = None
    dim: int | None = 64
    columns_: tuple[str, ...] = field(init=False, repr=False)
    projection_: Projection | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)
        check_number(self.kind, "dim", self.dim, 1)

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return self.projection_.width if self.projection_ else 1

    def fit(self, table: pl.DataFrame, source: Path) -> Self:
        """Learn scales and components from the readable files; raises DataError for columns not of text."""
        names = pick_single(table, self.columns, EXPECTED)
        self.columns_ = (names.name,)
        rows, _ = self._files().rows(names, source)
        self.projection_ = fit_projection(rows, standardize=True, dim=self.dim, blocks=BLOCKS)
        return self

    def encode(self, table: pl.DataFrame, source: Path) -> Encoded:
        """Encode each distinct file once."""
        names = pick_single(table, self.columns_, EXPECTED)
        return encode_present(self.projection_, *self._files().rows(names, source))

    def unreadable(self, table: pl.DataFrame, source: Path) -> list[Unreadable]:
        """List (row, path, reason) of the files that count as missing; needs no `fit`."""
        return self._files().unreadable(pick_single(table, self.columns, EXPECTED), source)

    def _files(self) -> FileDescriptor[Image.Image]:
        # Imported here, before the threads of `FileDescriptor`, as lazy imports are not thread-safe.
        import PIL.Image  # noqa: F401
        import skimage.feature  # noqa: F401

        return FileDescriptor("image", sum(BLOCKS), read_image, describe_image)

    def save(self, folder: Path) -> None:
        """Write parameters and arrays."""
        write_json(folder, "state", {"parameters": parameters_of(self), "columns": self.columns_})
        if self.projection_:
            self.projection_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**state["parameters"])
        encoder.columns_ = tuple(state["columns"])
        encoder.projection_ = Projection.load(folder) if (folder / "center.npy").exists() else None
        return encoder


def read_image(path: Path) -> Image.Image:
    """Read a file as a 64 x 64 RGB image; raises whatever the decoder raises for a broken one."""
    from PIL import Image

    with Image.open(path) as image:
        # JPEG files are decoded at a reduced size that is still above twice the wanted one.
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        opaque: Image.Image = image
        if image.has_transparency_data:
            coloured = image.convert("RGBA")
            opaque = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
        return opaque.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)


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
