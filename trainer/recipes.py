"""The recipes that have a name."""

from collections.abc import Callable

from alexnet.config import AlexNetConfig
from trainer.recipe import Recipe
from trainer.schedule import Cosine, Fixed


def paper() -> Recipe:
    """§5 with the schedule, colour and conv1 of the author's later config 170, which does by the
    clock what he had done by hand: noise off at epoch 68 of 95, conv1 frozen at 74."""
    return Recipe(
        name="paper",
        network=AlexNetConfig(),
        size=256,
        epochs=90,
        schedule=Fixed(),
        colour_until=68 / 95,
        conv1_until=74 / 95,
    )


def fast() -> Recipe:
    """`paper` at four times the batch and the learning rate, after a warm-up, in 16 bits: fewer,
    fuller steps.

    Twice the batch at twice the learning rate matched the author's own run
    (layer-params-170-256-double.cfg).
    """
    changes = {"name": "fast", "batch": 512, "rate": 0.04, "warmup": 5, "gradients": "bf16"}
    return paper().model_copy(update=changes)


def small() -> Recipe:
    """Half the width on 144 of 160 pixels: minutes on a laptop for ten thousand images.

    So few steps need a batch of 64, at the full learning rate, and half a cosine instead of drops.
    """
    return Recipe(
        name="small",
        network=AlexNetConfig(width=0.5, crop=144),
        size=160,
        batch=64,
        epochs=12,
        schedule=Cosine(),
        colour_until=68 / 95,
        conv1_until=74 / 95,
    )


def finetune() -> Recipe:
    """What a model has learnt, for other classes of which there are some hundred photographs.

    The author brought his networks for Fall 2011 to ILSVRC-2012 at 0.001 where weights were taken
    over and 0.0001 for conv1, with two drops and conv1 frozen after 13 % of the run
    (layer-params-146-2012-2011.cfg): classes of which the network had seen most, and 1.2 million
    images. From a network of seven classes, on photographs of three others, that gained little over
    training from scratch, and lost with 200 a class. So here all of these layers learn at 0.005 and
    the learning rate falls by half a cosine; noise and conv1 are as in `small`.

    His fc8 learnt at 0.01, among 1,000 classes. Gradient descent with momentum m swings further and
    further where the learning rate exceeds 2 (1 + m) over the curvature. That of fc8 is the mean
    square length of its input times the largest eigenvalue of diag(p) - p p', which is 1/K for K
    classes that are equally likely. Of a network of full width that has hardly been trained the
    first is some 1,900, so three classes bear 0.006: at 0.01 the loss went from 1.4 to 14.8, and
    stayed above that of a guess for 60 steps. 0.002 leaves room for two classes.

    He had 1.2 million images. Of some hundred a batch of 128 would make a handful of steps an
    epoch: 32 make four times as many. Of 30 photographs 30 epochs are 30 steps, too few for fc8,
    which starts from nothing; so there are at least 200.
    """
    taken_over = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    return Recipe(
        name="finetune",
        network=AlexNetConfig(),
        size=256,
        batch=32,
        epochs=30,
        least_steps=200,
        rate=0.002,
        layer_rates=dict.fromkeys(taken_over, 2.5),
        schedule=Cosine(),
        colour_until=68 / 95,
        conv1_until=74 / 95,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "paper": paper,
    "fast": fast,
    "small": small,
    "finetune": finetune,
}
