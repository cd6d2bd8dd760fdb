"""Builds the CPU kernels ahead of time where a C++ compiler and torch are at hand; installs without them elsewhere.

The shared object uses torch's stable ABI and nothing of Python, so one build serves every torch from 2.10 on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# pip looks up pyproject.toml's requirement only where it isolates the build
if int(setuptools.__version__.partition(".")[0]) < 77:
    sys.exit(f"bnrnn: building needs setuptools 77 or newer, not {setuptools.__version__} (pip install -U setuptools)")
from setuptools.command.bdist_wheel import bdist_wheel

SOURCES = Path("src/bnrnn/csrc")
X86 = platform.machine().lower() in ("x86_64", "amd64")
# The shared object carries this, and an editable install compares it with the sources at hand.
DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]*")))).hexdigest()
COMMON_FLAGS = ["-O3", "-std=c++17", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-g0"]
OPERATORS = [
    "library.cpp",
    "recurrence.cpp",
    "stream.cpp",
    "averages.cpp",
    "instruction_sets.cpp",
    "older_libraries.cpp",
]
ISA_FLAGS = {
    "isa_baseline.cpp": [],
    "isa_avx2.cpp": ["-mavx2", "-mfma"],
    "isa_avx512.cpp": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}


def torch_folder() -> Path | None:
    """The torch whose headers serve: of this environment, else of the one that pip installs into.

    pip's isolation takes the latter from the path. It is looked up there all the same: the headers are those of the
    stable ABI, so that of which torch they are makes no difference, and without them there would be no kernels.
    """
    found = importlib.util.find_spec("torch") or PathFinder.find_spec(
        "torch", [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    )
    return Path(found.origin).parent if found is not None and found.origin is not None else None


class BuildKernels(build_ext):
    """Compiles each instruction set's file with its own flags; a failure leaves the package without kernels."""

    def build_extensions(self) -> None:
        torch = torch_folder()
        if torch is None:
            self._without("no torch here, nor where this is to be installed: install torch first")
            return
        if sys.platform == "win32":
            self._without("only GCC and Clang are supported")
            return
        for extension in self.extensions:
            extension.include_dirs += [str(torch / "include"), str(torch / "include/torch/csrc/api/include")]
            extension.library_dirs.append(str(torch / "lib"))
            extension.libraries.append("torch_cpu")
            if sys.platform == "linux":
                extension.extra_compile_args.append("-D_GLIBCXX_USE_CXX11_ABI=1")
        compile_one = self.compiler._compile

        def with_isa_flags(obj: str, src: str, ext: str, cc_args: list[str], extra: list[str], pp: list[str]) -> None:
            compile_one(obj, src, ext, cc_args, [*extra, *ISA_FLAGS.get(Path(src).name, [])], pp)

        self.compiler._compile = with_isa_flags
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:  # whatever a missing or unfit compiler raises
            self._without(str(error))

    def _without(self, reason: str) -> None:
        print(f"bnrnn: installing without CPU kernels: {reason}", file=sys.stderr)

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))


class PlatformWheel(bdist_wheel):
    """The shared object depends on the platform and on no version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "bnrnn._kernels",
            sources=[
                str(SOURCES / name)
                for name in [*OPERATORS, "isa_baseline.cpp", *(["isa_avx2.cpp", "isa_avx512.cpp"] if X86 else [])]
            ],
            depends=[str(path) for path in sorted(SOURCES.glob("*.h"))],
            define_macros=[
                ("TORCH_TARGET_VERSION", "0x020a000000000000"),
                ("BNRNN_SOURCES", f'"{DIGEST}"'),
                *([("BNRNN_X86", None)] if X86 else []),
            ],
            extra_compile_args=COMMON_FLAGS,
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"bdist_wheel": PlatformWheel, "build_ext": BuildKernels},
)
