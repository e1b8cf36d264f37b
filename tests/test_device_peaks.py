"""Peaks of GPUs by the names that torch reports."""

import pytest
import torch

from mae_toolkit.device_peaks import PEAKS, find_peak


@pytest.mark.parametrize(
    ('reported', 'name'),
    [
        ('NVIDIA H200', 'H200'),
        ('NVIDIA H200 NVL', 'H200-NVL'),
        ('NVIDIA H100 80GB HBM3', 'H100-SXM'),
        ('NVIDIA H100 PCIe', 'H100-PCIE'),
        ('NVIDIA A100-SXM4-40GB', 'A100-SXM-40GB'),
        ('A100-SXM4-80GB', 'A100-SXM-80GB'),
        ('NVIDIA A100 80GB PCIe', 'A100-PCIE-80GB'),
        ('NVIDIA A10', 'A10'),
        ('NVIDIA L40S', 'L40S'),
        ('NVIDIA L40', 'L40'),
        ('Tesla V100-SXM2-32GB', 'V100-SXM2-32GB'),
        ('Tesla T4', 'T4'),
        ('NVIDIA GeForce RTX 4090', 'RTX-4090'),
        ('AMD Instinct MI300X', 'MI300X'),
        ('h200', 'H200'),
    ],
)
def test_gpus_are_found_by_the_name_that_torch_reports(reported, name):
    assert find_peak(reported).name == name


@pytest.mark.parametrize(
    'reported',
    [
        'NVIDIA A100-SXM4-40GB MIG 1g.5gb',
        'NVIDIA GeForce RTX 4090 Laptop GPU',
        'NVIDIA GeForce RTX 4090 D',
        'GeForce',
        '',
    ],
)
def test_other_gpus_and_slices_of_one_are_unknown(reported):
    assert find_peak(reported) is None


def test_rates_by_type():
    h200, v100 = find_peak('H200'), find_peak('V100-SXM2-16GB')
    assert h200.flops_per_second(torch.bfloat16) == h200.flops_per_second('float16') == 989.5e12
    assert h200.flops_per_second(torch.float32) == 67e12
    assert h200.flops_per_second(torch.float32, allow_tf32=True) == 494.5e12
    assert v100.flops_per_second('float32', allow_tf32=True) == 15.7e12
    assert v100.flops_per_second('bfloat16') is None
    assert h200.flops_per_second('float64') is None
    assert h200.link_bandwidth == 450e9  # in one direction


def test_every_gpu_is_found_by_its_own_words_and_short_name():
    for peak in PEAKS:
        assert find_peak(' '.join(peak.words)) is find_peak(peak.name) is peak
    assert all(peak.float32 <= (peak.tf32 or peak.float16) <= peak.float16 for peak in PEAKS)
