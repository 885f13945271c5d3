"""The program's main module, run once in the template where that makes no difference to its processes.

A new process of `spawn` or `forkserver` runs the script as `__mp_main__` before it does anything else. If all that this
does is to define things, a fork of a process that has done it is the same. Which is decided by looking at the script:
constants, functions, plain classes, and imports of what is there already. Anything else (calls, above all) is left to
the processes, each of which runs the script for itself.
"""

from __future__ import annotations

import ast
import builtins
import os
import runpy
import sys
import types
import warnings
from multiprocessing import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["MainModule", "imports", "only_defines", "signature"]

NAME = "__mp_main__"

# Modules with objects that a process gets anew when it starts (arguments, streams): imported before, they are the old.
_REPLACED = frozenset({"sys"})

# Decorators that do nothing but wrap.
_DECORATORS = frozenset({"staticmethod", "classmethod", "property"})


def signature(path: str) -> tuple[int, int]:
    """What tells whether a file has been changed."""
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def imports(tree: Any) -> Any:
    """Modules that a script's body imports, but for what is done only if the script is the main program."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                yield node.module
                for alias in node.names:
                    yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Try):
            yield from imports(node)
        elif isinstance(node, ast.If):
            names = {leaf.id for leaf in ast.walk(node.test) if isinstance(leaf, ast.Name)}
            if "__name__" not in names and "TYPE_CHECKING" not in names:
                yield from imports(node)


def only_defines(tree: ast.Module) -> bool:
    """Does running this script as `__mp_main__`, here and now, only define names, as it would in any process?"""
    return _plain(tree.body)


def _plain(body: Iterable[ast.stmt]) -> bool:
    return all(map(_plain_statement, body))


def _plain_statement(node: ast.stmt) -> bool:
    if isinstance(node, ast.Pass):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Import):
        return all(alias.name in sys.modules for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return _is_there(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return _plain_function(node)
    if isinstance(node, ast.ClassDef):
        return _plain_class(node)
    if isinstance(node, ast.Assign):
        return all(map(_plain_target, node.targets)) and _value(node.value)
    if isinstance(node, ast.AnnAssign):
        return (
            isinstance(node.target, ast.Name)
            and _annotation(node.annotation)
            and (node.value is None or _value(node.value))
        )
    if isinstance(node, ast.If):
        return _plain(node.orelse) and (_is_guard(node.test) or (_is_type_checking(node.test) and _plain(node.body)))
    return False


def _is_there(node: ast.ImportFrom) -> bool:
    """Would this import find everything, without running anything?"""
    if node.module == "__future__":
        return True
    module = sys.modules.get(node.module or "")
    if module is None or node.level or node.module in _REPLACED:
        return False
    return all(alias.name in vars(module) for alias in node.names)


def _is_guard(test: ast.expr) -> bool:
    """`__name__ == "__main__"`, which is false."""
    return (
        isinstance(test, ast.Compare)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq)
        and {ast.dump(test.left), ast.dump(test.comparators[0])} == _GUARD
    )


_GUARD = {ast.dump(ast.Name("__name__", ast.Load())), ast.dump(ast.Constant("__main__"))}


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _plain_target(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple):
        return all(map(_plain_target, target.elts))
    return isinstance(target, ast.Name)


def _plain_function(node: Any) -> bool:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    annotations = [argument.annotation for argument in every if argument is not None] + [node.returns]
    return (
        not getattr(node, "type_params", None)
        and all(isinstance(decorator, ast.Name) and decorator.id in _DECORATORS for decorator in node.decorator_list)
        and all(_value(default) for default in (*arguments.defaults, *arguments.kw_defaults) if default is not None)
        and all(_annotation(annotation) for annotation in annotations if annotation is not None)
    )


def _plain_class(node: ast.ClassDef) -> bool:
    """Without a base that could have a say in it: only built-in ones."""
    return (
        not getattr(node, "type_params", None)
        and not node.decorator_list
        and not node.keywords
        and all(isinstance(base, ast.Name) and base.id in _BASES for base in node.bases)
        and _plain(node.body)
    )


_BASES = frozenset(name for name, value in vars(builtins).items() if isinstance(value, type))


def _value(node: ast.expr) -> bool:
    """An expression of constants and of names."""
    if isinstance(node, ast.Constant | ast.Name | ast.Lambda):
        return not isinstance(node, ast.Lambda) or _plain_function(_as_function(node))
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return all(map(_value, node.elts))
    if isinstance(node, ast.Dict):
        return all(key is not None and _value(key) for key in node.keys) and all(map(_value, node.values))
    if isinstance(node, ast.UnaryOp):
        return _number(node)
    if isinstance(node, ast.BinOp):
        return _number(node)
    return False


def _number(node: ast.expr) -> bool:
    """Arithmetic of numbers only: with names, an operator may be anybody's code."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float | complex)
    if isinstance(node, ast.UnaryOp):
        return _number(node.operand)
    if isinstance(node, ast.BinOp):
        return _number(node.left) and _number(node.right)
    return False


