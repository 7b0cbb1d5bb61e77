"""The build: a compiled book where there is a C compiler; without one an install that goes on, and says so."""
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from onetape import PURE
from onetape.book import COMPILED
from onetape.service.check import why_not_compiled

ROOT = Path(__file__).parents[2]
BUILT = f"_kernel{sysconfig.get_config_var('EXT_SUFFIX')}"
ABSENT = [it for it in ("hatchling", "editables", "Cython", "setuptools") if find_spec(it) is None]
COMPILER = shutil.which((os.environ.get("CC") or sysconfig.get_config_var("CC") or "none").split()[0])
HEADERS = Path(sysconfig.get_path("include"), "Python.h")
SMALL = "# cython: language_level=3\nclass OrderBook: pass\ndef merged(books, depth=0): pass\n"  # compiled in a second

builds = pytest.mark.skipif(bool(ABSENT), reason=f"what builds wheels is not installed: {', '.join(ABSENT)}")
compiles = pytest.mark.skipif(
    COMPILER is None or not HEADERS.exists(), reason=f"no C compiler, or no {HEADERS}: nothing to compile with",
)


@compiles
@pytest.mark.skipif(PURE, reason="ONETAPE_PURE is set")
def test_where_it_can_be_compiled_it_is_what_runs():
    """A checkout in which the build failed would pass all its tests with the reference alone."""
    assert COMPILED, why_not_compiled()


@pytest.fixture
def tree(tmp_path):
    """A checkout in which nothing is built."""
    files = ("pyproject.toml", "requirements.lock", "hatch_build.py", "Makefile", "README.md", "LICENSE", ".gitignore")
    for name in files:
        shutil.copy2(ROOT / name, tmp_path)
    unbuilt = shutil.ignore_patterns("__pycache__", "_*.so", "_*.pyd", "_*.missing.txt")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=unbuilt)
    return tmp_path


@pytest.fixture
def small(tree):
    for it in (tree / "src/onetape").glob("*/_*.p[xy][dx]"):
        it.write_text("# cython: language_level=3\n")
    (tree / "src/onetape/book/_kernel.pyx").write_text(SMALL)
    return tree


def build(tree, kind="wheel", **environment):
    """What was made, and what was said."""
    out = tree / "out"
    code = f"import hatchling.build; hatchling.build.build_{kind}({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=os.environ | environment, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = out.iterdir()
    return made, (done.stdout + done.stderr).strip()


