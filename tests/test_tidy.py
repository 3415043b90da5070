"""The house rules that no general tool checks: sizes, docstrings, words, links.

A failure names file, line and what to do.
"""

import ast
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The limits.
MAX_MODULE_LINES = 400
HARD_MODULE_LINES = 500  # no reason is good enough for more
MAX_FUNCTION_LINES = 70
MAX_POSITIONAL_ARGUMENTS = 5  # without self and cls
MAX_FOLDER_MODULES = 12  # beside __init__.py
MAX_SHARED_PREFIX = 2  # modules of one folder; a third makes it a package
MAX_LINE_CHARACTERS = 160  # of Markdown, shell and the like; ruff keeps Python at 120
MAX_FILE_BYTES = 500_000

# Modules that may be longer than MAX_MODULE_LINES, each with its reason.
LONG_MODULES: dict[str, str] = {}

# Where one helper may sleep between two looks, with the reason. Everything else waits for an event.
POLLING_HELPERS = {
    "tests/support/real_fleet.py": "real machines in processes of their own tell nobody when they have changed",
    "tests/support/management_controllers.py": "programs in processes of their own tell nobody when they listen",
    "tests/support/guest_hands.py": "inside a guest; its port tells nobody that the other end has connected",
    "tests/bench/guest_usage.py": "inside a guest; time that passes is what it measures over",
}

# Words that no tracked file may contain, and what to do instead. This file is the exception.
BANNED_WORDS = {
    r"\b(TODO|FIXME|XXX)\b": "do it, or open an issue",
    r"\bNotImplementedError\b": "implement it, or declare a Protocol",
    r"pragma: no cover": "test it, or remove it",
    r"(?<![\w.$}-])/(work|root|tmp/(brief|proto|bash_jobs))/": "a path of one machine; make it a setting",
    r"\b(deb|ftp|security|snapshot)\.([a-z]+\.)?debian\.org": "a registry's host name; ask apt which mirror it uses",
    r"\b(pypi\.org|pythonhosted\.org|registry\.npmjs|docker\.io)\b": "a registry's host name; make it a setting",
    r"(?i)\b(claude|anthropic|copilot|chatgpt)\b": "say what the product does, not what wrote it",
    r"(?i)\bprompts?\b(?!\s*=)(?<!click\.prompt)": "ambiguous; say question, or message",
}

# Where text is told to be a number.
DIGIT_HELPERS = ("controller/domain/bounds.py", "agent/domain/numbers.py")

# Targets of other people's Makefiles that our texts mention.
FOREIGN_MAKE_TARGETS = {"bindeb-pkg", "binrpm-pkg", "defconfig", "tinyconfig"}

# What parsers are tried with: bytes of any kind, and no text of ours.
CORPUS = "tests/fuzz/corpus/"
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
DIRECTORIES_OF_CODE = ("controller", "agent", "protos")
# Their folders are as small as those of the code.
FOLDERS_OF_TESTS = ("tests/unit",)
PURE = ("controller/gate/", "controller/domain/", "controller/views/", "agent/domain/")
# Where a test may wait for real time to pass: real sockets and real machines, and hosts that a benchmark paces.
TESTS_THAT_MAY_WAIT = ("tests/component/", "tests/e2e/", "tests/bench/hostile.py")


@cache
def tracked() -> tuple[str, ...]:
    """Return every file that is tracked or about to be, relative to the root."""
    # The checkout may belong to another user than the one who tests it.
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return tuple(sorted(name for name in set(listed.split("\0")) if name and (ROOT / name).is_file()))


@cache
def text(name: str) -> str:
    """Return a file's text, empty for one that is not text."""
    data = b"" if name.startswith(CORPUS) else (ROOT / name).read_bytes()
    return "" if b"\0" in data else data.decode()


def python_files(*, of_tests: bool = True) -> Iterator[str]:
    """Yield the Python files written by hand."""
    for name in tracked():
        if name.endswith(".py") and not GENERATED.search(name) and (of_tests or not name.startswith("tests/")):
            yield name


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(text(name), filename=name)


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the dotted name of what is called."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def report(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_modules_are_short() -> None:
    problems = []
    for name in python_files():
        lines = text(name).count("\n")
        limit = HARD_MODULE_LINES if name in LONG_MODULES else MAX_MODULE_LINES
        if lines > limit:
            problems.append(f"{name}: {lines} lines, the limit is {limit}: split it by what its parts are about")
    problems += [f"LONG_MODULES names {name}, which is not there" for name in LONG_MODULES if name not in tracked()]
    report(problems)


def test_numbers_are_of_ascii_digits() -> None:
    """Other scripts have digits too ("²", "٣"), which `int` refuses or takes for ours."""
    problems = [
        f"{name}:{call.lineno}: {called}() takes digits of every script: use digits() of {' or '.join(DIGIT_HELPERS)}"
        for name in python_files(of_tests=False)
        if name not in DIGIT_HELPERS
        for called, call in calls(name)
        if called.rpartition(".")[2] in {"isdigit", "isdecimal", "isnumeric"}
    ]
    report(problems)


