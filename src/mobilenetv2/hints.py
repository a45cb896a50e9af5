"""What people who come from other tools type, and what it is called here.

The one table of foreign options, and of foreign names of a recipe's fields. Nothing here knows the library that parses
the command line: an option is looked for among the arguments themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mobilenetv2.text import plain

# A recipe's field by the names that other tools have for it; `train --set FIELD=VALUE`.
FIELDS: dict[str, str] = {
    "lr": "learning_rate",
    "lr0": "learning_rate",
    "base_lr": "learning_rate",
    "eta": "learning_rate",
    "batch": "batch_size",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "imgsz": "size",
    "img_size": "size",
    "img": "size",
    "image_size": "size",
    "input_size": "size",
    "resolution": "size",
    "epoch": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "optimizer": "optimiser",
    "opt": "optimiser",
    "wd": "weight_decay",
    "lr_scheduler": "schedule",
    "scheduler": "schedule",
    "sched": "schedule",
    "warmup_epochs": "warmup",
    "smoothing": "label_smoothing",
    "fliplr": "flip",
    "hflip": "flip",
    "flipud": "vertical_flip",
    "vflip": "vertical_flip",
    "auto_augmentation": "auto_augment",
    "aa": "auto_augment",
    "model_ema_decay": "ema",
    "ema_decay": "ema",
    "clip_grad": "clip",
    "grad_accum_steps": "accumulate",
    "accum_iter": "accumulate",
    "width": "width_mult",
    "alpha": "width_mult",
}

# Fields that keep their name: `--patience 5` is `--set patience=5`.
_OWN_FIELDS = (
    "accumulate", "auto_augment", "batch_size", "clip", "cutmix", "dropout", "ema", "epochs", "erase", "flip",
    "head_epochs", "label_smoothing", "learning_rate", "max_minutes", "mixup", "momentum", "optimiser", "output_stride",
    "patience", "schedule", "seed", "size", "vertical_flip", "warmup", "weight_decay", "width_mult",
)  # fmt: skip

_VALUES = {"learning_rate": "0.01", "epochs": "3", "batch_size": "32", "size": "224"}

_ON_CPU = "leave it out: models run on the CPU here"
_DRAW = "write --draw DIR"
_TOP = "write --top {value or 5}"

# What predict and evaluate have in common.
_ANSWERING = {
    **dict.fromkeys(("--conf", "--conf-thres", "--confidence", "--threshold"), "write --score {value or 0.25}"),
    **dict.fromkeys(("--iou-thres", "--iou-threshold", "--nms"), "write --iou {value or 0.6}"),
    **dict.fromkeys(("--max-det", "--max-detections"), "write --most {value or 100}"),
    **dict.fromkeys(("--imgsz", "--img-size", "--img", "--size"), "write --crop {value or PIXELS}"),
    **dict.fromkeys(("--device", "--gpu"), _ON_CPU),
}

# Options of other tools by verb, and what to write instead; {value or X} is what was given, else X.
OPTIONS: dict[str, dict[str, str]] = {
    "train": {
        **dict.fromkeys(("--name", "--project", "--output", "--output-dir", "--save-dir", "--save"), "write --out DIR"),
        **dict.fromkeys(("--weights", "--pretrained", "--model", "--checkpoint"), "write --init {value or MODEL}"),
        **dict.fromkeys(
            ("--data", "--data-dir", "--data-path", "--dataset", "--source"),
            "the data is an argument: mobilenetv2 train {value or DATASET} --out DIR",
        ),
        **dict.fromkeys(
            ("--device", "--gpu", "--gpus"),
            "leave it out, a GPU is used where there is one; --devices N takes several",
        ),
        **dict.fromkeys(("--num-workers", "--num_workers"), "write --workers {value or N}"),
        **dict.fromkeys(("--cfg", "--config", "--hyp"), "write --recipe NAME; mobilenetv2 recipes lists them"),
        **dict.fromkeys(("--amp", "--half", "--fp16"), "write --precision 16-mixed"),
    },
    "predict": {
        **dict.fromkeys(
            ("--source", "--input", "--image", "--images", "--img-path"),
            "photos are arguments: mobilenetv2 predict MODEL {value or PHOTO...}",
        ),
        **dict.fromkeys(
            ("--weights", "--model", "--checkpoint"),
            "the model is the first argument: mobilenetv2 predict {value or MODEL} PHOTO...",
        ),
        **_ANSWERING,
        **dict.fromkeys(("--topk", "--top-k", "--top_k"), _TOP),
        **dict.fromkeys(("--save", "--save-img", "--save-dir", "--show"), _DRAW),
        **dict.fromkeys(("--name", "--project", "--out", "--output"), _DRAW),
        **dict.fromkeys(("--save-txt", "--save-json", "--format"), "write --json"),
        **dict.fromkeys(("--batch", "--batch-size"), "leave it out: photos go through the network one at a time"),
    },
    "evaluate": {
        **dict.fromkeys(
            ("--data", "--data-dir", "--data-path", "--dataset", "--source"),
            "the data is an argument: mobilenetv2 evaluate MODEL {value or DATASET}",
        ),
        **dict.fromkeys(
            ("--weights", "--model", "--checkpoint"),
            "the model is the first argument: mobilenetv2 evaluate {value or MODEL} DATASET",
        ),
        **_ANSWERING,
        **dict.fromkeys(("--batch-size", "--batch_size"), "write --batch {value or 8}"),
        **dict.fromkeys(("--name", "--project", "--out", "--output", "--save-dir"), "write --report DIR"),
    },
    "bench": {
        **dict.fromkeys(("--imgsz", "--img-size", "--img"), "write --size {value or 224}"),
        **dict.fromkeys(("--batch-size", "--batch_size"), "write --batch {value or 8}"),
        **dict.fromkeys(("--weights", "--model"), "the model is an argument: mobilenetv2 bench {value or MODEL}"),
        **dict.fromkeys(("--device", "--gpu"), _ON_CPU),
    },
    "check": {
        **dict.fromkeys(
            ("--data", "--data-dir", "--data-path", "--dataset", "--source"),
            "the data is an argument: mobilenetv2 check {value or DATASET}",
        ),
    },
    "info": {
        **dict.fromkeys(("--weights", "--model"), "the model is an argument: mobilenetv2 info {value or MODEL}"),
        **dict.fromkeys(("--imgsz", "--img-size", "--img"), "write --plan --size {value or 224}"),
    },
    "import": {
        **dict.fromkeys(
            ("--weights", "--model", "--source"),
            "the file is an argument: mobilenetv2 import {value or FILE} --out MODEL",
        ),
        **dict.fromkeys(("--imgsz", "--img-size", "--img"), "write --size {value or 224}"),
        **dict.fromkeys(("--output", "--name", "--save"), "write --out MODEL"),
        "--classes": "write --labels FILE",
    },
}  # fmt: skip


def of_arguments(arguments: Sequence[str]) -> str | None:
    """What to write instead of the first option among a command's arguments that is another tool's; None for none.

    To be asked once the command was refused: an option of the table may be the value of another one.
    """
    for place, argument in enumerate(arguments[1:], start=1):
        if argument == "--":
            return None
        option, equals, value = argument.partition("=")
        if not option.startswith("--") or (hint := _hint(arguments[0], option)) is None:
            continue
        following = arguments[place + 1] if place + 1 < len(arguments) else "-"
        given = value if equals else "" if following.startswith("-") else following
        return f"{plain(option)}: {_filled(hint, given)}"
    return None


def of_field(name: str, known: Iterable[str]) -> str | None:
    """A recipe's field, one of `known`, that other tools call `name`; None where there is none."""
    field = FIELDS.get(name.strip().lower().replace("-", "_"))
    return field if field is not None and field in known else None


def _hint(verb: str, option: str) -> str | None:
    if (hint := OPTIONS.get(verb, {}).get(option)) is not None or verb != "train":
        return hint
    name = option[2:].lower().replace("-", "_")
    field = FIELDS.get(name, name if name in _OWN_FIELDS else None)
    return None if field is None else f"write --set {field}={{value or {_VALUES.get(field, 'VALUE')}}}"


def _filled(hint: str, value: str) -> str:
    before, brace, rest = hint.partition("{value or ")
    if not brace:
        return hint
    default, _, after = rest.partition("}")
    return f"{before}{plain(value) or default}{after}"
