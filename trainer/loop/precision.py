"""In which numbers the network multiplies."""

import torch


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass in `precision` on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` -> what this hardware is fastest in; emulated bfloat16 is slower by far."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can = torch.cpu.get_capabilities()
        native = bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return "bf16" if native else "fp32"