def test_functions_are_short() -> None:
    problems = []
    for name in python_files():
        for function in functions(name):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                problems.append(f"{name}:{function.lineno}: {function.name}: {lines} lines of {MAX_FUNCTION_LINES}")
    report(problems)


def test_functions_take_few_positional_arguments() -> None:
    problems = []
    for name in python_files():
        for function in functions(name):
            positional = [a.arg for a in function.args.posonlyargs + function.args.args if a.arg not in {"self", "cls"}]
            if len(positional) > MAX_POSITIONAL_ARGUMENTS:
                problems.append(f"{name}:{function.lineno}: {function.name}: {len(positional)}; put * before the last")
    report(problems)


def test_every_module_says_what_it_is() -> None:
    problems = []
    for name in python_files():
        docstring = ast.get_docstring(tree(name), clean=True)
        if not docstring:
            problems.append(f"{name}:1: no docstring")
        elif not docstring.splitlines()[0].endswith((".", "?")):
            problems.append(
                f"{name}:1: the docstring's first line is not a whole sentence: {docstring.splitlines()[0]!r}"
            )
    report(problems)


def test_every_folder_of_code_is_a_package() -> None:
    folders = {Path(name).parent for name in python_files() if name.startswith(DIRECTORIES_OF_CODE)}
    # Files for another interpreter, such as a guest's, are data of the package above them.
    report([f"{folder}: no __init__.py" for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()])


def test_folders_hold_few_modules_and_no_hidden_package() -> None:
    folders: dict[Path, list[str]] = {}
    for name in python_files():
        if name.startswith((*DIRECTORIES_OF_CODE, *FOLDERS_OF_TESTS)):
            folders.setdefault(Path(name).parent, []).append(Path(name).stem.removeprefix("test_"))
    problems = []
    for folder, files in sorted(folders.items()):
        modules = [module for module in files if module not in ("__init__", "__main__")]
        if len(modules) > MAX_FOLDER_MODULES:
            problems.append(f"{folder}: {len(modules)} modules, the limit is {MAX_FOLDER_MODULES}: make packages")
        shared = Counter(module.partition("_")[0] for module in modules)
        problems += [
            f"{folder}: {count} modules begin with {prefix}_: make them a package"
            for prefix, count in shared.items()
            if count > MAX_SHARED_PREFIX
        ]
    report(problems)


def test_dataclasses_are_slotted_keyword_only_and_frozen_where_it_is_pure() -> None:
    problems = []
    for name in python_files(of_tests=False):
        for node in ast.walk(tree(name)):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                written = ast.unparse(decorator)
                if not re.match(r"(dataclasses\.)?dataclass\b", written):
                    continue
                required = [p for p in node.body if isinstance(p, ast.AnnAssign) and p.value is None]
                # A pair reads well without names. State that lives in the shell, or within one module, may change.
                wanted = {
                    "slots": True,
                    "kw_only": len(required) > 2,
                    "frozen": name.startswith(PURE) and not node.name.startswith("_"),
                }
                missing = [word for word, must in wanted.items() if must and f"{word}=True" not in written]
                if missing:
                    problems.append(f"{name}:{node.lineno}: dataclass without {', '.join(missing)}")
    report(problems)


def test_no_banned_words() -> None:
    patterns = {re.compile(pattern): advice for pattern, advice in BANNED_WORDS.items()}
    problems = []
    for name in tracked():
        if name in {"tests/test_tidy.py", "LICENSE"} or GENERATED.search(name):
            continue
        for number, line in enumerate(text(name).splitlines(), 1):
            problems += [
                f"{name}:{number}: {match[0]!r}: {advice}"
                for pattern, advice in patterns.items()
                if (match := pattern.search(line))
            ]
    report(problems)


def test_silenced_checks_say_which_and_why() -> None:
    silenced = re.compile(r"#\s*(type:\s*ignore|noqa)\b")
    coded = r"#\s*(type:\s*ignore\[[a-z, -]+\]|noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)"
    explained = re.compile(coded + r"\W+\w+\W+\w+")
    problems = []
    for name in python_files():
        if name == "tests/test_tidy.py":
            continue
        lines = text(name).splitlines()
        for number, line in enumerate(lines, 1):
            above = lines[number - 2].strip() if number > 1 else ""
            if silenced.search(line) and not (
                explained.search(line) or (above.startswith("#") and re.search(coded, line))
            ):
                problems.append(f"{name}:{number}: write the rule's code, and the reason beside or above it")
    report(problems)


def test_skipped_tests_say_why() -> None:
    problems = []
    for name in tracked():
        if not (name.startswith("tests/") and name.endswith(".py")):
            continue
        for called, call in calls(name):
            if called in {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}:
                if "reason" not in {keyword.arg for keyword in call.keywords}:
                    problems.append(f"{name}:{call.lineno}: {called} without reason=")
            elif called == "pytest.skip" and not (call.args or call.keywords):
                problems.append(f"{name}:{call.lineno}: pytest.skip without a reason")
        problems += [
            f"{name}: bare @pytest.mark.skip" for line in text(name).splitlines() if line.strip() == "@pytest.mark.skip"
        ]
    report(problems)


