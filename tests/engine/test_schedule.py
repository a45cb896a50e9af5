"""Schedules and plans are data: what they promise is checked without running anything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenetv2 import complexity, spec
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine import jit, schedule
from mobilenetv2.engine.kernels import average, mask
from mobilenetv2.engine.kernels import network as kernels
from mobilenetv2.engine.needs import aligned
from mobilenetv2.engine.operations import Block, Chain, Operation
from mobilenetv2.engine.plan import Buffer, place, plan
from mobilenetv2.spec import DeepLab, Spec, SSDLite
from mobilenetv2.spec_fields import backbone

CPUS = [cpus.named(name) for name in cpus.NAMED]


@given(st.integers(1, 2000), st.sampled_from([4, 8, 16]))
def test_vectors_hold_the_channels_and_no_more(channels: int, lanes: int) -> None:
    widths = schedule.vectors(channels, lanes)
    assert sum(widths) == channels
    assert all(width & (width - 1) == 0 and width <= lanes for width in widths)
    assert list(widths) == sorted(widths, reverse=True)


@given(st.integers(1, 2000), st.sampled_from([4, 8, 16]))
def test_one_vector_takes_what_is_left_where_lanes_may_go_beyond_the_channels(channels: int, lanes: int) -> None:
    widths = schedule.vectors(channels, lanes, beyond=True)
    assert len(widths) == -(-channels // lanes)
    assert all(width in (8, lanes) for width in widths)
    assert channels <= sum(widths) <= aligned(channels)  # so that reading them stays within their section


@given(st.integers(1, 2000), st.sampled_from([4, 8, 16]), st.integers(1, 8), st.booleans())
def test_panels_follow_each_other_and_differ_by_at_most_one_vector(
    channels: int, lanes: int, most: int, beyond: bool
) -> None:
    panels = schedule.panels(channels, lanes, most, beyond=beyond)
    assert [panel.start for panel in panels] == [sum(p.channels for p in panels[:i]) for i in range(len(panels))]
    assert sum(panel.channels for panel in panels) == channels
    assert all(sum(panel.stored) == panel.channels for panel in panels)
    counts = [len(panel.widths) for panel in panels]
    assert max(counts) <= most
    assert max(counts) - min(counts) <= 1
    groups = schedule.groups(panels)
    assert sum(group.count for group in groups) == len(panels)
    assert all(panels[g.first + i].stored == g.panel.stored for g in groups for i in range(g.count))


@settings(deadline=None)
@given(st.integers(1, 4000), st.integers(1, 1000), st.integers(1, 1300), st.sampled_from(CPUS))
def test_a_tile_fits_the_registers(rows: int, depth: int, channels: int, cpu: schedule.Cpu) -> None:
    product = schedule.product(rows, depth, channels, cpu)
    widest = max(len(panel.widths) for panel in product.panels)
    assert product.tile.rows <= rows
    assert product.tile.rows * widest + widest + cpu.spare <= cpu.registers


def test_the_tile_of_the_networks_middle_keeps_both_fma_units_busy() -> None:
    cpu = cpus.named("skylake-avx512")
    product = schedule.product(14 * 14, 64, 384, cpu)
    assert product.tile == schedule.Tile(14, 2)  # 28 accumulators, 2 weights, 1 pixel of 32 registers; no remainder


@given(st.integers(1, 500), st.integers(1, 40))
def test_balanced_parts_differ_by_one_at_most(total: int, parts: int) -> None:
    sizes = schedule.balanced(total, parts)
    assert len(sizes) == parts
    assert sum(sizes) == total
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9), st.integers(0, 4)), max_size=12))
def test_buffers_that_live_together_lie_apart(wanted: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(str(i), size, first, first + length) for i, (size, first, length) in enumerate(wanted)]
    placed = place(buffers)
    assert {buffer.name for buffer in placed} == {buffer.name for buffer in buffers}
    for i, one in enumerate(placed):
        for other in placed[:i]:
            together = one.first <= other.last and other.first <= one.last
            apart = one.at + one.size <= other.at or other.at + other.size <= one.at
            assert apart or not together


@pytest.mark.parametrize("width_mult", [0.35, 1.0, 1.4])
@pytest.mark.parametrize("size", [(96, 96), (225, 160)])
def test_a_plan_does_all_the_multiply_adds_of_the_network(width_mult: float, size: tuple[int, int]) -> None:
    network = Spec(backbone(width_mult=width_mult))
    steps = plan(network, size, CPUS[1]).steps
    assert sum(step.multiply_adds for step in steps) == complexity.complexity(network, size).multiply_adds


def test_the_expanded_tensors_of_wide_maps_never_exist() -> None:
    steps = plan(Spec(), (224, 224), cpus.named("skylake-avx512")).steps
    blocks = [block for step in steps for block in blocks_of(step.operation)]
    assert len(blocks) == len(spec.blocks(Spec().backbone)) == 17
    streamed = [block for block in blocks if not block.schedule.whole]
    assert len(streamed) == 7
    for block in streamed:
        assert block.ring_rows <= 5
        assert block.ring < block.height * block.width * block.depthwise.out_channels / 5


def blocks_of(operation: Operation) -> tuple[Block, ...]:
    match operation:
        case Block():
            return (operation,)
        case Chain():
            return operation.blocks
        case _:
            return ()


def test_the_arena_of_the_published_network_is_small() -> None:
    planned = plan(Spec(), (224, 224), cpus.named("skylake-avx512"))
    layer_by_layer = 4 * complexity.complexity(Spec(), 224).peak.live
    assert layer_by_layer == 6_021_120
    assert planned.arena_bytes * 10 < layer_by_layer
    assert planned.arena_bytes < 802_816  # the paper's Table 3 for this network, as float32


def test_maps_that_would_leave_the_core_never_exist() -> None:
    for size, width_mult in ((224, 1.4), (320, 1.0), (513, 0.5)):
        planned = plan(Spec(backbone(width_mult=width_mult)), (size, size), cpus.named("haswell"))
        maps = [buffer.size for name, buffer in planned.buffers.items() if name.endswith("map")]
        first = spec.blocks(planned_backbone := backbone(width_mult=width_mult))[0].out_channels
        half = spec.stem(planned_backbone).out_size(size)
        assert max(maps) < half * half * first


def test_shortcuts_take_the_place_of_what_they_add_where_no_thread_can_still_read_it() -> None:
    cpu = cpus.named("skylake-avx512")
    alone, together = (plan(Spec(), (224, 224), cpu, threads=threads).steps for threads in (1, 2))
    added = {f"block {block.index}" for block in spec.blocks(Spec().backbone) if block.shortcut == "bottleneck"}
    assert {step.name for step in alone if step.source == step.target} == added
    streamed = {"block 2", "block 4", "block 5"}  # where rows are dealt out, a neighbour reads the edge
    assert {step.name for step in together if step.source == step.target} == added - streamed


def test_blocks_of_one_shape_share_their_code() -> None:
    steps = plan(Spec(), (224, 224), CPUS[1]).steps
    blocks = [step.operation for step in steps if isinstance(step.operation, Block)]
    assert len(blocks) == 15  # the first two are in one step with the stem
    assert len(set(blocks)) == 10


@pytest.mark.few(4)
@pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: cpu.name)
@pytest.mark.parametrize(
    ("network", "size"),
    [
        (Spec(), 224),
        (Spec(head=SSDLite(classes=20)), 320),
        (Spec(head=SSDLite(classes=20, separable=False)), 320),
        (Spec(backbone(output_stride=16), DeepLab()), 513),
    ],
    ids=["classifier", "detector", "plain SSD", "DeepLab"],
)
def test_code_is_made_for_every_cpu_and_its_inner_loops_do_not_spill(
    network: Spec, size: int, cpu: schedule.Cpu
) -> None:
    planned = plan(network, (size, size), cpu)
    assembly = jit.assembly(kernels.emit(planned).text, cpu)
    arm = cpu.triple.startswith("aarch64")
    loops = inner_loops(assembly, multiply="fmla" if arm else "fmadd" if cpu.fused else "mulps")
    assert len(loops) > 10
    stack, vector = ("[sp", " q") if arm else ("(%rsp", "mm")  # an address may lie on the stack, a vector may not
    spilling = [line for loop in loops for line in loop if stack in line and vector in line]
    assert not spilling


@pytest.mark.few(1)
@pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: cpu.name)
def test_code_for_masks_is_made_for_every_cpu(cpu: schedule.Cpu) -> None:
    """One class after the other, all in registers; with 16 of them LLVM keeps one label's constant on the stack."""
    assembly = jit.assembly(mask.emit(cpu, 33, 21).text, cpu)
    arm = cpu.triple.startswith("aarch64")
    stack, vector = ("[sp", " q") if arm else ("(%rsp", "mm")
    loop = max(blocks(assembly), key=lambda lines: sum("fmul" in line or "mulps" in line for line in lines))
    assert len(loop) > 100
    assert len([line for line in loop if stack in line and vector in line]) <= 1


