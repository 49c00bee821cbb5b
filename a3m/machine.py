"""On what a trial trained: its device by the name that the machine gives it."""

import platform
from pathlib import Path


def device(kind: str, threads: int) -> str:
    """'cuda (NVIDIA A100-SXM4-40GB)' or 'cpu (AMD EPYC 7B13, 1 thread)'. Call it after training: it asks CUDA."""
    if kind == "cuda":
        import torch

        return f"cuda ({torch.cuda.get_device_name()})"
    return f"{kind} ({processor()}, {threads} thread{'s' * (threads != 1)})"


def processor() -> str:
    """The processor's model as Linux names it; elsewhere what Python knows of it, such as 'arm64'."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, named), platform.processor() or platform.machine())
