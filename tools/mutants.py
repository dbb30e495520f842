"""Measure the tests: change the core in one place, and see if its tests fail.

    uv run nox -s mutants -- --sample 150 --seed 1

takes a random sample of all possible changes in `PACKAGES`. First all of `TESTS` run, to see which
functions each of them calls. Then each change is made in a copy of the tree, one after the other,
and tests that call the changed function run on it: first those of a file with the module's name,
then the fastest, and at last those that call another function of the file, all within
``--budget``. A change that none of them notices has *survived*: a test is missing, or the code is
not needed. Some survive because they change nothing that matters, such as a longer log line.

mutmut and cosmic-ray do not fit. mutmut 3 changes functions only, and adds all variants of a
function to its module at once, behind a wrapper: the core checks the signatures of hooks, and
reads structs when classes are made. cosmic-ray 8 changes the tree that it runs in, has one test
command for all modules, does not remove statements, and takes no sample.
"""

import ast
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic
from typing import NamedTuple

import click
import msgspec
from msgspec import Struct

from tools import calls
from tools.calls import Calls
from tools.tree_copy import ROOT, TreeCopy

PACKAGES = tuple(
    f"d_back_core/{name}" for name in ("chain", "state", "providers", "wire", "gateway")
)
"""The packages that are changed."""
TESTS = (
    *(f"tests/{name}" for name in ("chain", "state", "providers", "wire", "gateway")),
    *("tests/embedding", "tests/promise", "tests/test_client.py"),
)
"""The tests that have to notice it."""
REPLACED = {"==": "!=", "<": "<=", ">": ">=", "is": "is not", "in": "not in", "and": "or"}
REPLACED |= {after: before for before, after in REPLACED.items()}
OPERATOR = re.compile(r"is\s+not\b|not\s+in\b|\b(?:is|in|and|or)\b|[=!<>]=|[<>]")
DECLARED = {"eq", "frozen", "gc", "kw_only"}
"""Options of a class that say how its code may use it; without them it works as well."""
REMOVED = (ast.AugAssign, ast.Delete, ast.Raise, ast.Break, ast.Continue)
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
                if isinstance(child, ast.keyword) and child.arg in DECLARED:
                    continue
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


class Finder:
    """Runs, in a copy of the tree, the tests that call a changed function."""

    def __init__(self, copy: TreeCopy, calls: Sequence[Calls], budget: float) -> None:
        """``budget``: the seconds that the tests of one change take without it."""
        self._copy = copy
        self._tests = calls
        self._budget = budget

    def outcome(self, mutation: Mutation) -> str:
        """Make the change, run the tests, and take it back."""
        tests = list(self._within_budget(self.tests_of(mutation)))
        if not tests:
            return "survived: no test calls this"
        content = (self._copy.folder / mutation.path).read_bytes()
        after = mutation.after.encode()
        changed = content[: mutation.start] + after + content[mutation.end :]
        limit = SLOWER * sum(each.seconds for each in tests) + SPARE
        with self._copy.changed(mutation.path, changed):
            return str(self._copy.run([each.test for each in tests], limit))

    def tests_of(self, mutation: Mutation) -> list[Calls]:
        """Return the tests that call the function around the change, then those that call another
        function of its file: what runs in a thread is not seen. Of each kind, those whose file has
        the module's name come first."""
        name = _function_around(self._copy.folder / mutation.path, mutation.line)
        module = Path(mutation.path).stem
        ranked = []
        for each in self._tests:
            called = {function for path, function in each.functions if path == mutation.path}
            if called:
                is_named = module in each.test.partition("::")[0]
                is_seen = name is None or name in called
                ranked.append((not is_seen, not is_named, each.seconds, each.test, each))
        return [each for *_, each in sorted(ranked)]

    def _within_budget(self, tests: list[Calls]) -> Iterator[Calls]:
        spent = 0.0
        for each in tests:
            if spent + each.seconds <= self._budget or not spent:
                spent += each.seconds
                yield each


