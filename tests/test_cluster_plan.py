"""Plans of trainings on GPUs that are not here: counts against hand counts and real models, arithmetic, refusals."""

import json
import math
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mae_toolkit.apis import load_config
from mae_toolkit.device_peaks import find_peak
from mae_toolkit.errors import UserError
from mae_toolkit.models.build import build_model
from mae_toolkit.planning.cluster.choices import choose_batch, choose_device, find_epochs
from mae_toolkit.planning.cluster.counted import USABLE, CountedTraining
from mae_toolkit.planning.cluster.failures import lost_share, plan_checkpoints
from mae_toolkit.planning.cluster.kernels import Kernel, fuse_kernels, list_kernels
from mae_toolkit.planning.cluster.measure import compare
from mae_toolkit.planning.cluster.operators import OperatorRecorder
from mae_toolkit.planning.cluster.plan import make_plan, scale_learning_rate
from mae_toolkit.planning.cluster.rates import Rates, rates_from_peak
from mae_toolkit.planning.cluster.settings import Settings, check_trains, find_dtype, find_size
from mae_toolkit.planning.cluster.sizes import build_optimizer, count_bytes, measure_sizes
from mae_toolkit.planning.cluster.step import FakeStep
from mae_toolkit.planning.cluster.tracking import MemoryTracker, SavedTensors
from mae_toolkit.planning.cluster.traffic import (
    Network,
    all_reduce_bytes,
    exposed_seconds,
    gather_bytes,
    step_traffic,
    traffic_seconds,
)
from tiny import OPTIONS, QUICKSTART, ROOT, call, new_engine_state, options, refuse, run_here

VIT_B = ROOT / 'configs' / 'pretrain' / 'mae' / 'mae_vit-b_800e_imagenet.py'
CONVNEXT = ROOT / 'configs' / 'pretrain' / 'fcmae' / 'fcmae_convnextv2-a_1600e_imagenet.py'
NETWORK = Network(gpus_per_node=8, link=450e9, between=25e9)
RATES = Rates(
    'a GPU',
    peak=1e12,
    matmul=5e11,
    depthwise=1e11,
    memory=1e11,
    attention=2e11,
    kernel_seconds=0.0,
    operator_seconds=0.0,
)


@pytest.fixture(scope='module')
def tiny():
    """The small quickstart."""
    return load_config(str(QUICKSTART), OPTIONS)


@pytest.fixture(scope='module')
def counted(tiny):
    """Its step, counted as on a GPU."""
    return CountedTraining(tiny, torch.float32)


def settings(**changes):
    given = dict(gpus=1, batch=8, dtype=torch.float32, memory=1e9, network=NETWORK, epochs=2, images=96)
    return Settings(**given | changes)


# ---- Counting ----


def test_operations_of_a_vit_b_step_equal_a_hand_count():
    """MAE, ViT-B/16: 49 visible cells and a class token through 12 blocks of 768; 196 and it through 8 of 512."""
    step = FakeStep(load_config(str(VIT_B)), torch.float32, (224, 224)).count_step(2)

    def blocks(depth, tokens, width):
        products = 24 * tokens * width**2  # queries, keys, values, projection and MLP: 12 D^2 weights
        attention = 4 * tokens**2 * width
        return depth * (3 * products + 3.5 * attention)  # backward: twice, and the scores of attention once more

    patch = 3 * 16**2
    # The pixels need no gradient: two products for the embedding, forward and for its weights.
    embedding = 2 * 2 * 49 * patch * 768
    narrowing = 3 * 2 * 50 * 768 * 512
    head = 3 * 2 * 147 * 512 * patch  # predicts the hidden cells alone
    by_hand = embedding + blocks(12, 50, 768) + narrowing + blocks(8, 197, 512) + head
    assert step.flops / 2 == pytest.approx(by_hand, rel=0.01)


