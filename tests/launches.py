"""Counts what would launch on a GPU, while it runs on a processor."""

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

NONE = ("empty", "new_empty", "detach", "promote_types", "_record_function")
"""Operations, by the beginnings of their names, that compute nothing on the device."""


class Launches(TorchDispatchMode):
    """Within the block, torch's operations other than views and allocations, by name. Some take
    several launches, as a convolution's backward pass does; they count as one."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        returned = [value.alias_info for value in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in returned)
        if not view and not name.startswith(NONE):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))
