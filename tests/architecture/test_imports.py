"""Which module may import which, and what importing the package costs: the laws that the folders state."""

import ast
import graphlib
import importlib
import pathlib
import re
from typing import NamedTuple

import pytest
from helpers import run_program

import compactor

ROOT = pathlib.Path(compactor.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def _name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name_of(path): path for path in FILES}


class Import(NamedTuple):
    """One imported module; `now` when importing the importer imports it too."""

    importer: str
    target: str
    now: bool


class _Imports(ast.NodeVisitor):
    def __init__(self, module):
        self.found = []
        self._module = module
        self._now = True

    def _later(self, node):
        before, self._now = self._now, False
        self.generic_visit(node)
        self._now = before

    def visit_FunctionDef(self, node):
        self._later(node)

    def visit_AsyncFunctionDef(self, node):
        self._later(node)

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            self._later(node)
        else:
            self.generic_visit(node)

    def visit_Import(self, node):
        self._add(*(alias.name for alias in node.names))

    def visit_ImportFrom(self, node):
        base = node.module or ""
        if node.level:
            package = self._module.split(".")
            if MODULES[self._module].name != "__init__.py":
                package = package[:-1]
            package = package[: len(package) - node.level + 1]
            base = ".".join([*package, *([node.module] if node.module else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            self._add(inner if inner in MODULES else base)

    def _add(self, *targets):
        self.found += [Import(self._module, target, self._now) for target in targets]


def _imports_of(module):
    visitor = _Imports(module)
    visitor.visit(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return visitor.found


IMPORTS = [found for module in MODULES for found in _imports_of(module)]


def _within(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _broken(folder, *forbidden):
    return [
        f"{found.importer} imports {found.target}"
        for found in IMPORTS
        if _within(found.importer, folder) and _within(found.target, *forbidden)
    ]


def test_the_imports_are_read_in_all_their_forms():
    found = set(IMPORTS)
    assert Import("compactor._node", "asyncio", True) in found
    assert Import("compactor.wire.head", "compactor.wire.grammar", True) in found  # from . import grammar
    assert Import("compactor.http.routes", "compactor.wire.grammar", True) in found  # from ..wire import grammar
    assert Import("compactor", "compactor.protobuf", False) in found  # inside a function
    assert Import("compactor.process", "compactor.context", False) in found  # for type checkers


def test_the_wire_knows_neither_clocks_nor_threads_nor_sockets_nor_what_is_above_it():
    outside = ("asyncio", "socket", "ssl", "threading", "logging", "os", "time")
    inside = ("_runtime", "_aio", "http", "context", "process", "_node")
    assert _broken("compactor.wire", *outside, *(f"compactor.{name}" for name in inside)) == []


def test_the_runtime_knows_neither_the_loop_nor_threads_nor_the_shell():
    outside = ("asyncio", "socket", "ssl", "threading", "logging")
    assert _broken("compactor._runtime", *outside, "compactor._aio", "compactor.context", "compactor._node") == []


RUNTIME_MAY_IMPORT = {
    "compactor.messages": "the envelope of what is in a mailbox",
    "compactor.pid": "addresses are values that everybody shares",
    "compactor.http.routes": "the path table is pure, and a malformed path is refused where it is decorated",
    "compactor.wire.encoder": "check_name alone: what a message name may be is the wire's rule",
    "compactor.process": "for type checkers alone: what a cell runs",
}


def test_the_runtime_imports_from_the_rest_exactly_what_is_listed_here():
    from_outside = {
        found.target
        for found in IMPORTS
        if _within(found.importer, "compactor._runtime")
        and _within(found.target, "compactor")
        and not _within(found.target, "compactor._runtime")
    }
    assert from_outside == set(RUNTIME_MAY_IMPORT)
    to_process = [found for found in IMPORTS if found.target == "compactor.process"]
    assert not any(found.now for found in to_process if _within(found.importer, "compactor._runtime"))


def test_the_runtime_takes_from_the_encoder_the_rule_for_names_alone():
    tree = ast.parse(MODULES["compactor._runtime.handlers"].read_text(encoding="utf-8"))
    taken = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "wire.encoder"
        for alias in node.names
    ]
    assert taken == ["check_name"]


def test_the_shell_decides_nothing_about_processes():
    above = ("_runtime", "process", "context", "_node")
    assert _broken("compactor._aio", *(f"compactor.{name}" for name in above)) == []


def test_what_everybody_shares_imports_no_part_of_the_machinery():
    machinery = ("wire", "http", "_runtime", "_aio", "_node", "context", "process")
    for shared in ("pid", "errors", "messages", "ids"):
        assert _broken(f"compactor.{shared}", *(f"compactor.{name}" for name in machinery)) == []


def test_no_module_imports_itself_through_others():
    graph = {module: set() for module in MODULES}
    for found in IMPORTS:
        if found.now and found.target in MODULES:
            graph[found.importer].add(found.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


def test_importing_the_package_loads_neither_tornado_nor_protobuf():
    run_program(
        "import sys, compactor, compactor.process, compactor.context\n"
        "loaded = [name for name in sys.modules if name.startswith(('tornado', 'google.protobuf'))]\n"
        "assert not loaded, loaded\n"
        "compactor.ProtobufProcess\n"
        "assert 'google.protobuf' in sys.modules\n",
        expect_silence=True,
    )


def test_a_process_without_routes_does_not_load_tornado():
    run_program(
        "import sys, compactor\n"
        "context = compactor.Context(ip='127.0.0.1')\n"
        "context.spawn(compactor.Process('plain'))\n"
        "context.stop()\n"
        "assert 'tornado.web' not in sys.modules\n",
        expect_silence=True,
    )


WITH_ALL = [
    module
    for module, path in MODULES.items()
    if re.search(r"^__all__\b", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("name", WITH_ALL)
def test_every_name_in_all_exists_once(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    assert [export for export in module.__all__ if not hasattr(module, export)] == []


def test_the_modules_that_users_import_from_say_what_is_public():
    assert {"compactor", "compactor.context", "compactor.process", "compactor.testing"} <= set(WITH_ALL)


def test_all_of_the_package_names_everything_that_the_package_binds():
    bound = set()
    for node in ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign):
            bound |= {target.id for target in node.targets}
    bound -= {"VERSION", "__all__", "__getattr__"}  # the version is public as __version__
    assert set(compactor.__all__) == bound | {"ProtobufProcess"}  # made by __getattr__


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_file_says_first_what_it_owns_and_has_no_leftovers(path):
    text = path.read_text(encoding="utf-8")
    first = ast.parse(text).body[0]
    assert first.lineno == 1
    assert isinstance(first, ast.Expr)
    assert isinstance(first.value, ast.Constant)
    assert isinstance(first.value.value, str)
    assert re.findall(r"\b(?:TODO|FIXME|XXX)\b", text) == []
