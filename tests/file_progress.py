"""A line on the terminal for each file of tests as it ends: how far the run is, what passed, how long it took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and config.get_verbosity() == 0 and not config.option.collectonly:
        config.pluginmanager.register(FileProgress(config), "file-progress")


class FileProgress:
    """Takes the place of pytest's dots; of a single file, and with -v or -q, those stay."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left: Counter[str] = Counter()
        self._all = 0
        self._outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        self._expect(ids)  # each worker's are the same

    def _expect(self, ids: Sequence[str]) -> None:
        if ids:
            self._left, self._all = Counter(_file(one) for one in ids), len(ids)

    @property
    def _shown(self) -> bool:
        return len(self._outcomes) + len(+self._left) > 1

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: Any) -> Iterator[None]:
        category, letter, word = yield
        return category, "" if self._shown and category in ("passed", "skipped") else letter, word

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = _file(report.nodeid)
        self._seconds[file] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[file][report.outcome] += 1

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        file = _file(nodeid)
        shown = self._shown
        self._left[file] -= 1
        if self._left[file] or not shown:
            return
        done = 1 - sum((+self._left).values()) / self._all
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._outcomes[file].items()))
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        assert terminal is not None
        terminal.ensure_newline()
        terminal.write_line(f"{done:4.0%}  {file}: {outcomes}, {self._seconds[file]:.0f} s")


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
