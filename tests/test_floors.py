"""The layout: every file imports lower floors only, within its own floor only its own room, and never in a circle.

The floors are those of docs/architecture.md. A file that is not listed fails: a new file is put on a floor on purpose.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    0: ["__init__", "exceptions", "_validation", "_optional", "_random", "_files", "_mxnet", "_lazy", "_progress",
        "_scaling", "_version"],
    1: ["model_handler/__init__", "model_handler/exceptions", "model_handler/graph/*", "model_handler/network",
        "model_handler/symbols", "model_handler/params", "model_handler/lengths", "uncertainty/*", "persistence",
        "_report_page"],
    2: ["model_handler/sources", "model_handler/targets", "model_handler/mxnet_files", "model_handler/onnx_export",
        "model_handler/onnx_import", "model_handler/onnx_operators", "model_handler/onnx_shaping",
        "model_handler/onnx_translation", "model_handler/onnx_check", "model_handler/summary", "model_handler/picture",
        "model_handler/edits", "model_handler/answers", "model_handler/archive", "model_handler/frozen", "data/*", "heads/*",
        "visualization/*"],
    3: ["features/*", "features/engines/*", "training/*", "report"],
    4: ["model_handler/handler"],
    5: ["repurposers/*"],
    6: ["zoo/*"],
    7: ["cli/*"],
}
PURE = "model_handler/graph/"


def module_files():
    return sorted((ROOT / "xfer2").rglob("*.py"))


def short_name(path):
    return path.relative_to(ROOT / "xfer2").with_suffix("").as_posix()


def floor_of(name):
    for floor, patterns in FLOORS.items():
        for pattern in patterns:
            if name == pattern or (pattern.endswith("/*") and name.rpartition("/")[0] == pattern[:-2]):
                return floor
    return None


def module_of(dotted, names):
    """The file, by short name, that an import of this dotted name reads."""
    path = dotted.removeprefix("xfer2").removeprefix(".").replace(".", "/")
    return path if path in names else f"{path}/__init__".removeprefix("/")


def imports_of(path, names):
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xfer2":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                file = inner.removeprefix("xfer2.").replace(".", "/")
                found.add(file if file in names else module_of(node.module, names))
        elif isinstance(node, ast.Import):
            found |= {module_of(alias.name, names) for alias in node.names if alias.name.split(".")[0] == "xfer2"}
    return found


def external_imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


NAMES = {short_name(path) for path in module_files()}


@pytest.mark.parametrize("path", module_files(), ids=short_name)
def test_file_is_on_a_floor_and_imports_lower_ones(path):
    name = short_name(path)
    assert floor_of(name) is not None, f"put xfer2/{name}.py on a floor in docs/architecture.md and in this test"
    for imported in imports_of(path, NAMES):
        assert imported in NAMES, f"xfer2/{name}.py imports {imported}, which is no file of the package"
        below = floor_of(imported)
        same_room = imported.split("/")[0] == name.split("/")[0] or below == floor_of(name) == 0
        assert below < floor_of(name) or (below == floor_of(name) and same_room), f"xfer2/{name}.py imports {imported}"


def test_no_circles():
    graph = {short_name(path): imports_of(path, NAMES) - {short_name(path)} for path in module_files()}
    finished, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name):], name])
        if name in finished:
            return
        path.append(name)
        for imported in sorted(graph[name]):
            visit(imported)
        finished.add(path.pop())

    for name in sorted(graph):
        visit(name)
    assert finished == NAMES


@pytest.mark.parametrize("path", module_files(), ids=short_name)
def test_only_one_file_imports_mxnet_and_gluoncv(path):
    heavy = external_imports(path) & {"mxnet", "gluoncv"}
    assert not heavy or short_name(path) == "_mxnet"


@pytest.mark.parametrize("path", [p for p in module_files() if short_name(p).startswith(PURE)], ids=short_name)
def test_graph_algebra_is_pure(path):
    assert not external_imports(path) & {"mxnet", "numpy"}
    assert "_mxnet" not in imports_of(path, NAMES)


@pytest.mark.parametrize("path", module_files(), ids=short_name)
def test_no_pickle_and_no_eval(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not external_imports(path) & {"pickle", "dill", "cloudpickle"}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec"}


@pytest.mark.parametrize("path", module_files(), ids=short_name)
def test_a_file_stays_below_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_architecture_page_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {short_name(path) for path in module_files() if path.name != "__init__.py"}
    missing = [room for room in rooms if f"{room.rpartition('/')[2]}.py" not in page]
    assert not missing, f"docs/architecture.md does not name {missing}"