def test_parameters_and_states_are_those_of_the_real_optimizer(tiny):
    with new_engine_state():
        model = build_model(tiny)
        optimizer = build_optimizer(model, tiny)
        model(torch.randn(2, 3, 32, 32), mode='loss')['loss_pixel'].backward()
        optimizer.step()
    step = FakeStep(tiny, torch.float32, (32, 32))
    with step.mode, new_engine_state():
        sizes = measure_sizes(step.model, tiny)
    trained = [p for p in model.parameters() if p.requires_grad]
    states = [value for state in optimizer.state.values() for value in state.values()]
    assert sizes.parameters == sum(p.numel() for p in trained)
    assert sizes.trained == count_bytes(trained)
    assert sizes.states == count_bytes(states) > 2 * sizes.trained
    assert sizes.checkpoint >= sizes.trained + sizes.states


@pytest.mark.slow
@pytest.mark.parametrize('path', [QUICKSTART, CONVNEXT])
def test_activations_on_fake_tensors_are_those_that_autograd_saves(path, tiny):
    cfg = tiny if path == QUICKSTART else load_config(str(path))
    size = (32, 32) if path == QUICKSTART else (64, 64)
    fake = FakeStep(cfg, torch.bfloat16, size, as_gpu=False)
    count, peak = fake.count_step(3), fake.measure_peak(3)
    assert fake.is_fake
    model, imgs, saved = build_model(cfg).train(), torch.randn(3, 3, *size), SavedTensors()
    weights = [*model.parameters(), *model.buffers()]
    with torch.autocast('cpu', torch.bfloat16), saved.hooks():
        loss = model(imgs, mode='loss')['loss_pixel']
    # The CPU's convolutions return somewhat more memory than their results have.
    assert count.saved == pytest.approx(saved.count(weights), rel=0 if path == QUICKSTART else 1e-3)
    del saved, loss
    memory = MemoryTracker([*weights, imgs])
    with memory:
        with torch.autocast('cpu', torch.bfloat16):
            loss = model(imgs, mode='loss')['loss_pixel']
        loss.backward()
    assert peak.peak == pytest.approx(memory.peak, rel=0.02)


def test_a_step_that_depends_on_values_is_counted_for_real(tiny):
    step = FakeStep(tiny, torch.float32, (32, 32))
    expected = step.count_step(2)
    forward = step.model.draw_cells

    def draw(imgs, *args, **kwargs):
        imgs.sum().item()
        return forward(imgs, *args, **kwargs)

    step.model.draw_cells = draw
    count = step.count_step(2)
    assert not step.is_fake and count.flops == expected.flops and count.saved == expected.saved
    scaled = count.scale(8)
    assert scaled.flops == 4 * count.flops
    read = {part.nbytes for operator in scaled.operators for part in operator.reads if part.fixed}
    assert read == {part.nbytes for operator in count.operators for part in operator.reads if part.fixed}


@pytest.mark.slow
def test_two_small_batches_tell_a_large_one(tiny):
    step = FakeStep(tiny, torch.float32, (32, 32))
    line, large = step.count_step(2).extrapolate(step.count_step(4), 64), step.count_step(64)
    assert line.flops == large.flops and line.saved == large.saved
    assert [part.nbytes for o in line.operators for part in (*o.reads, *o.writes)] == [
        part.nbytes for o in large.operators for part in (*o.reads, *o.writes)
    ]


@pytest.mark.slow
def test_recomputing_keeps_less(tiny):
    plain, recomputing = (FakeStep(tiny, torch.float32, (32, 32), with_cp) for with_cp in (False, True))
    assert recomputing.count_step(8).saved < plain.count_step(8).saved
    assert recomputing.count_step(8).flops > plain.count_step(8).flops


def test_saved_storages_count_once_and_without_weights():
    x, weight, saved = torch.randn(4, 8, requires_grad=True), torch.randn(8, 2, requires_grad=True), SavedTensors()
    with saved.hooks():
        (x @ weight).exp()  # saves x, the weight and the result
    assert len(saved.tensors) == 3
    assert saved.count([weight]) == (4 * 8 + 4 * 2) * 4
    saved.tensors.append(x.T)
    assert saved.count() == (4 * 8 + 4 * 2 + 8 * 2) * 4


def test_a_peak_is_the_greatest_sum_of_what_is_allocated():
    memory = MemoryTracker()
    with memory:
        a = torch.ones(100)  # 400 bytes
        b = a + 1
        del a
        c = b + 1
        del b
    assert memory.peak == 800 and memory.current == c.nbytes == 400


