"""Two towers on two workers: model parallelism as in 2012, beside data parallelism over pairs.

Each worker of a pair holds half the kernels of every layer, half of fc6 and of fc7, and sees all
of the pair's images. They meet where layers-145.cfg of the released code lets them: for conv3,
fc6 and fc7 each takes the other's half; fc8, softmax and cost live on tower 0 alone. What a pair
learns is what one worker with both towers would.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from alexnet.model import AlexNet, AlexNetConfig
from trainer.loop.parallel import Named, averaged, freeze
from trainer.run import RunError

PAIR = 2
"""The number of workers that hold one network."""
BOTH = ("conv3", "conv6", "fc6", "fc7")
"""Layers that see both towers, where the network has them and links; the sixth as in config 146."""
LAST = "fc8"
"""The layer that is whole, on tower 0."""


def check(network: AlexNetConfig, workers: int) -> None:
    """Refuse, with RunError, a `network` that `workers` cannot train in pairs."""
    if network.towers != PAIR:
        raise RunError(
            f"--parallelism towers needs a network with two towers, but this one has "
            f"{network.towers}; choose a recipe with two, or --parallelism data"
        )
    if network.norm_across_towers:
        raise RunError(
            "--parallelism towers cannot train a network with network.norm_across_towers, whose "
            "normalisation reads both towers; use --parallelism data"
        )
    if workers < PAIR or workers % PAIR:
        raise RunError(
            f"--parallelism towers needs an even number of --workers, not {workers}; "
            "change it, or use --parallelism data"
        )


def split(named: Named, tower: int) -> Named:
    """The share of `tower` in a whole network's weights or velocity: views, by the same names.

    Output units come first in every weight and bias, tower 0's before tower 1's.
    """
    return {
        name: whole if _is_last(name) else whole.chunk(PAIR)[tower]
        for name, whole in named.items()
        if tower == 0 or not _is_last(name)
    }


def join(first: Named, second: Named) -> Named:
    """The inverse of `split`, bit for bit."""
    return {
        name: share if _is_last(name) else torch.cat([share, second[name]])
        for name, share in first.items()
    }


def _is_last(parameter: str) -> bool:
    return parameter.startswith(f"{LAST}.")


class Towers:
    """A worker's place among pairs: which rows of the batch it sees, and which tower it holds.

    Worker r is tower r % 2 of pair r // 2; its rows of each batch are those of its pair.
    """

    def __init__(self, whole: AlexNet, *, compress: bool) -> None:
        """Take this worker's share of `whole`, which stays as it is, on the same device; gradients
        travel between pairs as bfloat16 if `compress`.

        Every worker of an initialised process group does this at once. Raises RunError where they
        do not make pairs, or the network is not of two towers.
        """
        check(whole.config, distributed.get_world_size())
        self.count = distributed.get_world_size() // PAIR
        device = whole.fc8.weight.device.type
        mesh = init_device_mesh(device, (self.count, PAIR), mesh_dim_names=("data", "tower"))
        self.index, self.tower = mesh.get_local_rank("data"), mesh.get_local_rank("tower")
        self.link = Link(self.tower, mesh.get_group("tower"))
        self._group, self._compress = mesh.get_group("data"), compress
        self.module: nn.Module = Tower(whole, self.link)
        self.model = self._averaged()

    @property
    def counts(self) -> bool:
        return self.tower == 0

    def freeze(self, *layers: str) -> None:
        if freeze(self.module, *layers):
            self.model = self._averaged()

    def own(self, whole: Named) -> Named:
        return split(whole, self.tower)

    def gather(self, own: Named) -> Named:
        """The whole of what the two workers of a pair hold, on the CPU; both call it at once."""
        shares: list[Named] = [{}, {}]
        mine = {name: share.detach().cpu() for name, share in own.items()}
        distributed.all_gather_object(shares, mine, group=self.link.group)
        return join(*shares)

    def _averaged(self) -> nn.Module:
        return averaged(self.module, self.count, self._group, compress=self._compress)


class Link:
    """What passes between the towers of a pair, and how much of it."""

    def __init__(self, tower: int, group: distributed.ProcessGroup) -> None:
        self.tower = tower
        self.group = group
        self.sent_bytes: Counter[str] = Counter()
        """Layer -> what this worker has sent for it so far, forward and backward."""

    def swap(self, layer: str, half: Tensor) -> Tensor:
        """Give (N, C, ...), get the partner's of the same shape, dtype and memory format."""
        # Channels last, as the network keeps its maps: then nothing is copied on the way out.
        outgoing = half.movedim(1, -1).contiguous()
        incoming = torch.empty_like(outgoing)
        self._post(layer, outgoing, incoming)
        return incoming.movedim(-1, 1)

    def send(self, layer: str, half_NH: Tensor) -> None:
        self._post(layer, half_NH.contiguous(), None)

    def receive(self, layer: str, like_NH: Tensor) -> Tensor:
        """What the partner sends, of the shape and dtype of `like_NH`."""
        incoming_NH = torch.empty_like(like_NH, memory_format=torch.contiguous_format)
        self._post(layer, None, incoming_NH)
        return incoming_NH

    def _post(self, layer: str, outgoing: Tensor | None, incoming: Tensor | None) -> None:
        operations = []
        for act, tensor in ((distributed.isend, outgoing), (distributed.irecv, incoming)):
            if tensor is not None:
                partner = 1 - self.tower
                operations.append(
                    distributed.P2POp(act, tensor, group=self.group, group_peer=partner)
                )
        if outgoing is not None:
            self.sent_bytes[layer] += outgoing.nbytes
        for work in distributed.batch_isend_irecv(operations):
            work.wait()


