"""Where a run stands: weights, velocity, and three integers that name the next sample."""

from dataclasses import dataclass
from pathlib import Path

import torch

from alexnet.model import AlexNet
from trainer.config import Run, RunError
from trainer.optimizer import SGD2012

FILE = "state.pt"


@dataclass
class State:
    model: AlexNet
    optimizer: SGD2012
    epoch: int = 0
    position: int = 0
    """Samples of this epoch that have been learnt from."""
    step: int = 0

    @classmethod
    def begin(cls, run: Run, device: torch.device) -> "State":
        """A network as initialised in 2012; the same for the same seed, on every worker."""
        recipe = run.recipe
        torch.manual_seed(recipe.seed)
        # On the CPU first: a GPU would draw other numbers.
        model = AlexNet(recipe.network).to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        )
        optimizer = SGD2012(model, recipe.rates[0][1], recipe.momentum, recipe.weight_decay)
        return cls(model, optimizer)

    def save(self, directory: Path) -> None:
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "position": self.position,
                "step": self.step,
            },
            directory / FILE,
        )

    def restore(self, directory: Path) -> None:
        saved = read(directory)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.epoch, self.position, self.step = (
            saved[name] for name in ("epoch", "position", "step")
        )


def read(directory: Path) -> dict:
    """What `State.save` wrote, on the CPU."""
    try:
        return torch.load(directory / FILE, map_location="cpu", weights_only=True)
    except Exception as error:  # a cut or altered archive raises almost anything
        raise RunError(
            f"{directory / FILE}: cannot be read ({error}); remove that checkpoint's directory "
            "to go on from the one before it, or the run to begin again"
        ) from error
