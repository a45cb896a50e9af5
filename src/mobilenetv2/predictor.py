"""Photo in, answer out, over any backend."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

from mobilenetv2 import checks, image, sources, strategies
from mobilenetv2.errors import Error, MissingExtraError, UsageError, unknown_name
from mobilenetv2.image import Geometry, Source
from mobilenetv2.importers import load_model
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.picture_formats import ENDINGS
from mobilenetv2.results import Result, Segmentation, check_options, class_names, decode
from mobilenetv2.text import quoted

BACKENDS = ("engine", "torch", "reference")
MOST_THREADS = 4  # of the engine where nobody says: networks of this size gain little from more
MOST_CPUS = 256  # threads that may be asked for, as of the engine
MOST_BATCH = 65_536  # as a recipe's; more is a mistake, and would be read before the first answer
Raw = strategies.Raw


class Backend(Protocol):
    """What runs a network. `run` takes uint8 pixels or normalised float32 and gives the raw outputs by name."""

    name: str
    info: ModelInfo

    def run(self, images_BHWC: Any, /) -> Raw: ...


class Predictor:
    """Answers for photos. A photo is whatever `image.read` takes: a path, an address (http, https), the bytes of a file
    or what reads them, a PIL picture, an array or tensor of uint8 pixels, or a `Stored` one.

    A text is always one name, never its characters. `backend` is what `load` makes of a model file.
    """

    def __init__(self, backend: Backend) -> None:
        if not (callable(getattr(backend, "run", None)) and hasattr(backend, "info")):
            raise UsageError(f"a Predictor is made by mobilenetv2.load(model), or of a backend, got {quoted(backend)}")
        self.backend = backend

    @property
    def info(self) -> ModelInfo:
        return self.backend.info

    @overload
    def __call__(
        self,
        photo: list[Source] | list[str] | list[Path] | tuple[Source, ...],
        *,
        multi_scale: bool = False,
        slide: bool = False,
        **options: Any,
    ) -> list[Result]: ...

    @overload
    def __call__(self, photo: Source, *, multi_scale: bool = False, slide: bool = False, **options: Any) -> Result: ...

    def __call__(
        self, photo: Any, *, multi_scale: bool = False, slide: bool = False, **options: Any
    ) -> Result | list[Result]:
        """The answer for one photo: a `Classification`, `Detections` or a `Segmentation`, as the model's task is; for a
        list or a tuple of photos a list of answers, as `many` gives them.

        `options` are those of `decode_classification` (`top`, `with_background`) or of `decode_detections` (`score`,
        `iou`, `most`). For segmentation, `multi_scale` averages the scores of six scales and their mirror images
        (17.4 times the work), and `slide` those of windows over the photo at its own size. Raises `ImageError` or
        `FileError`, what the decoder raises, and `UsageError` for options of another task, for a folder, a list or a
        pattern (those are for `many`), and for a model file, which was swapped with the photo.
        """
        if isinstance(photo, list | tuple):
            answers = self.many(photo, multi_scale=multi_scale, slide=slide, **options)
            return [answer for answer in answers if not isinstance(answer, Error)]  # none is: errors are raised
        self._check_options(multi_scale, slide, options)
        photo = sources.one(photo)
        if slide:
            return self._slide(photo, self._run(multi_scale))
        prepared, geometry = image.load(photo, self.info.preprocessing)
        return self._decode(self._run(multi_scale)(prepared[np.newaxis]), geometry, options)

    def raw(self, photo: Source) -> tuple[Raw, Geometry]:
        """The network's outputs [1, ...] for one photo, undecoded."""
        prepared, geometry = image.load(sources.one(photo), self.info.preprocessing)
        return self.backend.run(prepared[np.newaxis]), geometry

    def many(
        self,
        photos: str | os.PathLike[str] | Iterable[Source | Error],
        *,
        batch: int = 1,
        errors: Literal["raise", "yield"] = "raise",
        multi_scale: bool = False,
        slide: bool = False,
        **options: Any,
    ) -> Iterator[Result | Error]:
        """One answer per photo, in order, `batch` photos at a time through the network; the rest as in a call.

        `photos` is a list or anything else that gives photos one by one, each entry one photo, and is read as far as
        answers are asked for; or one name, which stands for what the command line's `predict` makes of it: a photo, a
        folder of them, a pattern, a list's file (`sources.find` tells which photos those are).

        Photos are decoded in threads while the network runs, but where windows slide over them. A photo that cannot be
        read raises its error; with `errors="yield"` the error takes its answer's place and the others are still
        answered, and an error among `photos` is handed on. Arguments are checked at once.
        """
        batch = checks.whole("batch", batch, 1, MOST_BATCH)
        checks.choice("errors", errors, ("raise", "yield"))
        self._check_options(multi_scale, slide, options)
        each = _each(photos)
        answers = (
            self._slide_many(each, multi_scale=multi_scale)
            if slide
            else self._batches(each, batch, self._run(multi_scale), options)
        )
        return answers if errors == "yield" else _raised(answers)

    def _check_options(self, multi_scale: bool, slide: bool, options: dict[str, Any]) -> None:
        strategies.check_task(self.info, multi_scale=multi_scale, slide=slide)
        check_options(self.info.task, options)

    def _batches(
        self, photos: Iterable[Source | Error], batch: int, run: strategies.Run, options: dict[str, Any]
    ) -> Iterator[Result | Error]:
        for group in _prepared(photos, self.info, batch):
            good = [found for found in group if not isinstance(found, Error)]
            raw = run(np.stack([prepared for prepared, _ in good])) if good else {}
            row = 0
            for found in group:
                if isinstance(found, Error):
                    yield found
                    continue
                one = {name: values[row : row + 1] for name, values in raw.items()}
                row += 1
                yield self._decode(one, found[1], options)

    def _slide_many(self, photos: Iterable[Source | Error], *, multi_scale: bool) -> Iterator[Result | Error]:
        for photo in photos:
            if isinstance(photo, Error):
                yield photo
                continue
            try:
                pixels_HWC = image.read(photo)
            except Error as error:
                yield error
                continue
            yield self._slide(pixels_HWC, self._run(multi_scale))

    def _slide(self, photo: Source, run: strategies.Run) -> Segmentation:
        own = self._own("best_on_average")
        return Segmentation(strategies.slide(run, image.read(photo), self.info, **own), class_names(self.info))

    def _run(self, multi_scale: bool) -> strategies.Run:
        return partial(strategies.multi_scale, self.backend) if multi_scale else self.backend.run

    def _decode(self, raw: Raw, geometry: Geometry, options: dict[str, Any]) -> Result:
        own = self._own("best_classes", "best_on_average") if self.info.task == "segmentation" else {}
        return decode(raw, self.info, geometry, **options, **own)

    def _own(self, *names: str) -> dict[str, Any]:
        """What the backend has of its own for masks."""
        return {name: getattr(self.backend, name) for name in names if hasattr(self.backend, name)}