def _as_function(node: ast.Lambda) -> Any:
    return types.SimpleNamespace(args=node.args, decorator_list=[], returns=None)


def _annotation(node: ast.expr) -> bool:
    """A type: names, their attributes and what is in brackets behind them."""
    allowed = (
        ast.Name,
        ast.Attribute,
        ast.Subscript,
        ast.Tuple,
        ast.List,
        ast.Constant,
        ast.BinOp,
        ast.BitOr,
        ast.Load,
    )
    return all(isinstance(leaf, allowed) for leaf in ast.walk(node))


class MainModule:
    """The script, or the module that the program was started as (`python -m`); what children need of it is in here.

    Args:
        path, name: as they stand in the standard library's preparation data; at most one is not None.
        search: `sys.path`, as it stands there.
    """

    def __init__(self, path: str | None, name: str | None, search: list[str]) -> None:
        self.path = path
        self.name = name
        self.search = search
        self.code: Any = None  # of the script
        self.tree: ast.Module | None = None
        self.file: str | None = None
        self.signature: Any = None
        self.module: types.ModuleType | None = None  # if it was run here
        self.harmless = False
        self.wanted: list[str] = []  # the modules that it imports in any case

    def read(self) -> None:
        """Look what it is; the package that it is in must have been imported."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._read()
        except Exception:
            pass  # what cannot be read or compiled says so in the process that runs it

    def _read(self) -> None:
        if self.path is not None:
            file = self.path
            before = signature(file)
            get_code: Any = runpy._get_code_from_file  # type: ignore[attr-defined]
            arguments = (file,) if get_code.__code__.co_argcount == 1 else (NAME, file)
            self.code = get_code(*arguments)
        elif self._is_a_module():
            _, spec, self.code = runpy._get_module_details(self.name)  # type: ignore[attr-defined]
            file = spec.origin
            before = signature(file)
        else:
            return
        with open(file, "rb") as source:
            self.tree = ast.parse(source.read())
        self.file, self.signature = file, before
        self.wanted = list(imports(self.tree))

    def _is_a_module(self) -> bool:
        name = self.name
        if name is None or name in sys.modules or name == "__main__" or name.endswith(".__main__"):
            return False
        package = name.rpartition(".")[0]
        return not package or package in sys.modules

    def look(self) -> None:
        """Does it show that it is run? To be asked when all modules are there."""
        if self.path is None and (self.name is None or self.name == "__main__" or self.name.endswith(".__main__")):
            self.harmless = True  # there is nothing that a process would run
        elif self.path is not None and os.path.splitext(os.path.basename(self.path))[0] == "ipython":
            self.harmless = False  # the standard library does not run it either
        else:
            self.harmless = self.tree is not None and only_defines(self.tree)

    def run(self) -> None:
        """Run it now, if that makes no difference. Raises what it raises."""
        if self.tree is None or not self.harmless or not self.unchanged():
            return
        run: Any = (
            (lambda: runpy.run_path(self.path, run_name=NAME))  # type: ignore[arg-type]
            if self.name is None
            else (lambda: runpy.run_module(self.name, run_name=NAME, alter_sys=True))  # type: ignore[arg-type]
        )
        module = types.ModuleType(NAME)
        module.__dict__.update(run())
        self.module = module

    def unchanged(self) -> bool:
        """Is the file still the one that was read?"""
        try:
            return self.file is not None and signature(self.file) == self.signature
        except OSError:
            return False

    # --- in a child ---

    def __enter__(self) -> None:
        """Meanwhile, a process that is to run the main module has it already, or need not compile it at the least."""
        if self.module is not None:
            self._originals = spawn._fixup_main_from_name, spawn._fixup_main_from_path  # type: ignore[attr-defined]
            spawn._fixup_main_from_name = self._from_name  # type: ignore[attr-defined]
            spawn._fixup_main_from_path = self._from_path  # type: ignore[attr-defined]
        elif self.path is not None and self.code is not None:
            self._get_code: Any = runpy._get_code_from_file  # type: ignore[attr-defined]
            runpy._get_code_from_file = self._code  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        if self.module is not None:
            spawn._fixup_main_from_name, spawn._fixup_main_from_path = self._originals  # type: ignore[attr-defined]
        elif self.path is not None and self.code is not None:
            runpy._get_code_from_file = self._get_code  # type: ignore[attr-defined]

    def _code(self, *arguments: Any) -> Any:
        runpy._get_code_from_file = self._get_code  # type: ignore[attr-defined]
        if arguments[-1] == self.path and self.unchanged():
            return self.code
        return self._get_code(*arguments)

    def _from_name(self, name: str) -> None:
        self._be(self._originals[0], name, self.name)

    def _from_path(self, path: str) -> None:
        self._be(self._originals[1], path, self.path)

    def _be(self, original: Any, asked: str, known: str | None) -> None:
        self.__exit__()
        main = sys.modules["__main__"]
        if asked != known or sys.path != self.search or not self.unchanged():
            original(asked)
            return
        spawn.old_main_modules.append(main)  # type: ignore[attr-defined]
        assert self.module is not None
        sys.modules["__main__"] = sys.modules[NAME] = self.module
