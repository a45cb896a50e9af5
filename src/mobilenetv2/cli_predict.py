"""The verb `predict`: answers for photos, in whatever form they are named."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from mobilenetv2 import text
from mobilenetv2.cli_options import Backend, Crop, Iou, Json, Model, MultiScale, Resize, Slide, Threads, pixels_or_none
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.terminal import Beside, progress_bar, say, say_notes, show, show_json

if TYPE_CHECKING:
    from mobilenetv2.image import Source
    from mobilenetv2.model_file import ModelInfo
    from mobilenetv2.predictor import Predictor
    from mobilenetv2.results import Detections, Result
    from mobilenetv2.sources import Photo


def predict(
    model: Model,
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="Pictures: files, folders and all below them, quoted patterns such as 'photos/**/*.jpg', .txt files "
            "that list them, addresses (https), or - for one on standard input.",
        ),
    ],
    as_json: Json = False,
    draw: Annotated[Path | None, typer.Option(metavar="DIR", help="Write each photo with its answers here.")] = None,
    coco: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Write a detector's boxes as COCO's list of results.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Classifiers: number of answers; default: 5.")] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Classifiers: show the background class among them.")
    ] = False,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Boxes: score threshold, 0 to 1; default: the model's own.")
    ] = None,
    iou: Iou = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Boxes: maximum detections per picture; default: the model's own.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each photo's mask here: classes as values, VOC's palette.")
    ] = None,
    rle: Annotated[bool, typer.Option("--rle", help="With --json: each class's run lengths as COCO has them.")] = False,
    multi_scale: MultiScale = False,
    slide: Slide = False,
    backend: Backend = "engine",
    threads: Threads = None,
    resize: Resize = None,
    crop: Crop = None,
) -> None:
    """Say what is on photos."""
    from mobilenetv2 import sources
    from mobilenetv2.predictor import load

    predictor = load(model, backend=backend, threads=threads, resize=pixels_or_none(resize), crop=crop)
    given = {
        "--top": top, "--background": background or None, "--score": score, "--iou": iou, "--most": most,
        "--coco": coco, "--masks": masks, "--rle": rle or None, "--multi-scale": multi_scale or None,
        "--slide": slide or None,
    }  # fmt: skip
    options = _decoding(predictor.info.task, given)
    found = sources.find(photos)
    say_notes(found.notes)
    total, failed = len(found.photos), 0
    with ExitStack() as stack:
        boxes = None if coco is None else stack.enter_context(_CocoFile(coco, predictor.info))
        output = _Output(found.photos, as_json=as_json, draw=draw, masks=masks, boxes=boxes, rle=rle)
        advance = stack.enter_context(progress_bar("predict", "photos"))
        for done, (photo, source, answer) in enumerate(_answers(predictor, found.photos, options), start=1):
            if total > 1:
                advance(done, total)
            if isinstance(answer, Error):
                failed += 1
                output.problem(photo, answer)
            else:
                output.answer(photo, source, answer)
    if boxes is not None:
        say(f"wrote {coco}: {text.counted(boxes.count, 'box', 'boxes')}")
    if failed:
        if total > 1:
            say(f"{failed:,} of {text.counted(total, 'photo')} could not be read")
        raise typer.Exit(1)


class _Output:
    """Where answers go: to stdout for people or machines, into drawings and masks, into COCO's file."""

    def __init__(
        self,
        photos: Sequence[Photo],
        *,
        as_json: bool,
        draw: Path | None,
        masks: Path | None,
        boxes: _CocoFile | None,
        rle: bool,
    ) -> None:
        self._as_json, self._boxes, self._rle = as_json, boxes, rle
        self._drawings = None if draw is None else Beside(draw, ".answers.png", photos)
        self._masks = None if masks is None else Beside(masks, ".png", photos)

    def problem(self, photo: Photo, error: Error) -> None:
        show_json({"file": photo.name, "error": str(error)}) if self._as_json else say(f"error: {error}")

    def answer(self, photo: Photo, source: Any, answer: Result) -> None:
        from mobilenetv2 import image, plots
        from mobilenetv2.results import Detections, Segmentation

        if self._drawings is not None:
            path = self._drawings.path(photo)
            plots.write_png(path, answer.draw(image.read(source)))
            say(f"drawn: {path}")
        ways: dict[str, Any] = {}
        if isinstance(answer, Segmentation):
            ways = {"run_lengths": self._rle}
            if self._masks is not None:
                ways["mask"] = self._masks.path(photo)
                answer.save_mask(ways["mask"])
                if not self._as_json:
                    say(f"mask: {ways['mask']}")
        if self._boxes is not None and isinstance(answer, Detections):
            self._boxes.add(photo, answer)
        if self._as_json:
            show_json(answer.to_json(file=photo.name, **ways))
        else:
            show([photo.name, *str(answer).split("\n")])


_DECODING: dict[str, dict[str, str | None]] = {
    "classification": {"--top": "top", "--background": "with_background"},
    "detection": {"--score": "score", "--iou": "iou", "--most": "most", "--coco": None},  # None: not the predictor's
    "segmentation": {"--multi-scale": "multi_scale", "--slide": "slide", "--masks": None, "--rle": None},
}


def _decoding(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The predictor's options among those that were given. Raises `UsageError` for one of another task."""
    options: dict[str, Any] = {}
    for option, value in given.items():
        if value is None:
            continue
        if option not in _DECODING[task]:
            raise UsageError(f"{option} is not for {task}: this model's options are {', '.join(_DECODING[task])}")
        if name := _DECODING[task][option]:
            options[name] = value
    return options


def _answers(
    predictor: Predictor, photos: Iterable[Photo], options: Mapping[str, Any]
) -> Iterator[tuple[Photo, Any, Result | Error]]:
    """Each photo with its source and its answer. Only those under way are held."""
    under_way: deque[tuple[Photo, Source | Error]] = deque()

    def asked() -> Iterator[Source | Error]:
        for photo in photos:
            source = photo.source()
            under_way.append((photo, source))
            yield source

    for answer in predictor.many(asked(), errors="yield", **options):
        photo, source = under_way.popleft()
        yield photo, source, answer


class _CocoFile:
    """COCO's list of results, written photo by photo: as a whole it could be larger than the memory."""

    def __init__(self, path: Path, info: ModelInfo) -> None:
        from mobilenetv2.results import coco_categories

        self.count = 0
        self._categories = coco_categories(info)
        self._of_id: dict[int | str, str] = {}  # which photo has an image_id
        self._stack = ExitStack()
        self._path = path

    def __enter__(self) -> _CocoFile:
        from mobilenetv2 import files

        temporary = self._stack.enter_context(files.writing(self._path))
        self._file: TextIO = self._stack.enter_context(open(temporary, "w", encoding="utf-8"))
        self._file.write("[")
        return self

    def __exit__(self, *problem: Any) -> bool | None:
        if problem[0] is None:
            self._file.write("]")
        return self._stack.__exit__(*problem)

    def add(self, photo: Photo, answer: Detections) -> None:
        from mobilenetv2.results import coco_image_id

        image_id = coco_image_id(photo.name)
        if self._of_id.setdefault(image_id, photo.name) != photo.name:
            image_id = photo.name  # a/1.jpg and b/1.jpg
        for entry in answer.to_coco(image_id, self._categories):
            self._file.write((", " if self.count else "") + text.json_line(entry))
            self.count += 1
