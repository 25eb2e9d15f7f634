"""The rules of the house that no linter knows; prints what breaks them, and exits with 1."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 600
BANNER = re.compile(r"^\s*#\s*([-=#*~_])\1{3,}")
LEFT_OVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
# Not a path inside the repository, nor a part of a longer word or address.
MACHINE_PATH = re.compile(r"(?<![\w./~-])/(work|root|home|Users|tmp/\w)(?=[/\s\"'`),.:]|$)")
UNSAFE_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "subprocess", "marshal", "shelve")
UNSAFE_CALLS = ("eval", "exec", "compile", "print", "__import__", "breakpoint")


def tracked() -> list[Path]:
    """All files that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return [path for name in sorted(set(listed.stdout.split("\0"))) if name and (path := ROOT / name).is_file()]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file; nothing of a binary one."""
    try:
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    except UnicodeDecodeError:
        return


def check_lines(path: Path) -> Iterator[tuple[int, str]]:
    """What is wrong with single lines of any file."""
    if path == Path(__file__).resolve():
        return
    for number, line in texts(path):
        if MACHINE_PATH.search(line):
            yield number, "names a path of one machine"
        if path.suffix == ".py" and BANNER.match(line):
            yield number, "is a banner comment"
        if path.suffix == ".py" and LEFT_OVER.search(line):
            yield number, "leaves work for later"


def check_package(path: Path) -> Iterator[tuple[int, str]]:
    """What is wrong with a file of the package."""
    source = path.read_text(encoding="utf-8")
    n_lines = source.count("\n")
    if n_lines > MOST_LINES:
        yield n_lines, f"is the last line of more than {MOST_LINES}; find the two ideas in it"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        yield from unsafe(node)
    yield from undocumented(tree.body, path.name.startswith("_") and path.name != "__init__.py")


def unsafe(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Calls and imports that run code from elsewhere, or write to the terminal."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in modules:
            if module.partition(".")[0] in UNSAFE_MODULES:
                yield node.lineno, f"imports {module}"
    if not isinstance(node, ast.Call):
        return
    called = ast.unparse(node.func)
    if called in UNSAFE_CALLS or called in ("os.system", "os.popen"):
        yield node.lineno, f"calls {called}"
    if called in ("torch.load", "np.load", "numpy.load", "joblib.load"):
        safe = {"torch.load": ("weights_only", True)}.get(called, ("allow_pickle", False))
        options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        if options.get(safe[0]) is not safe[1]:
            yield node.lineno, f"calls {called} without {safe[0]}={safe[1]}"


def undocumented(body: list[ast.stmt], private: bool) -> Iterator[tuple[int, str]]:
    """Public classes, functions and methods without a docstring, and public classes without an example.

    In a private file, and in a torch module, a docstring is enough: nobody starts there.
    """
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None and not is_accessor(node):
            yield node.lineno, f"{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, private)


def is_accessor(node: ast.stmt) -> bool:
    """Whether the node is a property's setter, which shares the docstring of the property."""
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(d, ast.Attribute) and d.attr in ("setter", "deleter") for d in decorators)


def without_example() -> Iterator[tuple[Path, int, str]]:
    """Classes that a public ``__all__`` names and whose docstring shows no use."""
    import inspect
    from importlib import import_module

    for package in (
        "skfusion",
        "skfusion.inspection",
        "skfusion.imputation",
        "skfusion.singlecell",
        "skfusion.datasets",
    ):
        if not (ROOT / package.replace(".", "/") / "__init__.py").is_file():
            continue
        module = import_module(package)
        for name in module.__all__:
            found = getattr(module, name)
            if (inspect.isclass(found) or inspect.isfunction(found)) and "Examples\n" not in (found.__doc__ or ""):
                path = Path(inspect.getsourcefile(found) or "")
                yield path, inspect.getsourcelines(found)[1], f"{name} is public and has no Examples section"


def main() -> int:
    """Print every breach; return how the process exits."""
    found = []
    for path in tracked():
        found += [(path, line, text) for line, text in check_lines(path)]
        if path.suffix == ".py" and path.is_relative_to(ROOT / "skfusion"):
            found += [(path, line, text) for line, text in check_package(path)]
    found += without_example()
    for path, line, text in found:
        print(f"{path.relative_to(ROOT)}:{line} {text}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
