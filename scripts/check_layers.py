#!/usr/bin/env python3
"""Fail on an arrow between the layers that ARCHITECTURE.md does not draw.

Four kinds of arrow are checked:

* what a crate depends on (`cargo metadata`), against ALLOWED;
* safe crates say `#![forbid(unsafe_code)]`;
* atomics of the shared-memory crate come from the one module that the model checkers can swap;
* `breakeven._native` is imported by the package and by those who test and measure it; an example, being a program as
  its author wrote it for the standard library, imports no breakeven.

Prints one line a fault, as `where: what, and what to do`. Exit code 1 if there is one.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Crate -> what its library may depend on. Dev-dependencies are free: they reach no user.
ALLOWED: dict[str, set[str]] = {
    "breakeven-shm": {"rustix", "libc", "crossbeam-utils", "thiserror"},
    "breakeven-wire": {"zerocopy"},
    "breakeven-plan": set(),
    "breakeven-trace": {"breakeven-plan", "breakeven-wire", "breakeven-shm", "minijinja", "serde", "serde_json"},
    "breakeven-python": {"breakeven-trace", "breakeven-plan", "breakeven-wire", "breakeven-shm", "pyo3", "libc"},
}
BUILD_ALLOWED: dict[str, set[str]] = {"breakeven-python": {"pyo3-build-config"}}
# A model checker replaces the primitives of the library itself, so it cannot be a dev-dependency; it passes where
# a cfg of ours switches it on, and nowhere else.
MODEL_CHECKERS = {"loom": "cfg(breakeven_loom)", "shuttle": "cfg(breakeven_shuttle)"}

SAFE_CRATES = ("wire", "plan", "trace")
ATOMICS_MAY_BE_NAMED_IN = ("primitive.rs", "layout.rs")
NATIVE_MAY_BE_IMPORTED_IN = ("python/breakeven", "tests", "bench", "scripts")


def crate_faults(metadata: dict) -> Iterator[str]:
    """Yield the forbidden arrows among the packages of a `cargo metadata --no-deps` document."""
    for package in metadata["packages"]:
        name = package["name"]
        if name not in ALLOWED:
            yield f"{name}: a crate that scripts/check_layers.py does not know; say in ALLOWED what it may use"
            continue
        for dependency in package["dependencies"]:
            used, kind, target = dependency["name"], dependency["kind"], dependency["target"]
            if kind == "dev" or (used in MODEL_CHECKERS and target == MODEL_CHECKERS[used]):
                continue
            allowed = BUILD_ALLOWED.get(name, set()) if kind == "build" else ALLOWED[name]
            if used not in allowed:
                may = ", ".join(sorted(allowed)) or "nothing"
                what = "may be built with" if kind == "build" else "may use"
                yield f"{name}: depends on {used}, but {what} {may} only"


def safety_faults(root: Path) -> Iterator[str]:
    """Yield the safe crates that do not forbid unsafe code."""
    for crate in SAFE_CRATES:
        library = root / "crates" / crate / "src" / "lib.rs"
        if "#![forbid(unsafe_code)]" not in library.read_text():
            yield f"{library.relative_to(root)}: must say #![forbid(unsafe_code)]"


def atomics_faults(root: Path) -> Iterator[str]:
    """Yield the lines of crates/shm that name core's atomics directly."""
    source = root / "crates" / "shm" / "src"
    for file in sorted(source.rglob("*.rs")):
        if file.name in ATOMICS_MAY_BE_NAMED_IN:
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = line.split("//", 1)[0]
            if re.search(r"\b(core|std)::sync::atomic\b", code):
                where = f"{file.relative_to(root)}:{number}"
                yield f"{where}: take atomics from crate::primitive, which loom and shuttle can replace"


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) for each import; a relative one is taken to be within breakeven."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = f"breakeven.{module}".rstrip(".")
            yield node.lineno, module
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def python_faults(root: Path, files: list[str]) -> Iterator[str]:
    """Yield the forbidden imports of the Python `files` (paths relative to `root`)."""
    for name in files:
        names_native = name.startswith(tuple(f"{folder}/" for folder in NATIVE_MAY_BE_IMPORTED_IN))
        is_example = name.startswith("examples/")
        for line, module in imported_modules(ast.parse((root / name).read_text(), name)):
            if module == "breakeven._native" and not names_native:
                yield f"{name}:{line}: imports breakeven._native; its users take the public names"
                break
            if is_example and module.split(".")[0] == "breakeven":
                yield f"{name}:{line}: an example is a program for the standard library; `breakeven run` does the rest"
                break


def cargo_metadata(root: Path) -> dict:
    """The workspace's own packages, as declared; needs no network."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"]
    return json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)


def python_files(root: Path) -> list[str]:
    """Python files that git knows or would add, so that environments and builds stay out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.pyi"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted(name for name in set(names) if (root / name).exists())


def main() -> int:
    """Check this repository; return the exit code."""
    files = python_files(ROOT)
    faults = [
        *crate_faults(cargo_metadata(ROOT)),
        *safety_faults(ROOT),
        *atomics_faults(ROOT),
        *python_faults(ROOT, files),
    ]
    for fault in faults:
        print(fault)
    print(f"layers: {len(ALLOWED)} crates and {len(files)} Python files checked, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