def load(
    model: str | os.PathLike[str] | ModelFile,
    *,
    backend: str = "engine",
    threads: int | None = None,
    resize: int | Literal["none"] | None = None,
    crop: int | None = None,
    progress: bool = True,
) -> Predictor:
    """A `Predictor` for a model file, a zoo name, or a `ModelFile` in memory.

    `backend` is "engine" (compiled for this CPU when first used, then cached), "torch" (needs the train extra) or
    "reference" (NumPy). `threads` is the thread count of the first two; None means all CPUs that this process may use,
    but at most 4, for the engine, and torch's own choice for torch.
    `resize` (shortest side in pixels, or "none") and `crop` (the network's input, square) override the model's own
    preprocessing. Raises `UsageError` for an unknown name or backend and for values that cannot be, `ModelFileError`,
    `DownloadError`.
    """
    if not isinstance(backend, str):
        raise UsageError(f"backend must be {checks.either(BACKENDS)}, got {quoted(backend)}")
    if backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    if threads is not None:
        threads = checks.whole("threads", threads, 1, MOST_CPUS)
    _check_model(model)
    if not isinstance(model, ModelFile):
        model = load_model(model, progress=progress)
    preprocessing = image.override(model.info.preprocessing, resize=resize, crop=crop)
    model = ModelFile(replace(model.info, preprocessing=preprocessing), model.tensors)
    if backend == "torch":
        try:
            from mobilenetv2.nn.backend import TorchBackend
        except ImportError:
            raise MissingExtraError("torch", extra="train", needed_for="backend torch") from None
        return Predictor(TorchBackend(model, threads=threads))
    if backend == "engine":
        from mobilenetv2.engine import Engine

        return Predictor(Engine(model, threads=threads or default_threads()))
    if threads is not None:
        raise UsageError("threads cannot be set for backend reference: NumPy's linear algebra decides")
    from mobilenetv2.engine.reference import ReferenceBackend

    return Predictor(ReferenceBackend(model))