# ---- Kernels ----


def record(run, *inputs):
    recorder = OperatorRecorder()
    with recorder:
        run(*inputs)
    return recorder


def test_fused_kernels_read_and_write_once():
    x, weight = torch.randn(64, 32), torch.randn(32, 32)
    recorder = record(lambda: ((x + 1) * 2 @ weight).relu().exp())
    each = list_kernels(recorder.operators, len(recorder.operators))
    fused = fuse_kernels(recorder.operators, len(recorder.operators))
    half = x.nbytes
    assert [kernel.nbytes for kernel in each] == [2 * half] * 2 + [2 * half + weight.nbytes] + [2 * half] * 2
    assert [kernel.kind for kernel in fused] == ['memory', 'matmul', 'memory']
    assert [kernel.nbytes for kernel in fused] == [2 * half, 2 * half + weight.nbytes, 2 * half]
    assert sum(kernel.flops for kernel in fused) == 2 * 64 * 32 * 32


def test_an_operator_does_not_join_a_kernel_that_runs_before_its_inputs():
    x, weight = torch.randn(64, 64), torch.randn(64, 64)

    def run():
        y = x.exp()
        return y + y @ weight

    recorder = record(run)
    assert [kernel.kind for kernel in fuse_kernels(recorder.operators, 9)] == ['memory', 'matmul', 'memory']


def test_attention_computes_whole_tiles():
    """Of 50 tokens and heads of 64 numbers, 128 queries times 64 keys."""
    q, k, v = (torch.randn(2, 3, 50, 64) for _ in range(3))
    (attention,) = record(lambda: nn.functional.scaled_dot_product_attention(q, k, v)).operators
    assert attention.kind == 'attention' and attention.flops == 2 * 2 * 2 * 3 * 50 * 50 * 64
    assert attention.work == attention.flops * 128 * 64 / (50 * 50)
    q, k, v = (torch.randn(2, 3, 128, 32) for _ in range(3))  # whole tiles, heads of half the size
    (attention,) = record(lambda: nn.functional.scaled_dot_product_attention(q, k, v)).operators
    assert attention.work == 2 * attention.flops


def test_the_sides_of_a_product():
    x, y = torch.randn(64, 32), torch.randn(32, 48)
    (product,) = record(lambda: x @ y).operators
    assert min(product.sides) == 32
    (convolution,) = record(nn.Conv2d(8, 16, 2, stride=2), torch.randn(1, 8, 6, 6)).operators
    assert min(convolution.sides) == 16  # of 8 x 2 x 2 = 32 and 16


def test_depthwise_convolutions_are_told_from_others():
    x = torch.randn(1, 8, 6, 6)
    recorder = record(nn.Conv2d(8, 8, 3, padding=1, groups=8), x)
    assert [(o.kind, o.flops) for o in recorder.operators] == [('depthwise', 2 * 9 * x.numel())]
    assert record(nn.Conv2d(8, 8, 1), x).operators[0].kind == 'matmul'


# ---- Time, traffic, failures ----


def test_a_kernel_takes_the_longer_of_its_operations_and_its_bytes():
    kernels = [
        Kernel('matmul', flops=5 * 10**11, nbytes=10, backward=False),  # 1 s
        Kernel('matmul', flops=5, nbytes=2 * 10**11, backward=True),  # 2 s
        Kernel('depthwise', flops=10**11, nbytes=10, backward=True),  # 1 s
    ]
    assert RATES.seconds(kernels) == pytest.approx(4)
    assert RATES.seconds([Kernel('attention', 10**11, 10, False)]) == pytest.approx(0.5)
    small = Kernel('matmul', 5 * 10**11, 10, False, side=100)  # half the rate at a side of 100
    assert replace(RATES, half_side=100.0).seconds([small]) == pytest.approx(2)
    assert replace(RATES, kernel_seconds=5.0).seconds(kernels) == 15


def test_a_given_efficiency_is_that_of_the_operations(counted):
    given = settings(efficiency=0.5)
    step = counted.time_step(given, replace(RATES, memory=1e30))
    assert step.compute == pytest.approx(counted.count(8).flops / (1e12 * 0.5))
    assert step.total == step.compute and step.traffic == 0


