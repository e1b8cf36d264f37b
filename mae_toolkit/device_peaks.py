"""Peak rates, memory and bandwidths of GPUs from their vendors' data sheets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

TERA, GIGA = 1e12, 1e9
# Words of names that contain another GPU's: a slice of it, or a slower one.
OTHERS = {'mig', 'laptop', 'max', 'd'}


@dataclass(frozen=True)
class DevicePeak:
    """What a GPU reaches at best, without sparsity.

    Attributes:
        name: Short name, such as ``'A100-SXM-80GB'``.
        words: Words of the name that torch reports, all of which belong to this GPU.
        float32: FLOP/s of float32 outside tensor cores.
        tf32: FLOP/s of float32 on tensor cores; None where the GPU has no such type.
        float16: FLOP/s of float16 with sums in float32, on tensor cores.
        bfloat16: FLOP/s of bfloat16 with sums in float32; None where tensor cores do not have it.
        memory: Bytes of memory, as the data sheet states them (10**9 per GB).
        memory_bandwidth: Bytes per second between memory and cores.
        link_bandwidth: Bytes per second in one direction to the other GPUs of a node: half of the total that data
            sheets of NVLink, Infinity Fabric and PCI Express state.
        source: Title of the data sheet.
    """

    name: str
    words: tuple[str, ...]
    float32: float
    tf32: float | None
    float16: float
    bfloat16: float | None
    memory: float
    memory_bandwidth: float
    link_bandwidth: float
    source: str

    def flops_per_second(self, dtype: Any = 'bfloat16', allow_tf32: bool = False) -> float | None:
        """Return the peak rate of matrix products in a type.

        Args:
            dtype: A type of torch or its name: ``'float32'``, ``'float16'`` or ``'bfloat16'``.
            allow_tf32: Whether float32 may be multiplied on tensor cores, as
                ``torch.backends.cuda.matmul.allow_tf32`` says.

        Returns:
            FLOP/s; None for a type whose rate is not listed.
        """
        name = str(dtype).removeprefix('torch.')
        if name == 'float32':
            return self.tf32 if allow_tf32 and self.tf32 else self.float32
        return {'float16': self.float16, 'bfloat16': self.bfloat16}.get(name)


def _peak(
    name: str,
    words: str,
    rates: tuple[float, float | None, float, float | None],
    memory: float,
    memory_bandwidth: float,
    total_link: float,
    source: str,
) -> DevicePeak:
    """Write down a GPU in the units of data sheets: TFLOP/s, GB, GB/s, GB/s in both directions together."""
    single, tf32, half, brain = (rate and rate * TERA for rate in rates)
    assert single and half
    bandwidths = memory_bandwidth * GIGA, total_link / 2 * GIGA
    return DevicePeak(name, tuple(words.split()), single, tf32, half, brain, memory * GIGA, *bandwidths, source)


_A100 = 'NVIDIA A100 Tensor Core GPU data sheet'
_H100 = 'NVIDIA H100 Tensor Core GPU data sheet'
_H200 = 'NVIDIA H200 Tensor Core GPU data sheet'
_GA102 = 'NVIDIA Ampere GA102 GPU architecture white paper'
_ADA = 'NVIDIA Ada GPU architecture white paper'

# Rates of float32, TF32, float16 and bfloat16. Where a data sheet states rates with sparsity, these are their halves.
PEAKS = (
    _peak('T4', 'tesla t4', (8.1, None, 65, None), 16, 320, 32, 'NVIDIA T4 data sheet'),
    _peak('V100-SXM2-16GB', 'v100 sxm2 16gb', (15.7, None, 125, None), 16, 900, 300, 'NVIDIA V100 data sheet'),
    _peak('V100-SXM2-32GB', 'v100 sxm2 32gb', (15.7, None, 125, None), 32, 900, 300, 'NVIDIA V100 data sheet'),
    _peak('V100-PCIE-16GB', 'v100 pcie 16gb', (14, None, 112, None), 16, 900, 32, 'NVIDIA V100 data sheet'),
    _peak('V100-PCIE-32GB', 'v100 pcie 32gb', (14, None, 112, None), 32, 900, 32, 'NVIDIA V100 data sheet'),
    _peak('A10', 'a10', (31.2, 62.5, 125, 125), 24, 600, 64, 'NVIDIA A10 data sheet'),
    _peak('A30', 'a30', (10.3, 82, 165, 165), 24, 933, 200, 'NVIDIA A30 data sheet'),
    _peak('A40', 'a40', (37.4, 74.8, 149.7, 149.7), 48, 696, 112.5, 'NVIDIA A40 data sheet'),
    _peak('A100-SXM-40GB', 'a100 sxm4 40gb', (19.5, 156, 312, 312), 40, 1555, 600, _A100),
    _peak('A100-SXM-80GB', 'a100 sxm4 80gb', (19.5, 156, 312, 312), 80, 2039, 600, _A100),
    _peak('A100-PCIE-40GB', 'a100 pcie 40gb', (19.5, 156, 312, 312), 40, 1555, 64, _A100),
    _peak('A100-PCIE-80GB', 'a100 pcie 80gb', (19.5, 156, 312, 312), 80, 1935, 64, _A100),
    _peak('RTX-A6000', 'rtx a6000', (38.7, 77.4, 154.8, 154.8), 48, 768, 112.5, _GA102),
    _peak('RTX-3090', 'rtx 3090', (35.6, 35.6, 71, 71), 24, 936, 112.5, _GA102),
    _peak('RTX-4090', 'rtx 4090', (82.6, 82.6, 165.2, 165.2), 24, 1008, 64, _ADA),
    _peak('RTX-5090', 'rtx 5090', (104.8, 104.8, 209.5, 209.5), 32, 1792, 128, 'NVIDIA RTX Blackwell white paper'),
    _peak('L4', 'l4', (30.3, 60, 121, 121), 24, 300, 64, 'NVIDIA L4 data sheet'),
    _peak('L40', 'l40', (90.5, 90.5, 181, 181), 48, 864, 64, 'NVIDIA L40 data sheet'),
    _peak('L40S', 'l40s', (91.6, 183, 362, 362), 48, 864, 64, 'NVIDIA L40S data sheet'),
    _peak('H100-SXM', 'h100 80gb hbm3', (67, 494.5, 989.5, 989.5), 80, 3350, 900, _H100),
    _peak('H100-PCIE', 'h100 pcie', (51, 378, 756.5, 756.5), 80, 2000, 600, 'NVIDIA H100 PCIe data sheet'),
    _peak('H100-NVL', 'h100 nvl', (60, 417.5, 835.5, 835.5), 94, 3900, 600, _H100),
    _peak('H200', 'h200', (67, 494.5, 989.5, 989.5), 141, 4800, 900, _H200),
    _peak('H200-NVL', 'h200 nvl', (60, 417.5, 835.5, 835.5), 141, 4800, 900, _H200),
    _peak('B200', 'b200', (75, 1125, 2250, 2250), 180, 8000, 1800, 'NVIDIA DGX B200 data sheet'),
    _peak('MI300X', 'mi300x', (163.4, 653.7, 1307.4, 1307.4), 192, 5300, 896, 'AMD Instinct MI300X data sheet'),
    _peak('MI325X', 'mi325x', (163.4, 653.7, 1307.4, 1307.4), 256, 6000, 896, 'AMD Instinct MI325X data sheet'),
)


def find_peak(device_name: str) -> DevicePeak | None:
    """Find a GPU by the name that ``torch.cuda.get_device_properties(0).name`` reports, or by its short name.

    >>> find_peak('NVIDIA A100-SXM4-80GB').name
    'A100-SXM-80GB'

    Returns:
        None for a GPU that is not listed, and for a slice of one (MIG), which has a part of its rates.
    """
    words = set(re.split(r'[^a-z0-9]+', device_name.lower()))
    for peak in PEAKS:
        if device_name.lower() == peak.name.lower():
            return peak
    if words & OTHERS:
        return None
    found = [peak for peak in PEAKS if words >= set(peak.words)]
    return max(found, key=lambda peak: len(peak.words), default=None)
