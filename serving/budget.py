"""How a server process divides the memory that it is granted."""

from collections.abc import Sequence

from alexnet import checkpoint
from alexnet.checkpoint import About
from alexnet.predictor import default_device, pass_bytes
from serving import memory
from serving.settings import Settings

PROCESS_BYTES = {"cpu": 350 * 2**20, "cuda": 4 * 2**30}
"""A server process without a model: measured on a CPU, and allowed for CUDA's libraries and pinned
memory."""
DECODER_BYTES = 60 * 2**20
"""A decoder process that has nothing to do."""
CONNECTION_BYTES = 2**17
"""What one connection's head, and what it has not read or written, may take."""
WEIGHT_BYTES, COPIES = 4, 3
"""Of each parameter: in the model that answers, and twice in one that is being loaded."""
PARSED = 4
"""Copies of one upload that taking its images out of it makes; one is parsed at a time."""
LEAST_BYTES = 2**27
"""For images; with less no model is taken."""
BODIES_AT_ONCE, BODIES_SHARE = 16, 4
"""Uploads of the largest size that are held together, unless they would take more than one part in
so many of what there is for images."""


class Budget:
    """Of one server process; in bytes.

    What images take comes last: `bodies` for uploads, and `decoding` for those that are decoded.
    """

    def __init__(self, settings: Settings) -> None:
        self.total = (settings.memory or memory.granted_bytes()) // settings.workers
        self._largest_body = settings.max_upload_bytes
        self._lanes = settings.lanes
        self._base = (
            PROCESS_BYTES[default_device().type]
            + settings.decoder_processes * DECODER_BYTES
            + settings.max_connections * CONNECTION_BYTES
            + PARSED * self._largest_body
        )

    def without_images(self, abouts: Sequence[About]) -> int:
        """What the process takes with this model before it sees an image."""
        parameters = sum(checkpoint.parameters(about.network) for about in abouts)
        passes = self._lanes * max(map(pass_bytes, abouts), default=0)
        return self._base + COPIES * WEIGHT_BYTES * parameters + passes

    def is_enough(self, abouts: Sequence[About]) -> bool:
        return self.total - self.without_images(abouts) >= LEAST_BYTES

    def bodies(self, abouts: Sequence[About]) -> int:
        images = self.total - self.without_images(abouts)
        share = max(self._largest_body, images // BODIES_SHARE)
        return min(BODIES_AT_ONCE * self._largest_body, share)

    def decoding(self, abouts: Sequence[About]) -> int:
        return max(0, self.total - self.without_images(abouts) - self.bodies(abouts))
