"""Compiles what is worth it into the package where that is possible; elsewhere the references in Python run.

A built module lies beside its source, and is built anew only when that is newer. Where one cannot be built, the
install goes on without it, and a line beside the source keeps the reason for ``onetape check``.
"""
import os
import shlex
import shutil
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = (
    "onetape.book._kernel", "onetape.model._numbers", "onetape.candles._running", "onetape.tape._validation",
    "onetape.feed._liveness",
)


class KernelHook(BuildHookInterface):
    """hatchling finds it by its base class; pyproject.toml calls it for wheels, those of editable installs included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        missing: dict[str, str] = {}  # module, and why
        for module in MODULES:
            source = Path(self.root, "src", *module.split(".")).with_suffix(".pyx")
            built = source.with_name(f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}")
            reason = source.with_name(f"{source.stem}.missing.txt")
            why = "" if _fresh(built, source) else _lacking() or _build(module, source, built)
            if why:
                missing[module] = why
                with suppress(OSError):  # where nothing can be written nothing can be noted either
                    built.unlink(missing_ok=True)  # of an older source: it would run all the same
                    reason.write_text(why + "\n", encoding="utf-8")
            else:
                reason.unlink(missing_ok=True)
                build_data["pure_python"], build_data["infer_tag"] = False, True
            result = reason if why else built
            if version == "standard" and result.exists():  # an editable install finds it where it lies
                build_data["force_include"][str(result)] = str(result.relative_to(Path(self.root, "src")))
        if missing:
            whys = ", ".join(dict.fromkeys(missing.values()))
            self.app.display_warning(f"onetape: pure Python runs instead of {', '.join(missing)}: {whys}")


def _fresh(built: Path, source: Path) -> bool:
    """What one module says of itself to the others stands in a .pxd."""
    made_of = (source, Path(__file__), *source.parents[1].glob("*/_*.pxd"))
    return built.exists() and built.stat().st_mtime >= max(it.stat().st_mtime for it in made_of)


def _lacking() -> str:
    """What is missing for compiling anything; empty: nothing that can be seen beforehand."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "")  # none on Windows: see _build
    if command and shutil.which(command[0]) is None:
        return f"no C compiler ({command[0]})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "no Python.h: Python's headers are a package of their own here"
    return ""


def _build(module: str, source: Path, built: Path) -> str:
    """Why there is nothing built; empty: there is. An error of Cython is ours, and raised."""
    from Cython.Build import cythonize  # noqa: PLC0415 - without a compiler nothing of this is needed
    from setuptools import Distribution, Extension  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415
    from setuptools.errors import BaseError, CCompilerError  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        extension = Extension(module, [str(source)], extra_compile_args=[] if os.name == "nt" else ["-O3", "-g0"])
        command = build_ext(Distribution({"ext_modules": cythonize([extension], build_dir=folder, quiet=True)}))
        command.build_lib = command.build_temp = folder
        command.ensure_finalized()
        try:
            command.run()
        except (BaseError, CCompilerError, OSError) as error:
            said = str(error).rpartition("' ")[2]  # behind the command, which is long and names folders that are gone
            return f"the C compiler failed: {said or error}"
        # Moved, not written over: a process that runs the old one has it mapped.
        made = built.with_suffix(".new")
        try:
            shutil.copyfile(Path(folder, *module.split(".")[:-1], built.name), made)
            made.replace(built)
        except OSError as error:
            return f"it cannot be put beside its source: {error}"
    return ""