Prepared = tuple[npt.NDArray[Any], Geometry]


def _each(photos: Any) -> Iterator[Source | Error]:
    """One photo after the other, or why one cannot be had. What comes from a pipe or a server is waited for here, in
    the caller's own thread, where Ctrl-C ends the wait."""
    if isinstance(photos, str | os.PathLike):
        return map(_one, (photo.source() for photo in sources.find([photos]).photos))
    no_list = isinstance(photos, bytes | bytearray | memoryview) or hasattr(photos, "read") or _is_pixels(photos)
    if no_list or not isinstance(photos, Iterable):
        raise UsageError(f"many takes a list of photos, or a folder's name, got {quoted(type(photos).__name__)}")
    return map(_one, photos)


def _one(photo: Source | Error) -> Source | Error:
    if isinstance(photo, Error):
        return photo
    try:
        source = sources.one(photo)
        if isinstance(source, sources.Brought):
            source.read_bytes()
    except Error as error:
        return error
    return source


def _is_pixels(photos: object) -> bool:
    """Whether it is one picture and no batch of them: an array or a tensor [H, W] or [H, W, channels]."""
    return hasattr(photos, "shape") and len(photos.shape) < 4  # pyright: ignore[reportAttributeAccessIssue]


def _raised(answers: Iterable[Result | Error]) -> Iterator[Result]:
    for answer in answers:
        if isinstance(answer, Error):
            raise answer
        yield answer


def _prepared(photos: Iterable[Source | Error], info: ModelInfo, batch: int) -> Iterator[list[Prepared | Error]]:
    """Groups of `batch` prepared photos (or the error of each), decoded one group ahead of the network."""
    source = iter(photos)
    with ThreadPoolExecutor(max_workers=min(batch, os.cpu_count() or 1), thread_name_prefix="decode") as pool:
        ahead: deque[list[Future[Prepared | Error]]] = deque()
        while True:
            if group := [pool.submit(_prepare, photo, info) for photo in islice(source, batch)]:
                ahead.append(group)
            if not ahead:
                return
            if len(ahead) > 1 or not group:
                yield [future.result() for future in ahead.popleft()]


def _prepare(photo: Source | Error, info: ModelInfo) -> Prepared | Error:
    if isinstance(photo, Error):
        return photo
    try:
        return image.load(photo, info.preprocessing)
    except Error as error:
        return error


def _check_model(model: object) -> None:
    """Raises `UsageError` for what is no name of a model and no model, and for a photo."""
    if isinstance(model, ModelFile):
        return
    if not isinstance(model, str | os.PathLike) or isinstance(os.fspath(model), bytes):
        what = "a photo" if isinstance(model, bytes | bytearray) or hasattr(model, "shape") else quoted(model)
        raise UsageError(f"model must be the name of a model file, a name of the zoo, or a ModelFile, got {what}")
    if not os.fspath(model):
        raise UsageError("the name of the model is empty")
    if Path(model).suffix.lower() in ENDINGS and os.path.isfile(model):
        raise UsageError(f"{os.fspath(model)} is a photo and no model file: are the model and the photo swapped?")


def default_threads() -> int:
    """The engine's, where nothing is said: all CPUs that this process may use, but at most `MOST_THREADS`."""
    return min(MOST_THREADS, _cpus())


def _cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
