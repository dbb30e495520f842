"""Measure the tests: change the core in one place, and see if its tests fail.

    uv run nox -s mutants -- --sample 150 --seed 1

takes a random sample of all possible changes in the packages of `TESTS`. Each is made in a copy of
the tree, one after the other, and the tests of the folder with the same name run on it. A change
that no test notices has *survived*: a test is missing, or the code is not needed. Some survive
because they change nothing that matters, such as a longer log line.

mutmut and cosmic-ray do not fit. mutmut 3 changes functions only, and adds all variants of a
function to its module at once, behind a wrapper: the core checks the signatures of hooks, and
reads structs when classes are made. cosmic-ray 8 changes the tree that it runs in, has one test
command for all modules, does not remove statements, and takes no sample.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[1]
TESTS = {
    f"d_back_core/{name}": f"tests/{name}"
    for name in ("chain", "state", "providers", "wire", "gateway")
}
"""The packages that are changed, and the folder of the tests that have to notice it."""
COPIED = ("d_back_core", "tests", "plugins", "docs", "pyproject.toml", "README.md")
REPLACED = {"==": "!=", "<": "<=", ">": ">=", "is": "is not", "in": "not in", "and": "or"}
REPLACED |= {after: before for before, after in REPLACED.items()}
OPERATOR = re.compile(r"is\s+not\b|not\s+in\b|\b(?:is|in|and|or)\b|[=!<>]=|[<>]")
REMOVED = (ast.AugAssign, ast.Delete, ast.Raise, ast.Break, ast.Continue)
OUTPUT = "output.txt"
"""The output of the last run of the tests, in the copy."""
FAILED, PASSED = 1, 0
"""Exit statuses of pytest. Others mean that it could not run the tests: an import failed."""
SLOWER = 3
"""Times that the tests may take as long as without a change."""
SPARE = 30.0
"""Seconds that they may take in addition."""


class Mutation(NamedTuple):
    """A change of one place of a file, by offsets in its bytes: positions of `ast` are bytes."""

    path: str
    line: int
    column: int
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.before, self.after))
        return f"{self.path}:{self.line}:{self.column}: {before:.60}  →  {after:.60}"


class Source:
    """A file, and all of its mutations."""

    def __init__(self, path: str, content: bytes) -> None:
        self._path = path
        self._content = content
        self._starts = [0]
        for line in content.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def mutations(self) -> Iterator[Mutation]:
        yield from self._of(ast.parse(self._content))

    def _of(self, node: ast.AST) -> Iterator[Mutation]:
        yield from self._at(node)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns"}:  # they have no effect when the tests run
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self._of(child)

    def _at(self, node: ast.AST) -> Iterator[Mutation]:
        """Yield the mutations of a node, without those of the nodes in it."""
        match node:
            case ast.Compare(left=left, comparators=others):
                yield from self._operators([left, *others])
            case ast.BoolOp(values=values):
                yield from self._operators(values)
            case ast.Constant(value=bool(value)):
                yield self._replaced(node, str(not value))
            case ast.Constant(value=int(value) | float(value)):
                yield self._replaced(node, repr(value + 1))
                yield self._replaced(node, repr(value - 1))
            case ast.Expr(value=ast.Call() | ast.Await()):
                yield self._replaced(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield self._replaced(node, "pass")
            case _ if isinstance(node, REMOVED):
                yield self._replaced(node, "pass")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self._replaced(node, f"({self._text(node.operand)})")
        test = getattr(node, "test", None)  # of if, while, and a conditional expression
        if isinstance(test, ast.expr) and not isinstance(test, ast.UnaryOp | ast.Compare):
            yield self._replaced(test, f"(not ({self._text(test)}))")

    def _operators(self, operands: list[ast.expr]) -> Iterator[Mutation]:
        """Replace each operator between two operands."""
        for one, other in pairwise(operands):
            start, end = self._end(one), self._start(other)
            between = self._content[start:end].decode()
            found = OPERATOR.search(between)
            if found is not None:
                operator = REPLACED[" ".join(found[0].split())]
                after = between[: found.start()] + operator + between[found.end() :]
                whole = self._text(one) + after + self._text(other)
                yield self._mutation(one, self._start(one), self._end(other), whole)

    def _replaced(self, node: ast.expr | ast.stmt, after: str) -> Mutation:
        return self._mutation(node, self._start(node), self._end(node), after)

    def _mutation(self, at: ast.expr | ast.stmt, start: int, end: int, after: str) -> Mutation:
        before = self._content[start:end].decode()
        return Mutation(self._path, at.lineno, at.col_offset + 1, start, end, before, after)

    def _text(self, node: ast.expr | ast.stmt) -> str:
        return self._content[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        line, column = node.end_lineno, node.end_col_offset
        if line is None or column is None:
            raise TypeError("a node of a parsed file has an end")
        return self._starts[line - 1] + column


class Copy:
    """A copy of the tree, in which the tests run."""

    def __init__(self, folder: Path, per_test: float) -> None:
        self._folder = folder
        self._per_test = per_test
        self._limits: dict[str, float] = {}
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder)

    def measure(self, tests: str) -> float:
        """Run the tests without a change; they must pass. Return the seconds that they took."""
        began = monotonic()
        status = self._run(tests, None)
        took = monotonic() - began
        if status != PASSED:
            output = (self._folder / OUTPUT).read_text(errors="replace")
            raise click.ClickException(f"{tests} fails without a change:\n{output[-2000:]}")
        self._limits[tests] = SLOWER * took + SPARE
        return took

    def outcome(self, mutation: Mutation) -> str:
        """Make the change, run the tests, and take it back."""
        changed = self._folder / mutation.path
        content = changed.read_bytes()
        after = mutation.after.encode()
        changed.write_bytes(content[: mutation.start] + after + content[mutation.end :])
        try:
            tests = tests_of(mutation.path)
            status = self._run(tests, self._limits[tests])
        finally:
            changed.write_bytes(content)
        if status == PASSED:
            return "survived"
        if status is None:
            return "found: the tests take too long"
        return (
            f"found by {self._failed_test()}"
            if status == FAILED
            else "found: the tests cannot run"
        )

    def _failed_test(self) -> str:
        """Return the test that failed. If it has nothing to do with the change, it may be one that
        fails on a busy machine."""
        output = (self._folder / OUTPUT).read_text(errors="replace")
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
        return failed[1] if failed else "a crash"

    def _run(self, tests: str, limit: float | None) -> int | None:
        """Run the tests until the first failure. Return the exit status, None if it takes longer
        than the limit."""
        # Nothing is written below the sources: the bytecode of a file that changes within a
        # second, and keeps its size, would be used for the next one.
        environment = os.environ | {"PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"}
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={self._per_test:g}"]
        with (self._folder / OUTPUT).open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  our own Python
                [sys.executable, "-m", "pytest", *options, tests],
                cwd=self._folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            kill_session(process)


def kill_session(process: "subprocess.Popen[bytes]") -> None:
    """End pytest and every process that a test has started."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def tests_of(path: str) -> str:
    return TESTS[str(Path(path).parent)]


