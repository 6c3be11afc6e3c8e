"""House rules that no other linter checks, over every file git knows or would know.

`make lint` and tests/tidy run it. Each rule yields `file:line: what is wrong; what to do`.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
ARGUMENTS_MAX = 6  # the aim is 4
PACKAGES = ("skerry", "scheduler", "control_plane", "workload_plane", "tools", "migrations")
BANNED_MODULES = frozenset({"utils", "helpers", "common", "manager", "base", "misc", "constants"})
# word -> what to say; only in our own prose and names (glossary, docs/glossary.md)
BANNED_WORDS = {
    r"\bworker nodes?\b": "plane or node",
    r"\bpods?\b": "replica",
    r"\bnode groups?\b": "pool",
    r"\bTODO\b": "an issue",
    r"\bFIXME\b": "an issue",
}
GENERATED = ("skerry/api/",)
Finding = str


def tracked() -> list[Path]:
    """Return every file that is, or would be, in the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file()]


def name_of(path: Path) -> str:
    """Return the path as people read it."""
    return path.relative_to(ROOT).as_posix()


def is_ours(path: Path) -> bool:
    """Say whether the Python file is written by hand."""
    return path.suffix == ".py" and not name_of(path).startswith(GENERATED)


def check_python(path: Path) -> Iterator[Finding]:
    """Yield what is wrong with one Python file's shape."""
    name = name_of(path)
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{name}:1: {lines} lines, at most {FILE_LINES_MAX}; name the second idea, move it"
    if path.stem in BANNED_MODULES:
        yield f"{name}:1: says nothing; name the module after what it holds"
    tree = ast.parse(text)
    mark_nested(tree)
    if name.startswith(PACKAGES) and not ast.get_docstring(tree):
        yield f"{name}:1: no module docstring; say what lives here and who calls it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from check_function(name, node)


def check_function(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    """Yield what is wrong with one function."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES_MAX:
        yield f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    counted = [a for a in arguments if a.arg not in ("self", "cls")]
    if len(counted) > ARGUMENTS_MAX and not name.startswith(("tests/", "skerry/cli/")):
        yield f"{name}:{node.lineno}: {node.name} takes {len(counted)} arguments; make a value"
    public = not node.name.startswith("_") and name.startswith(PACKAGES)
    if public and not ast.get_docstring(node) and not _is_nested(node):
        yield f"{name}:{node.lineno}: {node.name} has no docstring"


def _is_nested(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return getattr(node, "skerry_nested", False)


def mark_nested(tree: ast.AST) -> None:
    """Mark functions inside functions and private classes: they are nobody's interface."""
    for outer in ast.walk(tree):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(outer):
                if inner is not outer:
                    inner.skerry_nested = True  # type: ignore[attr-defined]
        if isinstance(outer, ast.ClassDef) and (outer.name.startswith("_") or outer.bases):
            # A private class is its module's own; an override is documented where it is declared.
            for inner in outer.body:
                inner.skerry_nested = True  # type: ignore[attr-defined]


def check_words(path: Path) -> Iterator[Finding]:
    """Yield words that the glossary bans."""
    name = name_of(path)
    if path.suffix not in (".py", ".md", ".proto", ".sh") or name.startswith(GENERATED):
        return
    if name in ("tools/tidy.py", "docs/glossary.md"):
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for pattern, better in BANNED_WORDS.items():
            if re.search(pattern, line):
                yield f"{name}:{number}: {pattern} is not our word; say {better}"


def check_markdown(path: Path) -> Iterator[Finding]:
    """Yield markdown files without exactly one title."""
    if path.suffix != ".md":
        return
    fenced = False
    titles = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        titles += not fenced and line.startswith("# ")
    changelog_entry = name_of(path).startswith("changes/")
    if titles != (0 if changelog_entry else 1):
        yield f"{name_of(path)}:1: {titles} titles (`# `), must be {0 if changelog_entry else 1}"


def check_migrations(paths: list[Path]) -> Iterator[Finding]:
    """Yield migrations that do not stand in one line of descent."""
    parents: dict[str, str] = {}
    for path in paths:
        name = name_of(path)
        if not name.startswith("migrations/versions/") or path.suffix != ".py":
            continue
        text = path.read_text(encoding="utf-8")
        down = re.search(r"^down_revision[^=]*= (.+)$", text, re.MULTILINE)
        parent = down.group(1).strip() if down else "?"
        if parent in parents:
            yield f"{name}:1: has the same parent as {parents[parent]}; migrations are one line"
        parents[parent] = name


def check_fakes(paths: list[Path]) -> Iterator[Finding]:
    """Yield fakes that no contract suite mentions."""
    suites = " ".join(
        path.read_text(encoding="utf-8")
        for path in paths
        if name_of(path).startswith("tests/contract/") and path.suffix == ".py"
    )
    for path in paths:
        name = name_of(path)
        is_fake = name.startswith("tests/fakes/") and path.suffix == ".py"
        if is_fake and path.stem != "__init__" and f"fakes.{path.stem}" not in suites:
            yield f"{name}:1: no suite in tests/contract/ runs it, as the real thing must"


def check_dead_modules(paths: list[Path]) -> Iterator[Finding]:
    """Yield modules that nothing imports and nobody starts."""
    ours = [p for p in paths if is_ours(p) and name_of(p).split("/")[0] in PACKAGES[:4]]
    everything = "\n".join(
        p.read_text(encoding="utf-8")
        for p in paths
        if p.suffix in (".py", ".toml", ".sh", ".md") or p.name == "Makefile"
    )
    for path in ours:
        module = name_of(path)[:-3].replace("/", ".")
        if path.stem in ("__init__", "__main__", "main"):
            continue
        parent, _, leaf = module.rpartition(".")
        used = module in everything or re.search(
            rf"from {re.escape(parent)} import [^\n]*\b{leaf}\b", everything
        )
        multi = re.search(
            rf"from {re.escape(parent)} import \([^)]*\b{leaf}\b", everything, re.DOTALL
        )
        if not used and not multi:
            yield f"{name_of(path)}:1: nothing imports it; use it or delete it"


def findings() -> Iterator[Finding]:
    """Yield every finding over the whole tree."""
    paths = tracked()
    for path in paths:
        if is_ours(path):
            yield from check_python(path)
        yield from check_words(path)
        yield from check_markdown(path)
    yield from check_migrations(paths)
    yield from check_fakes(paths)
    yield from check_dead_modules(paths)


def main() -> int:
    """Print the findings; return how the process should end."""
    found = sorted(set(findings()))
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