def test_data_that_comes_slowly_sets_the_pace(counted):
    step = counted.time_step(settings(data_rate=1.0), RATES)
    assert step.data == step.total == 8


def test_a_ring_sends_what_the_formula_says():
    gpus, chunks = 5, [[1.0] * 5 for _ in range(5)]  # each has a value for each chunk
    sent = [0] * gpus
    for phase in range(2):  # sums go around, then the finished chunks
        for turn in range(gpus - 1):
            messages = [
                (rank, (rank - turn + phase) % gpus, chunks[rank][(rank - turn + phase) % gpus]) for rank in range(gpus)
            ]
            for rank, chunk, value in messages:
                sent[rank] += 1
                other = chunks[(rank + 1) % gpus]
                other[chunk] = value if phase else other[chunk] + value
    assert chunks == [[5.0] * 5] * 5
    assert sent == [all_reduce_bytes(gpus, gpus)] * gpus
    assert all_reduce_bytes(100, 1) == 0
    assert gather_bytes(gpus, gpus) * 2 == all_reduce_bytes(gpus, gpus)


def test_sharding_gathers_twice_and_scatters_once():
    assert step_traffic('ddp', 400, 200, 4) == 600
    assert step_traffic('fsdp2', 400, 200, 4) == 3 / 4 * (2 * 200 + 400)


def test_traffic_between_nodes_is_slower_and_what_is_hidden_does_not_count(counted):
    inside, between = (traffic_seconds(all_reduce_bytes(10**9, gpus), 1, gpus, NETWORK) for gpus in (8, 16))
    assert inside == pytest.approx(1.75e9 / 450e9 + 2 * 3 * 10e-6)
    assert between == pytest.approx(1.875e9 / 25e9 + 2 * 4 * 10e-6)
    assert exposed_seconds(3.0, hidden_behind=1.0, messages=10) == 2.0
    assert exposed_seconds(3.0, hidden_behind=9.0, messages=10) == pytest.approx(0.3)  # the last message
    slow = replace(RATES, memory=1e9)
    hidden, shown = (counted.time_step(settings(gpus=8, overlap=overlap), slow) for overlap in (True, False))
    assert shown.exposed == shown.traffic == hidden.traffic and hidden.backward > hidden.traffic
    assert hidden.exposed == hidden.traffic / counted.traffic(settings(), 8)[1]


def test_checkpoints_are_planned_where_the_least_is_lost():
    plan = plan_checkpoints(save=20, restart=300, gpus=1000, gpu_hours=50_000)
    assert plan.hours_between == 50
    between = 50 * 3600
    assert plan.interval == pytest.approx(math.sqrt(2 * 20 * between))
    around = [lost_share(plan.interval * factor, 20, 300, between) for factor in (0.5, 0.9, 1.1, 2)]
    assert plan.lost < min(around)


# ---- Memory ----


def test_sharding_divides_weights_gradients_and_states(counted):
    one, many = (counted.memory(settings(gpus=4, engine=engine)) for engine in ('ddp', 'fsdp2'))
    assert many.gradients == one.gradients / 4 and many.states == one.states / 4
    assert many.activations == one.activations and many.weights < one.weights + 2 * counted.sizes.block
    assert one.total == sum((one.weights, one.gradients, one.states, one.averaged, one.activations))


@pytest.mark.slow
def test_the_largest_batch_fits_and_a_larger_one_does_not(counted):
    given = settings(memory=20e6)
    largest = counted.largest_batch(given)
    assert largest > 8
    assert counted.memory(given, largest).total <= 20e6 * USABLE < counted.memory(given, int(1.05 * largest) + 1).total
    assert counted.largest_batch(settings(memory=1e3)) == 0


def test_compiled_steps_are_faster(counted):
    assert counted.time_step(settings(compiled=True), RATES).compute < counted.time_step(settings(), RATES).compute


# Measured on an H200 with torch 2.11 by `tools/benchmark.py model CONFIG --parts step --dtype bfloat16 --batch 256
# --runs 20 --compile`: milliseconds of a step, and 2**30 bytes with weights and states.
MEASURED = {'b': (55.1, 13.55), 'l': (90.8, 23.07)}


