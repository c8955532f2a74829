"""A model's fingerprint: sha256 over the names, shapes, dtypes and bytes of its live weights.

Tensors are hashed one by one in a few threads (hashing releases the interpreter lock), and the fingerprint is the hash of
their hashes in the order of their names. Tied weights count once, under each of their names.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

THREADS = 4


def fingerprint(module: nn.Module) -> str:
    """sha256 (64 hex digits) of all parameters and persistent buffers, computed anew at each call."""
    tensors = dict(sorted(module.state_dict().items()))
    unique = {tensor.data_ptr(): tensor for tensor in tensors.values()}
    with ThreadPoolExecutor(THREADS) as pool:
        digest_of = dict(zip(unique, pool.map(_digest, unique.values()), strict=True))
    whole = hashlib.sha256()
    for name, tensor in tensors.items():
        whole.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode() + digest_of[tensor.data_ptr()])
    return whole.hexdigest()


def _digest(tensor: torch.Tensor) -> bytes:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(data.numpy().data).digest()