@pytest.mark.few(1)
@pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: cpu.name)
def test_code_for_averages_is_made_for_every_cpu_and_keeps_an_exponential_in_registers(cpu: schedule.Cpu) -> None:
    assembly = jit.assembly(average.emit(cpu).text, cpu)
    arm = cpu.triple.startswith("aarch64")
    (loop,) = inner_loops(assembly, multiply="fmla" if arm else "fmadd" if cpu.fused else "mulps")
    stack, vector = ("[sp", " q") if arm else ("(%rsp", "mm")
    assert not [line for line in loop if stack in line and vector in line]


def blocks(assembly: str) -> list[list[str]]:
    """Lines between labels."""
    found: list[list[str]] = [[]]
    for line in assembly.splitlines():
        if line.startswith(".L"):
            found.append([])
        found[-1].append(line)
    return found


def inner_loops(assembly: str, *, multiply: str) -> list[list[str]]:
    """The K loops: blocks of assembly that jump to their own beginning and multiply at least eight vectors."""
    loops: list[list[str]] = []
    label, lines = "", list[str]()
    for line in assembly.splitlines():
        if line.startswith(".L") and ":" in line:
            label, lines = line.split(":")[0], []
        lines.append(line)
        jumps = line.split() and line.split()[0].startswith(("j", "b.")) and line.split()[-1] == label
        if jumps and sum(multiply in inner for inner in lines) >= 8:
            loops.append(list(lines))
    return loops
