"""Write a plan as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def report(plan: Mapping[str, Any]) -> str:
    """Write what :func:`~mae_toolkit.planning.cluster.plan.make_plan` returned, for a terminal."""
    return '\n'.join([*_describe_step(plan), *_describe_training(plan), *_describe_scaling(plan), _assumptions(plan)])


def _describe_step(plan: Mapping[str, Any]) -> list[str]:
    memory, step = plan['memory'], plan['step']
    height, width = plan['size']
    compiled = ', compiled' if plan['compiled'] else ''
    with_cp = ''
    if plan['memory_with_cp']:
        with_cp = f'; with_cp=True: {plan["memory_with_cp"]:.1f} GB, {plan["largest_batch_with_cp"]}'
    parts = ', '.join(f'{name} {memory[name]:.1f}' for name in memory if name != 'total' and memory[name])
    return [
        f'{plan["gpus"]} x {plan["device"]}, {plan["engine"]}, {plan["dtype"]}{compiled}: {plan["batch"]} images of '
        f'{height} x {width} per GPU, {plan["total_batch"]} per step',
        f'model         {plan["parameters"] / 1e6:.1f} M parameters, {plan["gflop_per_image"]:.1f} GFLOP per image and '
        'training step',
        f'memory        {memory["total"]:.1f} GB of {plan["memory_of_gpu"]:.0f} ({parts})',
        f'largest batch {plan["largest_batch"]} per GPU{with_cp}',
        f'step          {step["total"] * 1e3:.1f} ms: compute {step["compute"] * 1e3:.1f}, data '
        f'{step["data"] * 1e3:.1f}, traffic {step["traffic"] * 1e3:.1f} of which {step["exposed"] * 1e3:.1f} exposed',
        f'speed         {plan["images_per_second"]:.0f} images/s, {100 * plan["share_of_peak"]:.0f} % of the peak',
    ]


def _describe_training(plan: Mapping[str, Any]) -> list[str]:
    rate, checkpoint, reads = plan['learning_rate'], plan['checkpoint'], plan['reads']
    cost = '' if plan['cost'] is None else f', cost {plan["cost"]:,.0f}'
    scaled = ''
    if rate['scaled'] is not None:
        scaled = f' for {rate["for_batch"]} images; {rate["scaled"]:.3g} for {plan["total_batch"]} (--auto-scale-lr)'
    return [
        f'training      {plan["epochs"]:g} epochs of {plan["images"]} images, {plan["iterations_per_epoch"]} steps '
        f'each: {plan["days"]:.2f} days, {plan["gpu_hours"]:.0f} GPU hours{cost}',
        f'learning rate {rate["configured"]:.3g}{scaled}',
        f'traffic       {plan["traffic"]["sent_gb"]:.2f} GB sent by each GPU per step',
        f'storage       {reads["files_per_second"]:.0f} images/s, {reads["bytes_per_second"] / 1e6:.0f} MB/s read; '
        f'checkpoints of {checkpoint["bytes"] / 1e9:.1f} GB, saved in {checkpoint["seconds"]:.1f} s',
        f'failures      one in {plan["failures"]["hours_between"]:.0f} hours; saved every '
        f'{checkpoint["every_seconds"] / 60:.0f} minutes, {100 * plan["failures"]["lost"]:.2f} % of the time is lost',
    ]


def _describe_scaling(plan: Mapping[str, Any]) -> list[str]:
    lines = [
        f'{"":5}  {plan["batch"]} images per GPU{"":>25}{plan["batch"] * plan["gpus"]} images in all',
        f'{"GPUs":>5}{"images/s":>12}{"efficiency":>12}{"exposed ms":>12}   {"per GPU":>8}{"images/s":>12}{"days":>9}',
    ]
    for row in plan['scaling']:
        weak, strong = row['weak'], row['strong']
        cells = f'{"-":>8}{"-":>12}{"-":>9}'
        if strong:
            cells = f'{strong["batch"]:>8}{strong["images_per_second"]:>12.0f}{strong["days"]:>9.2f}'
        lines.append(
            f'{row["gpus"]:>5}{weak["images_per_second"]:>12.0f}{weak["efficiency"]:>12.2f}'
            f'{weak["exposed"] * 1e3:>12.1f}   {cells}'
        )
    return lines


def _assumptions(plan: Mapping[str, Any]) -> str:
    assumed = plan['assumed']
    if assumed['efficiency'] is not None:
        return f'assumed: a step reaches {100 * assumed["efficiency"]:.0f} % of the peak, as given'
    origin = 'measured' if assumed['measured'] else 'assumed'
    counted = '' if plan['counted_on_fake_tensors'] else '; counted on small batches for real'
    return (
        f'{origin}: matrix products {assumed["matmul"] / 1e12:.3g} TFLOP/s, memory {assumed["memory"] / 1e9:.3g} GB/s, '
        f'depthwise convolutions {assumed["depthwise"] / 1e12:.3g} TFLOP/s; {assumed["network"] / 1e9:g} GB/s between '
        f'nodes{counted}'
    )
