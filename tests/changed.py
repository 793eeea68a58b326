"""Which files differ from main, and which tests belong to them: what `launch/test.sh --fast` runs.

python -m tests.changed files     the changed Python files, for style and types
python -m tests.changed tests     the tests to run
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ALWAYS = ("tests/test_architecture.py", "tests/test_pages.py")


def git(*arguments: str) -> list[str]:
    """The lines that git prints; none where it fails."""
    told = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return told.stdout.splitlines() if told.returncode == 0 else []


def changed_files() -> list[str]:
    """The files that differ from main, in commits or in the working tree; on main itself those of
    the working tree, or of the last commit where nothing is uncommitted.
    """
    here = git("diff", "--name-only", "HEAD") + git("ls-files", "--others", "--exclude-standard")
    ahead = git("diff", "--name-only", "main...HEAD")
    last = git("diff", "--name-only", "HEAD~1", "HEAD") if not (here or ahead) else []
    return sorted({f for f in (*here, *ahead, *last) if Path(f).is_file()})


def belonging(files: Iterable[str]) -> list[str]:
    """The test files and directories to run for changed files."""
    found = set(ALWAYS)
    for file in map(Path, files):
        parts, module = file.parts, ".".join(file.with_suffix("").parts)
        if parts[0] == "experiments":
            found.add("tests/contracts/test_experiments.py")
        elif parts[0] == "tests" and file.name.startswith("test_"):
            found.add(str(file))
        elif parts[0] == "tests" and len(parts) > 2:  # an oracle, data or goldens of a directory
            found.add(f"tests/{parts[1]}" if parts[1] != "goldens" else "tests/contracts")
        elif parts[0] == "tests":  # what all tests share, or what some import
            users = [t for t in Path("tests").rglob("test_*.py") if module in t.read_text()]
            shared = file.name == "conftest.py" or not users
            found |= {"tests/contracts"} if shared else {str(t) for t in users}
        elif parts[0] == "vilg" and file.suffix == ".py":
            found |= of_module(module, parts[1] if len(parts) > 2 else "")
    kept = {f for f in found if Path(f).exists()}
    return sorted(f for f in kept if not any(str(p) in kept for p in Path(f).parents))


def of_module(module: str, package: str) -> set[str]:
    """The tests that import the module, of its package's directory and of the contracts; the whole
    directory where none does. A module beside the packages brings the contracts.
    """
    if not package:
        return {"tests/contracts"}
    where = (f"tests/{package}", "tests/contracts")
    name = f"test_{module.rsplit('.', 1)[-1]}"
    own = {
        str(test)
        for directory in where
        for test in Path(directory).rglob("test_*.py")
        if test.stem.startswith(name) or f"{module} import" in test.read_text()
    }
    return own if any(test.startswith(where[0]) for test in own) else {*own, where[0]}


def typed(files: Iterable[str]) -> list[str]:
    """The files whose types are checked."""
    checked = ("vilg/", "experiments/", "tests/")
    return [f for f in files if f.endswith(".py") and f.startswith(checked)]


if __name__ == "__main__":
    for found in {"typed": typed, "tests": belonging}[sys.argv[1]](changed_files()):
        print(found)
