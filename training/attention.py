"""Which attention kernels training may use."""

from __future__ import annotations


def avoid_cudnn_attention() -> None:
    """Keep torch from choosing cuDNN's attention, in this process.

    From torch 2.11 on it is the default on Hopper GPUs, and given a mask its backward pass can return NaN
    where the padded length is 64 more than a multiple of 128 (pytorch/pytorch#196678). A batch of 320
    tokens ended an SFT of a 1.5B student so, with a loss that was still finite (docs/log.md). Torch's own
    memory-efficient kernel takes its place.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)