def test_tests_do_not_sleep() -> None:
    problems = []
    for name in tracked():
        if not (name.startswith("tests/") and name.endswith(".py")):
            continue
        for called, call in calls(name):
            waits = called == "asyncio.sleep" and not (call.args and ast.unparse(call.args[0]) == "0")
            polls = called == "time.sleep" and name not in POLLING_HELPERS
            if polls or (waits and not name.startswith(TESTS_THAT_MAY_WAIT)):
                problems.append(f"{name}:{call.lineno}: {called}: inject the clock, or wait for an event")
    report(problems)


def test_test_files_are_named_uniquely() -> None:
    names = Counter(Path(name).name for name in tracked() if name.startswith("tests/") and name.endswith(".py"))
    problems = [
        f"tests: {count} files named {name}" for name, count in names.items() if count > 1 and name != "conftest.py"
    ]
    problems += [f"{name}: tests are no package" for name in tracked() if re.match(r"tests/(.+/)?__init__\.py$", name)]
    report(problems)


def test_text_files_are_clean() -> None:
    problems = []
    for name in tracked():
        if (ROOT / name).stat().st_size > MAX_FILE_BYTES:
            problems.append(f"{name}: larger than {MAX_FILE_BYTES} bytes; does it belong here?")
        content = text(name)
        if not content or GENERATED.search(name) or name == "LICENSE":
            continue
        if not content.endswith("\n") or content.endswith("\n\n"):
            problems.append(f"{name}: must end with exactly one newline")
        for number, line in enumerate(content.splitlines(), 1):
            if line != line.rstrip():
                problems.append(f"{name}:{number}: trailing white space")
            if len(line) > MAX_LINE_CHARACTERS and not re.search(
                r"https?://|^\||\.(txt|json|svg|log)$", f"{line}\n{name}"
            ):
                problems.append(f"{name}:{number}: {len(line)} characters, the limit is {MAX_LINE_CHARACTERS}")
    report(problems)


def test_shell_scripts_parse() -> None:
    problems = []
    for name in tracked():
        first = text(name).partition("\n")[0]
        if not re.match(r"#!.*\b(bash|sh)\b", first):
            continue
        shell = "bash" if "bash" in first else "sh"
        checked = subprocess.run(
            [shell, "-n", str(ROOT / name)], capture_output=True, text=True, timeout=60, check=False
        )
        if checked.returncode:
            problems.append(checked.stderr.strip())
        if shell == "bash" and "set -euo pipefail" not in text(name):
            problems.append(f"{name}: a bash script starts with set -euo pipefail")
    report(problems)


def headings(name: str) -> set[str]:
    """Return the anchors that a Markdown file's headings make."""
    titles = re.findall(r"^#+\s+(.+?)\s*$", text(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_in_the_documentation_lead_somewhere() -> None:
    problems = []
    for name in (n for n in tracked() if n.endswith(".md")):
        for number, line in enumerate(text(name).splitlines(), 1):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = (ROOT / name).parent / path if path else ROOT / name
                if not file.exists():
                    problems.append(f"{name}:{number}: {target} is not there")
                elif anchor and anchor not in headings(str(file.resolve().relative_to(ROOT))):
                    problems.append(f"{name}:{number}: no heading for #{anchor}")
    report(problems)


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", text("Makefile"), re.MULTILINE)) | FOREIGN_MAKE_TARGETS
    problems = []
    for name in (n for n in tracked() if n.endswith(".md")):
        code = re.findall(r"`[^`\n]+`", text(name)) + re.findall(r"^```.*?^```", text(name), re.MULTILINE | re.DOTALL)
        for target in re.findall(r"(?:^|[`;&$]\s*)make ([a-z][a-z0-9-]*)", "\n".join(code), re.MULTILINE):
            if target not in targets:
                problems.append(f"{name}: make {target} is no target of the Makefile")
    report(problems)


def test_the_distribution_is_whole() -> None:
    project = tomllib.loads(text("pyproject.toml"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    problems = [f"pyproject.toml: package {p} is not there" for p in packages if f"{p}/__init__.py" not in tracked()]
    for script, entry in project["project"]["scripts"].items():
        module, _, function = entry.partition(":")
        base = module.replace(".", "/")
        files = [n for n in (f"{base}.py", f"{base}/__init__.py") if n in tracked()]
        names = {getattr(node, "name", None) for n in files for node in ast.walk(tree(n))} | {
            alias.asname or alias.name
            for n in files
            for node in ast.walk(tree(n))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        if function not in names:
            problems.append(f"pyproject.toml: {script} starts {entry}, which is not there")
    version = project["project"]["version"]
    for name in ("agent/__init__.py", "controller/__init__.py"):
        found = re.search(r'^__version__ = "(.+)"$', text(name), re.MULTILINE)
        if found and found[1] != version:
            problems.append(f"{name}: version {found[1]}, pyproject.toml says {version}")
    report(problems)
