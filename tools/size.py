"""Count the core's lines of code per package, and compare them with their budgets.

A line of code is a line that is not blank, not only a comment and not in a docstring. A string
that stands alone below an attribute is a docstring, too. A comment that only switches off a check
(``noqa``, ``type:``) is not counted as a comment.

    python -m tools.size
"""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path
from typing import NamedTuple, TypeGuard

CORE = Path(__file__).parents[1] / "d_back_core"
MODULES = "modules"
"""What the top-level modules of the core are counted as."""
LEFT_OUT = {"client"}
"""Top-level modules that are not part of the gateway."""

BUDGETS = {
    "models to state": (3500, (MODULES, "chain", "config", "providers", "state")),
    "gateway and wire": (1000, ("gateway", "wire")),
    "embedding": (450, ("embedding",)),
    "admin and cli": (700, ("admin", "cli")),
}
"""Group → its budget in lines of code, and its packages."""
COMMENTED = ("state", "providers")
COMMENTS_WANTED = 6.0
"""Comments per 100 lines of code in the packages that are hard to read without them."""

LAYOUT = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


class Size(NamedTuple):
    """Lines of code, and comments."""

    code: int
    comments: int

    @property
    def density(self) -> float:
        """Comments per 100 lines of code."""
        return 100 * self.comments / self.code if self.code else 0.0

    def plus(self, other: "Size") -> "Size":
        """Return both together."""
        return Size(self.code + other.code, self.comments + other.comments)


def size_of(source: str) -> Size:
    """Count one module."""
    code: set[int] = set()
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments += not token.string.lstrip("# ").startswith(("noqa", "type:"))
        elif token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if is_docstring(node):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return Size(len(code), comments)


def is_docstring(node: ast.AST) -> TypeGuard[ast.Expr]:
    """Return True for a string that stands alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def sizes() -> dict[str, Size]:
    """Count each package of the core; the top-level modules together are one."""
    found: dict[str, Size] = {}
    for path in sorted(CORE.rglob("*.py")):
        inside = path.relative_to(CORE)
        if inside.stem in LEFT_OUT and len(inside.parts) == 1:
            continue
        package = inside.parts[0] if len(inside.parts) > 1 else MODULES
        size = size_of(path.read_text(encoding="utf-8"))
        found[package] = found.get(package, Size(0, 0)).plus(size)
    return found


def totals(found: dict[str, Size]) -> dict[str, int]:
    """Return the lines of code of each group."""
    counted = Counter[str]()
    for group, (_, packages) in BUDGETS.items():
        counted[group] = sum(found[package].code for package in packages)
    return dict(counted)


def report() -> str:
    """Return the packages, the groups with their budgets, and the comments."""
    found = sizes()
    lines = [f"{'package':<20}{'code':>8}{'comments per 100':>20}"]
    for package, size in found.items():
        lines.append(f"{package:<20}{size.code:>8,}{size.density:>20.1f}")
    lines += ["", f"{'group':<20}{'code':>8}{'budget':>20}"]
    for group, code in totals(found).items():
        budget, _ = BUDGETS[group]
        over = f"  over by {code - budget:,}" if code > budget else ""
        lines.append(f"{group:<20}{code:>8,}{budget:>20,}{over}")
    lines.append("")
    for package in COMMENTED:
        density = found[package].density
        few = "  too few" if density < COMMENTS_WANTED else ""
        wanted = f"at least {COMMENTS_WANTED:g} wanted"
        lines.append(f"{package}: {density:.1f} comments per 100 lines, {wanted}{few}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())  # noqa: T201  it is a command