@pytest.mark.slow
@pytest.mark.parametrize('size', MEASURED)
def test_an_estimate_is_near_what_a_gpu_took(size):
    ms, memory = MEASURED[size]
    cfg = load_config(ROOT / 'configs' / 'pretrain' / 'mae' / f'mae_vit-{size}_1600e_imagenet.py')
    counted = CountedTraining(cfg, torch.bfloat16)
    given = settings(batch=256, dtype=torch.bfloat16, memory=141e9, compiled=True)
    step = counted.time_step(given, rates_from_peak(find_peak('H200'), torch.bfloat16))
    assert step.total == pytest.approx(ms / 1e3, rel=0.2)
    assert counted.memory(given).total == pytest.approx(memory * 2**30, rel=0.03)


# ---- Plans ----


def test_counting_leaves_the_config_as_it_was(tiny):
    """What is measured after it recomputes nothing either."""
    before = tiny.to_dict()
    CountedTraining(tiny, torch.float32, recompute=True)
    assert tiny.to_dict() == before


def test_a_plan_adds_up(counted):
    given = settings(gpus=2, price=3.0, engine='fsdp2')
    plan = make_plan(counted, given, RATES)
    assert plan['total_batch'] == 16 and plan['iterations_per_epoch'] == 6
    assert plan['images_per_second'] == pytest.approx(16 / plan['step']['total'])
    assert plan['gpu_hours'] == pytest.approx(plan['days'] * 24 * 2) and plan['cost'] == 3 * plan['gpu_hours']
    lost = 1 - plan['failures']['lost']
    assert plan['days'] * 86400 == pytest.approx(2 * 96 / plan['images_per_second'] / lost)
    rows = {row['gpus']: row for row in plan['scaling']}
    assert rows.keys() == {1, 8, 64, 512, 4096} and rows[4096]['strong'] is None
    assert rows[8]['strong']['batch'] == 2 and rows[1]['weak']['efficiency'] == 1
    assert json.loads(json.dumps(plan)) == plan


def test_the_learning_rate_follows_from_the_batch():
    cfg = load_config(str(VIT_B))
    rate = scale_learning_rate(cfg, 2048)
    assert rate == {'configured': 2.4e-3, 'for_batch': 4096, 'scaled': pytest.approx(1.2e-3)}


def test_what_the_config_says():
    cfg = load_config(str(VIT_B))
    assert find_dtype(cfg) == torch.float16 and find_dtype(cfg, 'float32') == torch.float32
    assert find_size(cfg) == (224, 224)
    assert find_epochs(cfg, 100, 10) == 800
    assert choose_batch(cfg, 8, None, None) == 64 and choose_batch(cfg, 8, None, 1024) == 128
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=500)
    assert find_epochs(cfg, 100, 10) == 50


@pytest.mark.slow
def test_the_tool_writes_a_plan(tmp_path):
    file = tmp_path / 'plan.json'
    text = run_here('plan', QUICKSTART, '--kind', 'H200', '--gpus', 4, '--compile', '--json', file)
    plan = json.loads(file.read_text())
    assert 'H200' in text and f'{plan["images_per_second"]:.0f} images/s' in text
    assert plan['memory']['total'] < plan['memory_of_gpu'] == 141 and plan['counted_on_fake_tensors']


@pytest.mark.slow
def test_a_plan_beside_a_measurement_on_this_machine():
    text = run_here('plan', QUICKSTART, '--kind', 'cpu', '--measure', '--batch', 4)
    rows = [line for line in text.splitlines() if line.startswith(('from rates of kernels', 'measured  '))]
    assert len(rows) == 2 and all(float(row[22:32]) > 0 for row in rows)


def test_an_estimate_says_how_far_it_is_off(counted):
    given = settings(gpus=4, efficiency=0.5)  # one of the four is measured
    alone = counted.time_step(replace(given, gpus=1), RATES).total
    measured = {'seconds': 2 * alone, 'memory': counted.memory(given).total / 2}
    estimate, truth = (line.split() for line in compare(counted, given, {'a sheet': RATES}, measured).splitlines()[1:])
    assert estimate[3:] == [f'{8 / alone:.1f}', '+100%', f'{1e3 * alone:.1f}', *estimate[6:8], '+100%']
    assert float(truth[1]) == pytest.approx(4 / alone, abs=0.1) and truth[3] != estimate[6]
    assert 'out of memory' in compare(counted, given, {}, {'error': 'CUDA out of memory'})