def _function_around(path: Path, line: int) -> str | None:
    """Return the qualified name of the innermost function around that line."""
    found = None

    def look_into(parent: ast.AST, prefix: str) -> None:
        nonlocal found
        for node in ast.iter_child_nodes(parent):
            name = prefix + (getattr(node, "name", "") or "")  # `case _` has None
            match node:
                case ast.ClassDef():
                    look_into(node, f"{name}.")
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    # Its decorators and defaults belong to what is around it.
                    if node.body[0].lineno <= line <= (node.end_lineno or 0):
                        found = name
                        look_into(node, f"{name}.<locals>.")
                case _:
                    look_into(node, prefix)

    look_into(ast.parse(path.read_bytes()), "")
    return found


class Measured(Struct):
    """What each test calls, of these sources."""

    sources: str
    """A digest. With tests that are gone since, pytest runs none, and each change would count as
    found."""
    tests: list[Calls]


def measured(copy: TreeCopy, known: Path | None) -> list[Calls]:
    """Return what each test calls; from the file if it exists, else it is written."""
    sources = digest()
    if known is not None and known.exists():
        kept = msgspec.json.decode(known.read_bytes(), type=Measured)
        if kept.sources != sources:
            raise click.UsageError(f"--calls '{known}': is of other sources (delete the file)")
        return kept.tests
    click.echo(copy.run_unchanged(TESTS, ["-p", "tools.calls"]))
    tests = msgspec.json.decode((copy.folder / calls.OUTPUT).read_bytes(), type=list[Calls])
    if known is not None:
        known.write_bytes(msgspec.json.encode(Measured(sources, tests)))
    return tests


def digest() -> str:
    """Return a digest of the core and its tests."""
    found = hashlib.sha256()
    for folder in ("d_back_core", "tests", "plugins/d_back_testing"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def all_mutations() -> list[Mutation]:
    """Return all mutations of all packages, in a fixed order."""
    return [
        mutation
        for package in PACKAGES
        for path in sorted((ROOT / package).glob("*.py"))
        for mutation in Source(str(path.relative_to(ROOT)), path.read_bytes()).mutations()
    ]


@click.command()
@click.option("--sample", default=50, help="Number of changes.", show_default=True)
@click.option("--seed", default=0, help="Seed of the sample.", show_default=True)
@click.option("--per-test", default=60.0, help="Seconds that a test may take.", show_default=True)
@click.option(
    "--budget", default=120.0, help="Seconds of tests for one change.", show_default=True
)
@click.option("--only", type=click.Choice(PACKAGES), help="Change this package only.")
@click.option("--list", "only_list", is_flag=True, help="Print the sample, and run nothing.")
@click.option(
    "--calls",
    "known",
    type=click.Path(path_type=Path),
    help="A file for what each test calls: read if it exists, else written. For several seeds.",
)
def main(  # noqa: PLR0913  one for each option
    *,
    sample: int,
    seed: int,
    per_test: float,
    budget: float,
    only: str | None,
    known: Path | None,
    only_list: bool,
) -> None:
    """Change the core in one place, and see if its tests fail."""
    possible = [each for each in all_mutations() if only in {None, str(Path(each.path).parent)}]
    chosen = sorted(Random(seed).sample(possible, min(sample, len(possible))))  # noqa: S311
    click.echo(f"{len(chosen)} of {len(possible)} changes, seed {seed}")
    if only_list:
        for mutation in chosen:
            click.echo(str(mutation))
        return
    survived = []
    with tempfile.TemporaryDirectory(prefix="d-back-mutants-") as folder:
        copy = TreeCopy(Path(folder), per_test)
        began = monotonic()
        finder = Finder(copy, measured(copy, known), budget)
        click.echo(f"what each test calls: {monotonic() - began:.0f} s")
        for mutation in chosen:
            began = monotonic()
            outcome = finder.outcome(mutation)
            click.echo(f"{mutation}\n    {outcome}, {monotonic() - began:.0f} s")
            if outcome.startswith("survived"):
                survived.append(mutation)
    click.echo(f"{len(chosen) - len(survived)} found, {len(survived)} survived")
    for mutation in survived:
        click.echo(f"survived: {mutation}")


if __name__ == "__main__":
    main()
