"""The tests of the compiled core under AddressSanitizer and ThreadSanitizer: ``make sanitize``.

The core is built once for each, beside a copy of the package, and the tests run on that copy in an
interpreter that has the runtime of the sanitizer loaded first. What it finds ends the run with its report.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/test_core.py",
    "tests/test_core_kernels.py",
    "tests/test_core_streams.py",
    "tests/test_conv_fused.py",
    "tests/test_engine_core_convolutions.py",
    "tests/test_engine_core_plain.py",
    "tests/test_engine_core_plain_products.py",
    "tests/test_engine_images.py",
    "tests/test_engine_program.py",
    "tests/test_running.py",
    "tests/test_shapes.py",
)

# Python itself is not built for them: what it never frees would be leaks. A fork has one thread, and the
# sanitizer of threads deadlocks there: forks are tested without.
OPTIONS = {
    "address": {
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:halt_on_error=1:allocator_may_return_null=1",
        "PYTHONMALLOC": "malloc",
    },
    "thread": {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66"},
}
# More memory than there is ends a run under AddressSanitizer, where the core raises MemoryError; and both add
# symbols to the objects.
LEFT_OUT = "not fork and not test_empty_of_what_cannot_be and not test_kernel_units_share_no_symbol"


def main(wanted: list[str]) -> int:
    """Build and test under each sanitizer that is named, or both; return an exit code."""
    for sanitizer in wanted or list(OPTIONS):
        if sanitizer not in OPTIONS:
            print(f"`{sanitizer}` is no sanitizer; expected {' or '.join(OPTIONS)}.", file=sys.stderr)
            return 2
        package = build(sanitizer)
        code = run(sanitizer, package)
        if code:
            print(f"{sanitizer}: failed (exit code {code})", file=sys.stderr)
            return 1
        print(f"{sanitizer}: clean", flush=True)
    return 0


def build(sanitizer: str) -> Path:
    """Compile the core with a sanitizer; return a folder that holds it and a copy of the package."""
    folder, site = ROOT / "build" / sanitizer, ROOT / "build" / sanitizer / "site"
    tools = Path(sys.executable).parent
    generator = (
        ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}"] if (tools / "ninja").exists() else []
    )
    cmake = str(tools / "cmake") if (tools / "cmake").exists() else "cmake"
    subprocess.run(
        [cmake, "-S", str(ROOT), "-B", str(folder), *generator, f"-DSEP_SANITIZE={sanitizer}",
         "-DCMAKE_BUILD_TYPE=RelWithDebInfo", f"-DPython_EXECUTABLE={sys.executable}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    subprocess.run([cmake, "--build", str(folder)], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(ROOT / "src" / "separable", site / "separable", ignore=shutil.ignore_patterns("*.so"))
    for built in folder.glob("_core*.so"):
        shutil.copy(built, site / "separable")
    return site


def run(sanitizer: str, package: Path) -> int:
    """Run the tests on the package in `package`; return pytest's exit code."""
    compiler = os.environ.get("CXX", "c++")
    runtime = {"address": "libasan.so", "thread": "libtsan.so"}[sanitizer]
    found = subprocess.run(
        [compiler, f"-print-file-name={runtime}"], check=True, capture_output=True, text=True
    )
    # Exceptions of C++ pass through the sanitizer's runtime, which has to find the library they come from.
    library = subprocess.run(
        [compiler, "-print-file-name=libstdc++.so"], check=True, capture_output=True, text=True
    )
    log = ROOT / "build" / sanitizer / "report"  # pytest takes what goes to stderr
    for old in log.parent.glob("report.*"):
        old.unlink()
    environment = dict(os.environ)
    for name, value in OPTIONS[sanitizer].items():
        environment[name] = f"{value}:log_path={log}" if name.endswith("_OPTIONS") else value
    environment |= {
        "LD_PRELOAD": f"{found.stdout.strip()}:{library.stdout.strip()}",
        "PYTHONPATH": str(package),
    }
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-o", "timeout=3600", *TESTS]
    done = subprocess.run([*tests, "-k", LEFT_OUT], env=environment, cwd=ROOT, check=False)
    reports = [each.read_text(errors="replace") for each in sorted(log.parent.glob("report.*"))]
    for report in reports:
        print(report, file=sys.stderr)
    return done.returncode or len(reports)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
