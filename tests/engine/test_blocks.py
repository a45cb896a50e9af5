"""Every shape of block by itself against the reference: odd channels, sizes, strides, dilations, kinds of CPU.

All the cases, and their differences in a file:

    MOBILENETV2_ALL_BLOCKS=1 pytest tests/engine/test_blocks.py --dist load --junitxml differences.xml
"""

from collections.abc import Callable

import pytest
from block_cases import AGREE, Case, chosen, difference, of_odd_channels, of_the_paper

from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.errors import UsageError


def level_here(level: str) -> Cpu:
    try:
        return cpus.runnable(level)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.few(80)
@pytest.mark.parametrize("case", chosen(of_odd_channels(), 250), ids=str)
def test_blocks_of_odd_channels_agree(case: Case, record_property: Callable[[str, object], None]) -> None:
    record_property("difference", found := difference(case, level_here(case.level)))
    assert found < AGREE


@pytest.mark.few(20)
@pytest.mark.parametrize("case", chosen(of_the_paper(), 60), ids=str)
def test_blocks_of_the_paper_agree(case: Case, record_property: Callable[[str, object], None]) -> None:
    record_property("difference", found := difference(case, level_here(case.level)))
    assert found < AGREE
