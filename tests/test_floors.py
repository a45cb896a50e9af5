"""Who may import whom: the table below is the rule and its documentation."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mobilenetv2

ROOT = Path(mobilenetv2.__file__).parent

COMMAND_LINE = (
    "cli",
    "cli_evaluate",
    "cli_options",
    "cli_paper",
    "cli_paper_figures",
    "cli_paper_tables",
    "cli_predict",
    "cli_training",
    "terminal",
)
# A module imports from its own floor or from those below it, never from above.
FLOORS: dict[str, int] = {
    **dict.fromkeys(
        (
            "spec",
            "spec_fields",
            "errors",
            "complexity",
            "files",
            "installation",
            "labels",
            "text",
            "limits",
            "checks",
            "json_text",
            "signatures",
            "picture_formats",
            "hints",
            "notes",
        ),
        0,
    ),  # standard library only
    **dict.fromkeys(
        (
            "image",
            "picture_files",
            "picture_guard",
            "preprocessing",
            "resample",
            "boxes",
            "results",
            "metrics",
            "detection_metrics",
            "detection_matching",
            "segmentation_metrics",
            "data",
            "model_file",
            "summary",
            "download",
            "http_requests",
            "zoo",
            "importers",
            "plots",
            "charts",
            "charts_detection",
            "charts_segmentation",
            "run_files",
            "upsample",
            "looks",
            "patterns",
            "sources",
        ),
        1,
    ),
    **dict.fromkeys(("engine", "nn"), 2),  # the two never import each other
    **dict.fromkeys(
        (
            "predictor",
            "strategies",
            "evaluate",
            "evaluate_detection",
            "detection_report",
            "evaluate_segmentation",
            "segmentation_report",
            "report",
            "agreement",
            "train",
        ),
        3,
    ),
    **dict.fromkeys(
        (
            *COMMAND_LINE,
            "__main__",
            "demo",
            "benchmark",
            "paper",
        ),
        4,
    ),
}
# Heavy libraries, and the only places that may import them (a name covers what is below it).
ONLY_IN: dict[str, tuple[str, ...]] = {
    "torch": ("nn", "train", "importers.torchvision_export", "benchmark.runtimes", "benchmark.convert"),
    "torchvision": ("train",),
    "lightning": ("train",),
    "h5py": ("importers.hdf5", "importers.keras"),
    "tflite": ("importers.tflite",),
    "pycocotools": ("detection_metrics", "data.coco_masks", "results.segmentation"),
    "yaml": ("data.yolo_plan",),
    "typer": COMMAND_LINE,
    "llvmlite.binding": ("engine.jit",),
    "llvmlite": ("engine.addresses", "engine.jit"),  # and these two only where no code is cached
}
FLOOR_0_MAY = set(sys.stdlib_module_names)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    """The names of imported modules, but not those that only a type checker sees."""
    tree = ast.parse(path.read_text())
    unseen = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "mobilenetv2":
                yield from (f"mobilenetv2.{name.name}" for name in node.names)
            else:
                yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value) if value else "__init__")
def test_imports_go_down(name: str, path: Path) -> None:
    top = name.split(".")[0]
    if not top:
        return  # the package itself only re-exports, lazily
    floor = FLOORS[top]
    for module in imports(path):
        package, _, rest = module.partition(".")
        if package == "mobilenetv2":
            target = rest.split(".")[0]
            if target in FLOORS:  # otherwise a name such as __version__
                assert FLOORS[target] <= floor, f"{name} (floor {floor}) imports {module}"
                assert {top, target} != {"engine", "nn"}, f"{name} imports {module}"
        else:
            assert floor > 0 or package in FLOOR_0_MAY, f"{name} is floor 0 and imports {module}"
            for library, places in ONLY_IN.items():
                if f"{module}.".startswith(f"{library}."):
                    assert name.startswith(places), f"{name} imports {module}"


def test_every_module_has_a_floor() -> None:
    tops = {name.split(".")[0] for name, _ in modules()} - {""}
    assert tops <= FLOORS.keys()


def test_importing_the_package_loads_neither_torch_nor_llvmlite_nor_numpy() -> None:
    code = "import mobilenetv2, sys; print([m for m in ('torch', 'llvmlite', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_lazy_name_is_a_modules_name() -> None:
    # importing the module would then put it in the name's place
    assert not set(mobilenetv2.__all__) & {name for name, _ in modules()}


def test_the_engine_loads_llvm_only_when_one_is_made() -> None:
    code = "import mobilenetv2.engine, sys; print([m for m in ('torch', 'llvmlite') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_predicting_loads_no_torch() -> None:
    code = "import mobilenetv2, sys; mobilenetv2.load; import mobilenetv2.evaluate; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
