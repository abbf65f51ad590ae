"""The step on a GPU: over its bound by type and layout, kernel times, memory, and host synchronisations.

Without a GPU this part says so and measures nothing. It is written to be run as it stands on a machine that has one:
``python -m benchmarks gpu --json docs/results/performance.json``. :func:`figures_on` also runs on a CPU, which is how
its tests run it.
"""

from __future__ import annotations

import time

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness import Run, Tell, interleaved, ratio, seconds
from benchmarks.record import Figure, Part, figure
from benchmarks.step import FORMATS, HookedSocket, Step, bound_step, naive_step, product_step
from benchmarks.subjects import RESNET50, TINY, Subject

PRECISIONS = ("float32", "bfloat16")
"""Of backbones; float32 multiplies in TF32 where PyTorch is set so."""

NOT_MEASURED = "no GPU: not measured"


def clock(device: torch.device) -> float:
    """Seconds, once all kernels have ended; the host's CPU time would not see them."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def figures_on(device: torch.device, subject: Subject, rounds: int, tell: Tell) -> list[Figure]:
    """All ratios on one device."""
    arms: dict[str, Step] = {}
    for name in PRECISIONS:
        for layout, memory_format in FORMATS.items():
            half = name == "bfloat16"
            arms[f"bound, {name}, {layout}"] = bound_step(subject, memory_format, half=half, device=device)
            arms[f"SOCKET, {name}, {layout}"] = product_step(subject, memory_format, half=half, device=device)
            hooks = product_step(subject, memory_format, HookedSocket, half=half, device=device)
            arms[f"hooks, {name}, {layout}"] = hooks
    arms["first implementation"] = naive_step(subject, device)
    taken = interleaved(arms, rounds, clock=lambda: clock(device), tell=tell)
    figures, nchw = [], "bound, float32, NCHW"
    for arm in arms:
        if arm.startswith("bound"):
            figures.append(figure(f"{subject}: {arm}", seconds(taken, arm), "ms", scale=1e3))
        else:
            own = arm.replace("SOCKET", "bound").replace("hooks", "bound") if "," in arm else nchw
            figures.append(figure(f"{subject}: {arm}", ratio(taken, arm, own), "x", own))
    return figures


def kernels(step: Step, count: int = 12) -> list[str]:
    """The kernels that a step spends most time in, one line each."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        step()
        torch.cuda.synchronize()
    events = [e for e in found.key_averages() if e.self_device_time_total > 0]
    events.sort(key=lambda e: -e.self_device_time_total)
    total = sum(e.self_device_time_total for e in events)
    shown = [f"{e.self_device_time_total / 1e3:.2f} ms in {e.count} calls of {e.key[:90]}" for e in events[:count]]
    return [f"kernels of a step, {total / 1e3:.2f} ms in all:", *shown]


def waits(step: Step) -> str:
    """Whether a step makes the host wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return f"a step waits for the GPU: {str(error).splitlines()[0]}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "a step does not wait for the GPU"


def measure(run: Run) -> Part:
    """ResNet-50 at 224 px on the first GPU; quick: the tiny network."""
    if not torch.cuda.is_available():
        return Part({}, [], [NOT_MEASURED])
    device, subject, rounds = torch.device("cuda"), TINY if run.quick else RESNET50, run.rounds(31, quick=3)
    figures = figures_on(device, subject, rounds, run.tell)
    step = product_step(subject, torch.channels_last, half=True, device=device)
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    figures.append(Figure(f"{subject}: peak", torch.cuda.max_memory_allocated() / 2**20, "MB", "of the step's device"))
    settings = {"device": torch.cuda.get_device_name(0), "batch": "32 TR + 32 TI", "rounds": rounds}
    settings |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    settings["tf32"] = f"convolutions {torch.backends.cudnn.allow_tf32}, matmul {torch.backends.cuda.matmul.allow_tf32}"
    return Part(settings, figures, [waits(step), "bfloat16, channels last:", *kernels(step)])
