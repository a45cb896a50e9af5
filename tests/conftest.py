"""What many tests need: real weights and pictures where they are at hand, and networks with random tensors."""

from __future__ import annotations

import functools
import http.server
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from mobilenetv2 import image, spec
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Spec
from mobilenetv2.spec_fields import backbone, classifier, deeplab, network, ssdlite

pytest_plugins = ["file_progress"]
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
hypothesis.settings.load_profile("any machine")

RandomModel = Callable[..., ModelFile]
Pack = Callable[..., Path]


@dataclass
class Served:
    """A folder behind HTTP on this machine, and what was asked for: "GET /train-000.tar"."""

    url: str
    requests: list[str] = field(default_factory=list)


Serve = Callable[[Path], Served]


@pytest.hookimpl(tryfirst=True)  # before -m chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`@pytest.mark.few(n)`: n of a test's cases, spread evenly, belong to `make test`; the others are slow.

    So is what takes real weights or pictures: those are large.
    """
    cases: dict[tuple[object, ...], list[pytest.Item]] = {}
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
        if item.get_closest_marker("few"):
            cases.setdefault((item.path, item.parent, getattr(item, "originalname", item.name)), []).append(item)
    for same in cases.values():
        marker = same[0].get_closest_marker("few")
        assert marker is not None
        (keep,) = marker.args
        fast = {round((i + 0.5) * len(same) / keep - 0.5) for i in range(keep)}
        for number, item in enumerate(same):
            if number not in fast:
                item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own: what is tested is code generated now, and nobody's own cache is written to."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("MOBILENETV2_CPU", raising=False)
        patch.delenv("MOBILENETV2_CACHE", raising=False)
        yield folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real weights and pictures that are not part of the project; tests of it are skipped elsewhere."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MOBILENETV2_TEST_DATA", beside))
    if not (folder / "weights").is_dir():
        pytest.skip("needs real weights and pictures: set MOBILENETV2_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def grace_hopper() -> Path:
    """A real photo (517 x 606, of an admiral in uniform) that comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="session")
def pack() -> Pack:
    """`pack(folder, shards, per_shard=8, label="cls")`: an ImageFolder in the shards that WebDataset's own writer makes
    of it, in random order; the shards of a folder with splits are called train-000.tar, val-000.tar ..."""

    def packed(folder: Path, target: Path, *, per_shard: int = 8, label: str = "cls") -> Path:
        from webdataset.writer import ShardWriter

        target.mkdir(parents=True, exist_ok=True)
        parts = [part for part in ("train", "val", "test") if (folder / part).is_dir()]
        for part in parts or [""]:
            pictures = sorted((folder / part).glob("*/*.*"))
            random.Random(0).shuffle(pictures)
            pattern = str(target / f"{part or 'pictures'}-%03d.tar")
            with ShardWriter(pattern, maxcount=per_shard, verbose=0) as writer:
                for picture in pictures:
                    name = picture.parent.name
                    key = f"{name}/{picture.stem.replace('.', '_')}"
                    writer.write({"__key__": key, picture.suffix[1:]: picture.read_bytes(), label: name})
        return target

    return packed


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """`serve(folder)`: its files over HTTP, by a server without ranges, as Python's own is."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ExitStack() as stack:

        def start(folder: Path) -> Served:
            served = Served("")

            class Handler(http.server.SimpleHTTPRequestHandler):
                def log_message(self, format: str, *args: object) -> None:
                    pass

                def parse_request(self) -> bool:
                    good = super().parse_request()
                    served.requests.append(f"{self.command} {self.path}")
                    return good

            handler = functools.partial(Handler, directory=str(folder))
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            served.url = f"http://127.0.0.1:{server.server_port}"
            return served

        yield start


@pytest.fixture(scope="session")
def random_model() -> RandomModel:
    """`random_model(size=96, outputs=1000, seed=0, labels=(), **backbone fields)`."""
    return make_random_model


def make_random_model(
    *,
    size: int = 96,
    outputs: int = 1000,
    background: str = "none",
    labels: tuple[str, ...] = (),
    seed: int = 0,
    **fields: Any,
) -> ModelFile:
    """Random weights and random batch-norm statistics, scaled so that activations neither die nor explode."""
    described = Spec(backbone(**fields), classifier(outputs=outputs, background=background))
    info = ModelInfo(described, image.recipe("torchvision-v1", size), labels)
    return ModelFile(info, random_tensors(described, seed))


@pytest.fixture(scope="session")
def random_detector() -> RandomModel:
    """`random_detector(size=96, head={...}, seed=0, labels=(), **backbone fields)`: width 0.35, 5 classes."""
    return make_random_detector


def make_random_detector(
    *,
    size: int | tuple[int, int] = 96,
    head: dict[str, Any] | None = None,
    labels: tuple[str, ...] = (),
    seed: int = 0,
    width_mult: float = 0.35,
    **fields: Any,
) -> ModelFile:
    """A detector whose random scores are spread from 0 to 1."""
    described = network(backbone(width_mult=width_mult, **fields), ssdlite(**{"classes": 5, **(head or {})}))
    return ModelFile(ModelInfo(described, image.recipe("ssd", size), labels), random_tensors(described, seed))


@pytest.fixture(scope="session")
def random_segmenter() -> RandomModel:
    """`random_segmenter(size=65, head={...}, seed=0, labels=(), **backbone fields)`: 4 classes, output stride 16."""
    return make_random_segmenter


def make_random_segmenter(
    *,
    size: int | tuple[int, int] = 65,
    head: dict[str, Any] | None = None,
    labels: tuple[str, ...] = (),
    seed: int = 0,
    width_mult: float = 0.35,
    output_stride: int = 16,
    **fields: Any,
) -> ModelFile:
    """Four classes and background; `channels` of the head are few, so that tests are quick."""
    net = backbone(width_mult=width_mult, output_stride=output_stride, **fields)
    described = network(net, deeplab(**{"classes": 4, "channels": 24, **(head or {})}))
    return ModelFile(ModelInfo(described, image.recipe("deeplab", size), labels), random_tensors(described, seed))


def random_tensors(described: Spec, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name, shape in spec.tensors(described).items():
        if name.endswith("running_var"):
            value = rng.uniform(0.5, 2, shape)
        elif name.endswith(("running_mean", "bias")):
            value = rng.normal(0, 0.2, shape)
        elif len(shape) == 1:
            value = rng.uniform(0.7, 1.4, shape)
        else:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        tensors[name] = value.astype(np.float32)
    return tensors
