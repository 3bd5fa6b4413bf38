"""Mean picture and principal colours of the training pictures, exact in any order of tasks."""

from dataclasses import dataclass

import numpy as np

from pipeline.manifest import Colour


@dataclass
class Sums:
    """Sums over pictures: integers, so that no order or grouping changes a bit."""

    pictures: int
    pixel_SS3: np.ndarray
    """int64, (size, size, 3)."""
    product_33: np.ndarray
    """int64, sum over all pixels of channel i times channel j."""

    @classmethod
    def zero(cls, size: int) -> "Sums":
        return cls(0, np.zeros((size, size, 3), np.int64), np.zeros((3, 3), np.int64))

    def add(self, picture_SS3: np.ndarray) -> None:
        """One uint8 picture."""
        self.pictures += 1
        self.pixel_SS3 += picture_SS3
        # Exact in float64: a picture's sum of products is below 2^53 up to 370,000 x 370,000.
        # Nine dot products: BLAS has nothing faster for a matrix of three long rows.
        channel_3P = picture_SS3.reshape(-1, 3).T.astype(np.float64, order="C")
        self.product_33 += np.array([[a @ b for b in channel_3P] for a in channel_3P], np.int64)

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
