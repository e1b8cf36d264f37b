"""The stand-ins for MMCV's compiled operators: against plain formulas, and against compiled MMCV where it is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from launching import ROOT
from mae_toolkit.errors import UserError
from mae_toolkit.ops import ext, finder, install_mmcv_ops, is_mmcv_compiled
from warm import run_python

mmcv = pytest.importorskip('mmcv', reason='MMCV is not installed: pip install -e .[det]')
mmcv_ops = pytest.importorskip('mmcv.ops')

COMPILED = is_mmcv_compiled()
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'))]
compiled = pytest.mark.skipif(not COMPILED, reason='MMCV is not compiled here: nothing to compare with')


@pytest.fixture(autouse=True)
def _standing_in(monkeypatch):
    """Where MMCV is compiled, its Python calls the stand-ins during these tests all the same."""
    for name, module in list(sys.modules.items()):
        if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
            monkeypatch.setattr(module, 'ext_module', _as_module())


def _as_module():
    module = type(sys)('stand_in')
    ext.add_operators(module)
    return module


def boxes_and_scores(count, size=40.0, device='cpu', seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * size
    sides = torch.rand(count, 2, generator=generator) * size / 2
    boxes = torch.cat([corners, corners + sides], 1)
    near = count // 2  # each of so many has another nearly on top of it
    boxes[:near] = boxes[-near:] + torch.rand(near, 4, generator=generator)
    return boxes.to(device), torch.rand(count, generator=generator).to(device)


def iou(a, b, offset=0):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    shared = width * height
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    union = sum(areas) - shared
    return shared / union if union else 0.0


def nms_by_definition(boxes, scores, threshold, offset=0):
    boxes, kept = boxes.tolist(), []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i].item()):
        if all(iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.05, 0.3, 0.7])
def test_nms_keeps_what_the_definition_keeps(threshold, offset, device):
    boxes, scores = boxes_and_scores(80, device=device)
    dets, kept = mmcv_ops.nms(boxes, scores, threshold, offset=offset)
    expected = nms_by_definition(boxes, scores, threshold, offset)
    assert kept.tolist() == expected and 1 < len(expected) < 80
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


def test_nms_of_integers_apart_by_the_offset():
    """Boxes that touch: by offset 1 the last pixel belongs to a box."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [9, 0, 18, 9]])
    scores = torch.tensor([0.9, 0.8])
    assert len(mmcv_ops.nms(boxes, scores, 0.02, offset=0)[1]) == 2
    assert len(mmcv_ops.nms(boxes, scores, 0.02, offset=1)[1]) == 1


def test_nms_limits_and_odd_inputs():
    boxes, scores = boxes_and_scores(30)
    kept = nms_by_definition(boxes, scores, 0.5)
    assert mmcv_ops.nms(boxes, scores, 0.5, max_num=3)[1].tolist() == kept[:3]
    high = [i for i in kept if scores[i] > 0.4]
    assert mmcv_ops.nms(boxes, scores, 0.5, score_threshold=0.4)[1].tolist() == high
    dets, kept = mmcv_ops.nms(boxes[:0], scores[:0], 0.5)
    assert dets.shape == (0, 5) and kept.dtype == torch.int64
    assert mmcv_ops.nms(boxes[:1], scores[:1], 0.5)[1].tolist() == [0]
    points = boxes[:, [0, 1, 0, 1]]  # without area: they overlap nothing
    assert len(mmcv_ops.nms(points, scores, 0.5)[1]) == 30
    assert mmcv_ops.nms(boxes, scores.half(), 0.5)[1].tolist() == nms_by_definition(boxes, scores.half(), 0.5)