# ---- Refusals ----


@pytest.mark.slow
def test_a_batch_that_does_not_fit_gets_numbers_and_remedies(counted):
    room = counted.memory(settings(gpus=2, engine='fsdp2')).total / USABLE  # without a share of the model
    with pytest.raises(UserError, match=r'8 images per GPU need .* GB .* can be used: try .*--engine fsdp2'):
        make_plan(counted, settings(memory=room, gpus=2), RATES)
    with pytest.raises(UserError, match=r'512 images .*--batch \d+'):
        make_plan(counted, settings(memory=20e6, batch=512), RATES)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--kind', 'H20'), ['H20', 'H200']),
        (('--kind', 'V100-SXM2-16GB', '--dtype', 'bfloat16'), ['bfloat16', 'float16']),
        (('--kind', 'H200', '--gpus', 3, '--total-batch', 16), ['16', '3 GPUs', '15 or 18']),
        (('--kind', 'H200', '--measure'), ['--measure', 'H200']),
        (('--dry-run', '--gpus', 2, '--rank', 2), ['--rank 2', '0 to 1']),
    ],
)
def test_mistakes_in_arguments(arguments, words):
    sentence = refuse('plan', QUICKSTART, *arguments)
    for word in words:
        assert word in sentence


def test_the_total_batch_of_a_config_is_shared_by_the_gpus():
    cfg = load_config(str(QUICKSTART))
    cfg.total_batch_size = 96
    cfg.optim_wrapper.accumulative_counts = 2  # the total is that of an iteration
    assert choose_batch(cfg, 4, None, None) == 24 and choose_batch(cfg, 4, 5, None) == 5
    with pytest.raises(UserError, match='total_batch_size=96 cannot be divided among 5 GPUs: choose 95 or 100'):
        choose_batch(cfg, 5, None, None)


def test_a_share_of_the_peak_is_no_percentage():
    with pytest.raises(UserError, match=r'--efficiency 65 .*above 0 and at most 1.*0\.65'):
        settings(efficiency=65.0)


def test_a_config_without_a_training_is_refused():
    folder = ROOT / 'configs'
    fine_tuning = folder / 'classification' / 'mae_ft_vit-b_100e_imagenet.py'
    assert 'only pretraining' in refuse('plan', fine_tuning, '--kind', 'H200', plain=True)
    assert "no 'model'" in refuse('plan', folder / '_base_' / 'runtime.py', '--kind', 'H200', plain=True)
    cfg = Config(dict(model=dict(encoder={}, masking={}), train_dataloader=None))
    with pytest.raises(UserError, match='trains nothing: it has no train_dataloader, optim_wrapper, train_cfg'):
        check_trains(cfg)


def test_shares_of_data_sheets():
    rates = rates_from_peak(find_peak('H200'), torch.bfloat16)
    assert rates.peak == 989.5e12 and rates.matmul < rates.peak and rates.memory < 4.8e12
    assert not choose_device('H200', torch.bfloat16).rates.measured


# ---- Dry run ----


def test_a_dry_run_builds_a_rank_of_many_and_sends_its_gradients(counted):
    text = run_here('plan', QUICKSTART, '--gpus', 4, '--rank', 3, '--dry-run')
    assert 'rank 3 of 4' in text and '96 images, 24 of them for this rank; 3 iterations of 8 (32 in all)' in text
    assert f'{counted.sizes.trained / 1e9:.4g} GB of gradients' in text
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'train_dataloader__batch_size': 40}, ['40', '24']),
        ({'train_dataloader__dataset__pipeline__0__size': 30}, ['30 x 30', '8']),
    ],
)
def test_a_dry_run_finds_mistakes(changes, words):
    status, text = call('plan', QUICKSTART, '--gpus', 4, '--dry-run', *options(**changes))
    assert status == 2
    for word in words:
        assert word in text
    assert not torch.distributed.is_initialized()
