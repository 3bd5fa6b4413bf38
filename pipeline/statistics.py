"""Mean picture and principal colours of the training pictures, exact in any order of tasks."""

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from pipeline.manifest import Colour


@dataclass
class Sums:
    """Sums over pictures: integers, so that no order or grouping changes a bit."""

    pictures: int
    pixel_SS3: np.ndarray
    """(size, size, 3)."""
    product_33: np.ndarray
    """int64, sum over all pixels of channel i times channel j."""

    @classmethod
    def zero(cls, size: int, dtype: type[np.integer] = np.int64) -> "Sums":
        """`dtype` is that of the sum of pixels: uint32 is enough, and faster, for 16 million."""
        return cls(0, np.zeros((size, size, 3), dtype), np.zeros((3, 3), np.int64))

    def add(self, picture_SS3: np.ndarray) -> None:
        """One uint8 picture."""
        self.pictures += 1
        self.pixel_SS3 += picture_SS3
        # Row by row these sums are whole numbers that float32 holds, up to 258 pixels; einsum
        # takes a third of the time of a matrix product with so few rows.
        dtype = np.float32 if len(picture_SS3) * 255**2 < 2**24 else np.float64
        channel_3SS = np.ascontiguousarray(picture_SS3.transpose(2, 0, 1), dtype)
        for one, other in combinations_with_replacement(range(3), 2):
            row_S = np.einsum("ij,ij->i", channel_3SS[one], channel_3SS[other])
            self.product_33[[one, other], [other, one]] += int(row_S.sum(dtype=np.float64))

    def merge(self, other: "Sums") -> None:
        self.pictures += other.pictures
        self.pixel_SS3 += other.pixel_SS3
        self.product_33 += other.product_33

    def mean_picture(self) -> np.ndarray:
        """(size, size, 3) float32, 0..255 (§2)."""
        return (self.pixel_SS3 / self.pictures).astype(np.float32)

    def colour(self) -> Colour:
        """Mean and principal components of RGB over all pixels (§4.1)."""
        pixels = self.pictures * self.pixel_SS3.shape[0] * self.pixel_SS3.shape[1]
        mean_3 = self.pixel_SS3.sum(axis=(0, 1)) / pixels
        covariance_33 = self.product_33 / pixels - np.outer(mean_3, mean_3)
        eigenvalue_3, eigenvector_33 = np.linalg.eigh(covariance_33)
        # An eigenvector's sign is the library's whim, and so are its last digits.
        largest_3 = np.abs(eigenvector_33).argmax(axis=0)
        eigenvector_33 = eigenvector_33 * np.sign(eigenvector_33[largest_3, range(3)])
        return Colour(
            mean=tuple(mean_3.round(6).tolist()),
            eigenvalues=tuple(eigenvalue_3.clip(min=0).round(6).tolist()),
            eigenvectors=tuple(map(tuple, eigenvector_33.round(9).tolist())),
        )