def all_mutations() -> list[Mutation]:
    """Return all mutations of all packages, in a fixed order."""
    return [
        mutation
        for package in TESTS
        for path in sorted((ROOT / package).glob("*.py"))
        for mutation in Source(str(path.relative_to(ROOT)), path.read_bytes()).mutations()
    ]


@click.command()
@click.option("--sample", default=50, help="Number of changes.", show_default=True)
@click.option("--seed", default=0, help="Seed of the sample.", show_default=True)
@click.option("--per-test", default=30.0, help="Seconds that a test may take.", show_default=True)
@click.option("--only", type=click.Choice([*TESTS]), help="Change this package only.")
@click.option("--list", "only_list", is_flag=True, help="Print the sample, and run nothing.")
def main(sample: int, seed: int, per_test: float, only: str | None, *, only_list: bool) -> None:
    """Change the core in one place, and see if its tests fail."""
    possible = [
        each for each in all_mutations() if only is None or tests_of(each.path) == TESTS[only]
    ]
    chosen = sorted(Random(seed).sample(possible, min(sample, len(possible))))  # noqa: S311
    click.echo(f"{len(chosen)} of {len(possible)} changes, seed {seed}")
    if only_list:
        for mutation in chosen:
            click.echo(str(mutation))
        return
    survived = []
    with tempfile.TemporaryDirectory(prefix="d-back-mutants-") as folder:
        copy = Copy(Path(folder), per_test)
        for tests in sorted({tests_of(each.path) for each in chosen}):
            click.echo(f"{tests} without a change: {copy.measure(tests):.0f} s")
        for mutation in chosen:
            began = monotonic()
            outcome = copy.outcome(mutation)
            click.echo(f"{mutation}\n    {outcome}, {monotonic() - began:.0f} s")
            if outcome == "survived":
                survived.append(mutation)
    click.echo(f"{len(chosen) - len(survived)} found, {len(survived)} survived")
    for mutation in survived:
        click.echo(f"survived: {mutation}")


if __name__ == "__main__":
    main()