class BothTowers(torch.autograd.Function):
    """What conv3, fc6 and fc7 see: this tower's half and the other's, (N, C, ...) -> (N, 2 C, ...).

    Backward, each tower has the gradient of the whole through its own kernels: it gives away the
    other's half of it and adds what comes back to its own.
    """

    @staticmethod
    def forward(ctx: Any, half: Tensor, link: Link, layer: str) -> Tensor:
        ctx.link, ctx.layer = link, layer
        other = link.swap(layer, half)
        return torch.cat((half, other) if link.tower == 0 else (other, half), dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        halves = gradients[0].chunk(PAIR, dim=1)
        link: Link = ctx.link
        return halves[link.tower] + link.swap(ctx.layer, halves[1 - link.tower]), None, None


class FirstTower(torch.autograd.Function):
    """What fc8 sees on tower 0: both halves of fc7, (N, H) -> (N, 2 H).

    On tower 1 there is no fc8. Its logits are zeros, (N, K), so that the same loss can be written
    for both; what comes back through them is dropped for the gradient that tower 0 sends.
    """

    @staticmethod
    def forward(ctx: Any, half_NH: Tensor, link: Link, classes: int) -> Tensor:
        ctx.link = link
        if link.tower == 0:
            return torch.cat((half_NH, link.receive(LAST, half_NH)), dim=1)
        link.send(LAST, half_NH)
        ctx.half_NH = torch.empty_like(half_NH)
        return half_NH.new_zeros(len(half_NH), classes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        link: Link = ctx.link
        if link.tower == 1:
            return link.receive(LAST, ctx.half_NH), None, None
        own_NH, other_NH = gradients[0].chunk(PAIR, dim=1)
        link.send(LAST, other_NH)
        return own_NH, None, None


class Tower(AlexNet):
    """One tower of a whole network: its forward pass, over half the units of every layer.

    (N, 3, crop, crop) -> (N, classes): logits on tower 0, zeros on tower 1.
    """

    def __init__(self, whole: AlexNet, link: Link) -> None:
        with torch.device("meta"):
            super().__init__(whole.config)
            for name, layer in list(self.named_children()):
                if name != LAST and (half := half_of(layer)) is not None:
                    self.add_module(name, half)
        if link.tower == 1:
            self.add_module(LAST, nn.Identity())
        shares = split(whole.state_dict(), link.tower)
        self.load_state_dict({name: t.clone() for name, t in shares.items()}, assign=True)
        self.config = whole.config.model_copy(update={"towers": 1})  # as its LRN sees it
        self.dropout.tower = (link.tower, PAIR)
        for name in BOTH if whole.config.ablation.links else ():
            if (layer := getattr(self, name)) is not None:
                layer.register_forward_pre_hook(
                    lambda _, inputs, name=name: BothTowers.apply(inputs[0], link, name)
                )
        self.fc8.register_forward_pre_hook(
            lambda _, inputs: FirstTower.apply(inputs[0], link, whole.config.classes)
        )


def half_of(layer: nn.Module) -> nn.Module | None:
    """A layer with one tower's units; None for what has no units of its own."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features // PAIR)
    if isinstance(layer, nn.Conv2d):
        return type(layer)(
            layer.in_channels // layer.groups,
            layer.out_channels // PAIR,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
        )
    return None