def runs(code, tree):
    """What a Python prints that has the package from there, and nothing from the environment."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith("ONETAPE_")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env=bare | {"PYTHONPATH": str(tree)}, capture_output=True, text=True,
        check=True,
    ).stdout.strip()


def unpacked(wheel):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent)
    return wheel.parent


WHICH = "from onetape.book import OrderBook, COMPILED; print(OrderBook.__module__, COMPILED)"
WHY = "from onetape.service.check import why_not_compiled; print(why_not_compiled())"


@builds
@compiles
def test_a_wheel_carries_the_kernel_and_is_for_one_platform_alone(small):
    wheel, said = build(small)
    assert "pure Python" not in said
    assert not wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(it).name for it in archive.namelist() if Path(it).name.startswith("_kernel")}
    assert names == {BUILT, "_kernel.pyx", "_kernel.pyi"}
    assert runs(WHICH, unpacked(wheel)) == "onetape.book._kernel True"


@builds
@pytest.mark.parametrize(("environment", "why"), [
    ({"CC": "/nonexistent"}, "no C compiler (/nonexistent)"),
    ({"CC": "", "PATH": "/nonexistent"}, "no C compiler (gcc)"),
    ({"CC": "false"}, "the C compiler failed: "),
], ids=["named wrongly", "not there", "broken"])
def test_without_a_compiler_the_install_goes_on_and_says_so(small, environment, why):
    if "PATH" in environment and (sysconfig.get_config_var("CC") or "").split()[:1] != ["gcc"]:
        pytest.skip("this Python's compiler is not called gcc")
    wheel, said = build(small, **environment)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert said.startswith("onetape: pure Python runs instead of onetape.book._kernel, ")
    assert f": {why}" in said
    assert len(said.splitlines()) == 1
    installed = unpacked(wheel)
    assert runs(WHICH, installed) == "onetape.book.order_book False"
    assert runs(WHY, installed).startswith(f"no compiled kernel: {why}")


@builds
@compiles
def test_an_editable_install_finds_it_beside_its_source_built_anew_only_when_that_is_newer(small):
    source, built = small / "src/onetape/book/_kernel.pyx", small / "src/onetape/book" / BUILT
    build(small, "editable")
    first = built.stat()
    shutil.rmtree(small / "out")
    build(small, "editable")
    assert built.stat() == first
    os.utime(source, ns=(first.st_mtime_ns + 10**9,) * 2)
    shutil.rmtree(small / "out")
    build(small, "editable")
    assert built.stat().st_ino != first.st_ino  # another file: who runs the old one keeps it
    assert sorted(it.name for it in built.parent.glob("_kernel*")) == sorted([BUILT, "_kernel.pyi", "_kernel.pyx"])
    assert runs(WHICH, small / "src") == "onetape.book._kernel True"


@builds
@compiles
def test_a_kernel_of_an_older_source_does_not_stay_when_no_new_one_can_be_built(small):
    source, built = small / "src/onetape/book/_kernel.pyx", small / "src/onetape/book" / BUILT
    build(small, "editable")
    os.utime(source, ns=(built.stat().st_mtime_ns + 10**9,) * 2)
    shutil.rmtree(small / "out")
    build(small, "editable", CC="/nonexistent")
    assert not built.exists()
    assert runs(WHY, small / "src") == "no compiled kernel: no C compiler (/nonexistent)"
    shutil.rmtree(small / "out")
    build(small, "editable")
    assert built.exists()
    assert not (built.parent / "_kernel.missing.txt").exists()


@builds
def test_an_error_in_our_own_source_ends_the_build(small):
    (small / "src/onetape/book/_kernel.pyx").write_text("cdef int broken(:\n")
    code = "import hatchling.build; hatchling.build.build_wheel('out')"
    done = subprocess.run([sys.executable, "-c", code], cwd=small, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "_kernel.pyx" in done.stdout + done.stderr


@builds
def test_a_source_distribution_carries_the_source_and_nothing_built(small):
    (small / "src/onetape/book" / BUILT).write_bytes(b"built")
    (small / "src/onetape/book/_kernel.missing.txt").write_text("why")
    made, _ = build(small, "sdist")
    with tarfile.open(made) as archive:
        names = {it.partition("/")[2] for it in archive.getnames()}
    assert {it for it in names if "_kernel" in it} == {"src/onetape/book/_kernel.pyx", "src/onetape/book/_kernel.pyi"}
    assert {"hatch_build.py", "pyproject.toml"} <= names


def test_make_installs_again_when_the_kernel_was_edited(tree):
    if shutil.which("make") is None:
        pytest.skip("no make here")
    (tree / ".venv").mkdir()
    for name in (".made", ".test", ".run"):
        (tree / ".venv" / name).touch()
    question = ["make", "--question", "-C", tree, ".venv/.test", ".venv/.run"]
    assert subprocess.run(question, check=False).returncode == 0
    for name in ("src/onetape/book/_kernel.pyx", "hatch_build.py"):
        before = (tree / name).stat()
        os.utime(tree / name, ns=(2 * 10**9 + (tree / ".venv/.run").stat().st_mtime_ns,) * 2)
        assert subprocess.run(question, check=False).returncode == 1
        os.utime(tree / name, ns=(before.st_mtime_ns,) * 2)


def test_what_is_compiled_is_what_the_build_knows_and_what_may_be_turned_off():
    sources = {".".join(it.relative_to(ROOT / "src").with_suffix("").parts) for it in (ROOT / "src").rglob("_*.pyx")}
    for text in ((ROOT / "hatch_build.py").read_text(), (ROOT / "src/onetape/__init__.py").read_text()):
        assert all(it.removeprefix("onetape.") in text for it in sources)