@pytest.mark.parametrize('split', [10_000, 20])
def test_batched_nms_separates_classes(split):
    boxes, scores = boxes_and_scores(60, size=20.0)
    classes = torch.arange(60) % 3
    classes[classes == 1] = 2  # an empty class
    dets, kept = mmcv_ops.batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.3, split_thr=split))
    expected = []
    for c in (0, 2):
        of_class = (classes == c).nonzero().flatten()
        expected += of_class[nms_by_definition(boxes[of_class], scores[of_class], 0.3)].tolist()
    expected.sort(key=lambda i: -scores[i].item())
    assert kept.tolist() == expected and torch.equal(dets[:, 4], scores[kept])
    dets, kept = mmcv_ops.batched_nms(boxes[:0], scores[:0], classes[:0], None)
    assert dets.shape == (0, 5) and len(kept) == 0


def soft_nms_by_definition(boxes, scores, method, threshold, sigma, lowest, offset):
    left = [[score, i] for i, score in enumerate(scores.tolist())]
    boxes, kept = boxes.tolist(), []
    while left:
        left.sort(key=lambda item: -item[0])
        kept.append(left.pop(0))
        for item in left:
            overlap = iou(boxes[kept[-1][1]], boxes[item[1]], offset)
            if method == 'gaussian':
                item[0] *= torch.exp(torch.tensor(-(overlap**2) / sigma)).item()
            elif overlap >= threshold:
                item[0] *= 1 - overlap if method == 'linear' else 0
        left = [item for item in left if item[0] >= lowest]
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_lowers_scores_as_the_definition(method, offset):
    boxes, scores = boxes_and_scores(40)
    before = boxes.clone(), scores.clone()
    dets, kept = mmcv_ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset)
    expected = soft_nms_by_definition(boxes, scores, method, 0.3, 0.5, 0.05, offset)
    assert kept.tolist() == [i for _, i in expected] and 1 < len(kept) < 40
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for score, _ in expected]))
    assert torch.equal(dets[:, :4], boxes[kept])
    assert torch.equal(boxes, before[0]) and torch.equal(scores, before[1])


def test_soft_nms_of_odd_inputs():
    boxes, scores = boxes_and_scores(5)
    dets, kept = mmcv_ops.soft_nms(boxes[:0], scores[:0])
    assert dets.shape == (0, 5) and len(kept) == 0
    dets, kept = mmcv_ops.soft_nms(boxes, scores * 0, min_score=0.5)
    assert len(kept) == 1  # the best is kept however low it is
    points = boxes[:, [0, 1, 0, 1]]
    assert len(mmcv_ops.soft_nms(points, scores, method='gaussian')[1]) == 5


def sample(maps, y, x):
    """Bilinear value (C,) of maps (C, H, W) at a point, zero beyond one pixel outside."""
    height, width = maps.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return maps[:, 0, 0] * 0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    low_y, low_x = int(y), int(x)
    high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
    fy, fx = y - low_y, x - low_x
    top = maps[:, low_y, low_x] * (1 - fx) + maps[:, low_y, high_x] * fx
    bottom = maps[:, high_y, low_x] * (1 - fx) + maps[:, high_y, high_x] * fx
    return top * (1 - fy) + bottom * fy


