"""scripts/check_layers.py: it passes on this tree, and catches each kind of forbidden arrow."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def layers():
    spec = importlib.util.spec_from_file_location("check_layers", ROOT / "scripts" / "check_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name, *dependencies):
    keys = ("name", "kind", "target")
    return {"name": name, "dependencies": [dict(zip(keys, (*d, None, None)[:3], strict=True)) for d in dependencies]}


def write(root, name, text):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return name


@pytest.mark.parametrize(
    ("crate", "dependency"),
    [
        ("breakeven-plan", ("breakeven-shm",)),
        ("breakeven-plan", ("rand",)),
        ("breakeven-shm", ("pyo3",)),
        ("breakeven-shm", ("breakeven-wire",)),
        ("breakeven-wire", ("breakeven-shm",)),
        ("breakeven-trace", ("pyo3",)),
        ("breakeven-python", ("rayon",)),
        ("breakeven-shm", ("cc", "build")),
        ("breakeven-shm", ("loom",)),  # without the cfg it would reach users
        ("breakeven-shm", ("loom", None, "cfg(unix)")),
        ("breakeven-new", ("libc",)),
    ],
)
def test_a_forbidden_arrow_between_crates_is_caught(layers, crate, dependency):
    faults = list(layers.crate_faults({"packages": [package(crate, dependency)]}))
    assert len(faults) == 1
    assert faults[0].startswith(f"{crate}:")


def test_allowed_arrows_pass(layers):
    packages = [package(crate, *((used,) for used in allowed)) for crate, allowed in layers.ALLOWED.items()]
    packages.append(package("breakeven-plan", ("proptest", "dev"), ("breakeven-shm", "dev")))
    packages.append(package("breakeven-shm", ("loom", None, "cfg(breakeven_loom)")))
    packages.append(package("breakeven-python", ("pyo3-build-config", "build")))
    assert list(layers.crate_faults({"packages": packages})) == []


def test_a_safe_crate_must_forbid_unsafe(layers, tmp_path):
    for crate in layers.SAFE_CRATES:
        write(tmp_path, f"crates/{crate}/src/lib.rs", "#![forbid(unsafe_code)]\n")
    assert list(layers.safety_faults(tmp_path)) == []
    write(tmp_path, "crates/plan/src/lib.rs", "//! pure\n")
    assert [fault.split(":")[0] for fault in layers.safety_faults(tmp_path)] == ["crates/plan/src/lib.rs"]


def test_atomics_are_named_in_one_module(layers, tmp_path):
    write(tmp_path, "crates/shm/src/primitive.rs", "pub use core::sync::atomic::AtomicU32;\n")
    write(tmp_path, "crates/shm/src/channel/ring.rs", "use crate::primitive::AtomicU32; // not core::sync::atomic\n")
    assert list(layers.atomics_faults(tmp_path)) == []
    write(tmp_path, "crates/shm/src/arena/mod.rs", "\nuse core::sync::atomic::AtomicU32;\n")
    assert [fault.split(": ")[0] for fault in layers.atomics_faults(tmp_path)] == ["crates/shm/src/arena/mod.rs:2"]


@pytest.mark.parametrize("statement", ["import breakeven._native", "from breakeven import _native as n"])
def test_native_is_for_the_package(layers, tmp_path, statement):
    inside = write(tmp_path, "python/breakeven/queues.py", statement)
    outside = write(tmp_path, "docs/snippet.py", statement)
    assert [fault.split(":")[0] for fault in layers.python_faults(tmp_path, [inside, outside])] == [outside]


@pytest.mark.parametrize("statement", ["import breakeven as mp", "from breakeven import Pool", "import breakeven.pool"])
def test_an_example_is_written_for_the_stdlib(layers, tmp_path, statement):
    example = write(tmp_path, "examples/squares.py", f"import multiprocessing\n{statement}\n")
    plain = write(tmp_path, "examples/plain.py", "import multiprocessing\n# breakeven run this\n")
    assert [fault.split(":")[0] for fault in layers.python_faults(tmp_path, [example, plain])] == [example]


def test_this_tree_passes(layers, capsys):
    code = layers.main()
    assert code == 0, capsys.readouterr().out