def roi_align_by_definition(maps, rois, size, scale, ratio, aligned):
    pooled = []
    for image, *corners in rois.tolist():
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in corners)
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        cell_y, cell_x = height / size[0], width / size[1]
        ny, nx = (ratio, ratio) if ratio else (-int(-cell_y // 1), -int(-cell_x // 1))
        cells = []
        for row in range(size[0]):
            for column in range(size[1]):
                ys = [y1 + cell_y * (row + (i + 0.5) / ny) for i in range(ny)]
                xs = [x1 + cell_x * (column + (j + 0.5) / nx) for j in range(nx)]
                points = [sample(maps[int(image)], y, x) for y in ys for x in xs]
                cells.append(sum(points, maps[0, :, 0, 0] * 0) / max(ny * nx, 1))
        pooled.append(torch.stack(cells, 1).unflatten(1, size))
    return torch.stack(pooled)


ROIS = torch.tensor(
    [
        [0, 1.3, 2.1, 9.8, 7.4],
        [1, 0.0, 0.0, 15.9, 11.9],
        [1, -4.0, -3.0, 5.0, 20.0],  # partly outside
        [0, 40.0, 40.0, 60.0, 60.0],  # wholly outside
        [0, 3.0, 3.0, 3.0, 3.0],  # without area
        [1, 2.2, 5.1, 2.9, 5.3],  # smaller than a cell of the map
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('ratio', [0, 1, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_and_its_gradient_are_those_of_bilinear_samples(aligned, ratio, device):
    maps = torch.randn(2, 3, 6, 8, dtype=torch.float64, device=device, requires_grad=True)
    again = maps.detach().clone().requires_grad_()
    layer = mmcv_ops.RoIAlign((2, 3), 0.5, ratio, 'avg', aligned)
    pooled, expected = layer(maps, ROIS.to(device)), roi_align_by_definition(again, ROIS, (2, 3), 0.5, ratio, aligned)
    torch.testing.assert_close(pooled, expected)
    weights = torch.randn_like(pooled)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(maps.grad, again.grad)
    assert maps.grad.abs().sum() > 0


def test_roi_align_passes_gradcheck_and_takes_no_boxes():
    maps = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    layer = mmcv_ops.RoIAlign(2, 0.5)
    assert torch.autograd.gradcheck(lambda x: layer(x, ROIS), maps)
    none = layer(maps, ROIS[:0])
    assert none.shape == (0, 2, 2, 2)
    none.sum().backward()
    assert not maps.grad.any()


def test_roi_align_of_low_precision_computes_in_float32():
    maps = torch.randn(2, 3, 6, 8).bfloat16().requires_grad_()
    wide = maps.detach().float().requires_grad_()
    layer = mmcv_ops.RoIAlign(2, 0.5)
    rois = ROIS.bfloat16()
    pooled, expected = layer(maps, rois), layer(wide, rois.float())
    assert pooled.dtype == torch.bfloat16 and torch.equal(pooled, expected.bfloat16())
    pooled.backward(torch.ones_like(pooled))
    expected.backward(torch.ones_like(expected))
    assert torch.equal(maps.grad, wide.grad.bfloat16())
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(layer(wide, rois.float()), expected)


def test_roi_align_refuses_the_maximum():
    with pytest.raises(UserError, match=r"pool_mode='max' needs compiled MMCV"):
        mmcv_ops.RoIAlign(2, pool_mode='max')(torch.randn(1, 1, 4, 4), torch.zeros(1, 5))


def roi_pool_by_definition(maps, rois, size, scale):
    pooled = []
    for image, x1, y1, x2, y2 in rois.tolist():
        start = (y1 * scale, x1 * scale)
        sides = ((y2 + 1) * scale - start[0], (x2 + 1) * scale - start[1])
        cells = []
        for row in range(size[0]):
            for column in range(size[1]):
                ranges = []
                for axis, k in enumerate((row, column)):
                    step, limit = sides[axis] / size[axis], maps.shape[2 + axis]
                    low, high = start[axis] + k * step, start[axis] + (k + 1) * step
                    ranges.append(range(min(max(int(low // 1), 0), limit), min(max(-int(-high // 1), 0), limit)))
                cell = maps[int(image)][:, ranges[0], :][:, :, ranges[1]].flatten(1)
                cells.append(cell.amax(1) if cell.shape[1] else maps[0, :, 0, 0] * 0)
        pooled.append(torch.stack(cells, 1).unflatten(1, size))
    return torch.stack(pooled)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('scale', [0.5, 0.25])
def test_roi_pool_and_its_gradient_are_those_of_maxima(scale, device):
    maps = torch.randn(2, 3, 6, 8, dtype=torch.float64, device=device, requires_grad=True)
    again = maps.detach().clone().requires_grad_()
    pooled = mmcv_ops.RoIPool((2, 3), scale)(maps, ROIS.to(device))
    expected = roi_pool_by_definition(again, ROIS, (2, 3), scale)
    torch.testing.assert_close(pooled, expected)
    assert not pooled[3].any() and pooled[4].any()
    weights = torch.randn_like(pooled)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(maps.grad, again.grad)
    assert mmcv_ops.RoIPool(2, scale)(maps, ROIS[:0].to(device)).shape == (0, 3, 2, 2)


def focal_loss_by_definition(logits, target, gamma, alpha):
    p = logits.sigmoid()
    own = nn.functional.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    right = torch.where(own, p, 1 - p)
    return -torch.where(own, alpha, 1 - alpha) * (1 - right) ** gamma * right.log()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
def test_focal_loss_and_its_gradient_are_those_of_the_formula(gamma, alpha, device):
    logits = (torch.randn(7, 4, dtype=torch.float64, device=device) * 3).requires_grad_()
    again = logits.detach().clone().requires_grad_()
    target = torch.tensor([0, 1, 2, 3, 4, 4, 0], device=device)  # 4 is background
    weights = torch.randn_like(logits)
    loss = mmcv_ops.sigmoid_focal_loss(logits, target, gamma, alpha, None, 'none')
    expected = focal_loss_by_definition(again, target, gamma, alpha)
    torch.testing.assert_close(loss, expected)
    (loss * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(logits.grad, again.grad)


def test_focal_loss_reduces_and_weighs():
    logits, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    loss = focal_loss_by_definition(logits, target, 2.0, 0.25)
    for reduction, expected in (('mean', loss.sum() / 5), ('sum', loss.sum())):
        torch.testing.assert_close(mmcv_ops.SigmoidFocalLoss(2.0, 0.25, None, reduction)(logits, target), expected)
    weight = torch.tensor([1.0, 2.0, 3.0])
    weighed = mmcv_ops.SigmoidFocalLoss(2.0, 0.25, weight, 'none')(logits, target)
    torch.testing.assert_close(weighed, loss * weight[target][:, None])
    background = mmcv_ops.SigmoidFocalLoss(2.0, 0.25, weight, 'none')(logits, torch.full((5,), 3))
    torch.testing.assert_close(background, focal_loss_by_definition(logits, torch.full((5,), 3), 2.0, 0.25))


def test_focal_loss_of_no_samples_and_of_certain_ones_is_finite():
    none = torch.zeros(0, 3, requires_grad=True)
    mmcv_ops.sigmoid_focal_loss(none, torch.zeros(0, dtype=torch.long), 2.0, 0.25, None, 'sum').backward()
    certain = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = mmcv_ops.sigmoid_focal_loss(certain, torch.tensor([1]), 2.0, 0.25, None, 'none')
    torch.testing.assert_close(loss, torch.tensor([[150.0, 50.0]]))
    loss.sum().backward()
    assert certain.grad.isfinite().all()


@compiled
@pytest.mark.parametrize('device', DEVICES)
def test_the_stand_ins_give_what_compiled_mmcv_gives(device):
    import mmcv._ext as real

    boxes, scores = boxes_and_scores(200, device=device)
    for offset in (0, 1):
        ours, theirs = (op.nms(boxes, scores, iou_threshold=0.4, offset=offset) for op in (ext, real))
        assert torch.equal(ours, theirs)
    maps, rois = torch.randn(2, 3, 6, 8, device=device), ROIS.float().to(device)
    sizes = dict(aligned_height=2, aligned_width=3, spatial_scale=0.5, sampling_ratio=0, pool_mode=1, aligned=True)
    pooled = [maps.new_zeros(6, 3, 2, 3) for _ in range(2)]
    gradients = [torch.zeros_like(maps) for _ in range(2)]
    unused = maps.new_zeros(0)
    for op, out, gradient in zip((ext, real), pooled, gradients, strict=True):
        op.roi_align_forward(maps, rois, out, unused, unused, **sizes)
        op.roi_align_backward(torch.ones_like(out), rois, unused, unused, gradient, **sizes)
    torch.testing.assert_close(*pooled)
    torch.testing.assert_close(*gradients)


def names_that_mmcv_asks_for():
    names = set()
    for path in Path(mmcv_ops.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'load_ext':
                names |= {item.value for item in node.args[1].elts}
    return names


def test_every_operator_of_mmcv_stands_in_or_is_listed_as_unavailable():
    assert set(ext.UNAVAILABLE) == names_that_mmcv_asks_for() - set(ext.AVAILABLE)
    assert list(ext.UNAVAILABLE) == sorted(set(ext.UNAVAILABLE))


@pytest.mark.parametrize('name', ext.UNAVAILABLE)
def test_an_unavailable_operator_is_refused_by_name_when_it_is_called(name):
    function = getattr(_as_module(), name)
    with pytest.raises(UserError, match=f'^{name} needs compiled MMCV'):
        function(torch.zeros(1), anything=1)


def test_a_layer_without_its_operator_is_built_and_refused_in_use():
    layer = mmcv_ops.DeformConv2d(2, 2, 3)
    with pytest.raises(UserError, match='deform_conv_forward needs compiled MMCV'):
        layer(torch.zeros(1, 2, 5, 5), torch.zeros(1, 18, 3, 3))


@pytest.mark.process
def test_the_toolkit_alone_imports_nothing_of_it():
    code = "import sys, mae_toolkit; print(*sorted({'torch', 'mmcv', 'mae_toolkit.ops.ext'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout.strip(), done.stderr


@pytest.mark.process
@pytest.mark.skipif(COMPILED, reason='MMCV is compiled here')
def test_standing_in_twice_from_many_threads_is_standing_in_once():
    code = """
import sys, threading, importlib
from mae_toolkit.ops import install_mmcv_ops
names = []
def use():
    install_mmcv_ops()
    names.append(importlib.import_module('mmcv._ext').__spec__.origin)
threads = [threading.Thread(target=use) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert names == ['mae_toolkit.ops'] * 8, names
assert sum(type(f).__name__ == 'MMCVOpsFinder' for f in sys.meta_path) == 1
from mmcv.utils import collect_env
assert 'torchvision' in collect_env()['MMCV Compiler']
"""
    done = run_python('-c', code)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
def test_a_compiled_module_is_never_shadowed(tmp_path, monkeypatch):
    """Ours is the last finder: what any other finds is taken."""
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / '_ext.py').write_text("nms = 'compiled'\n")
    code = 'import mae_toolkit, mmcv._ext; from mae_toolkit.ops import is_mmcv_compiled as is_compiled\n'
    code += 'print(mmcv._ext.nms, is_compiled())'
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{ROOT}')
    assert run_python('-c', code).stdout.split() == ['compiled', 'True']
    (package / '_ext.py').unlink()
    code = code.replace('mmcv._ext.nms', 'mmcv._ext.nms.__module__')
    assert run_python('-c', code).stdout.split() == ['mae_toolkit.ops.nms', 'False']


def test_a_detector_imported_too_early_is_told(monkeypatch):
    early = type(sys)('early')
    early.roi_align = None
    monkeypatch.setitem(sys.modules, finder.MMDET_WITNESS[0], early)
    with pytest.warns(UserWarning, match='import mae_toolkit first'):
        assert finder.FINDER.find_spec(finder.EXTENSION) is None
    early.roi_align = mmcv_ops.roi_align
    assert finder.FINDER.find_spec(finder.EXTENSION).origin == 'mae_toolkit.ops'
    assert finder.FINDER.find_spec('mmcv.ops') is None
    install_mmcv_ops()
    assert sys.meta_path.count(finder.FINDER) == 1


@pytest.mark.process
def test_scripts_of_others_run_with_the_operators(tmp_path):
    (tmp_path / 'beside.py').write_text('value = 7\n')
    script = tmp_path / 'script.py'
    script.write_text('import sys, mmcv.ops, beside\nprint(*sys.argv[1:], beside.value, __name__)\n')
    done = run_python('-m', 'mae_toolkit.ops', str(script), '--flag', 'x')
    assert done.stdout.split() == ['--flag', 'x', '7', '__main__'], done.stderr
    done = run_python('-m', 'mae_toolkit.ops')
    assert done.returncode == 1 and 'name a script' in done.stderr
