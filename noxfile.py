"""The project's chores; CONTRIBUTING.md says which one is run when."""

import os
import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

import nox

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = sorted(
    path.parent
    for folder in ("plugins", "compat", "examples")
    for path in Path(folder).glob("*/pyproject.toml")
)
"""All but the core, whose package is here."""
DELIVERY = "tests/state/test_delivery_exhaustive.py"

for version in PYTHONS:  # pyenv's shims run only what it is set to; -p may ask for any other
    for folder in Path(os.environ.get("PYENV_ROOT", ""), "versions").glob(f"{version}.*/bin"):
        os.environ["PATH"] += os.pathsep + str(folder)

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"  # uv sync makes an old environment equal to the lock file again
nox.options.sessions = ["tests", "lint", "types", "docs", "release"]
nox.options.pythons = [CURRENT]  # without -p: once, on the interpreter that runs nox


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests of the core and of every plugin; what follows -- goes to pytest.

    A file runs in one process; ``-- -n 0`` runs all in one.
    """
    sync(session)
    pytest(session, *session.posargs)


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Run the tests that can differ between Pythons, on another one than runs nox."""
    if session.python == CURRENT:
        session.skip("`tests` has run all of them on this Python")
    sync(session)
    options = ("-m", "not slow and not long", "--hypothesis-profile=few")
    pytest(session, *options, *session.posargs)


@nox.session(python=PYTHONS)
def lint(session: nox.Session) -> None:
    """Check style, formatting, the direction of imports, and the English of the pages."""
    sync(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    session.run("python", "-m", "tools.prose")


@nox.session(python=PYTHONS)
def types(session: nox.Session) -> None:
    """Check the types of sources and tests."""
    sync(session, "--group=dev", "--group=bench")
    session.run("mypy", "noxfile.py", "d_back_core", "tests", "docs/tests", "tools")
    for package in PACKAGES:  # one by one: their test modules may have the same names
        session.run("mypy", str(package))
    session.run("mypy", "examples/d_back_cog", "bench")
    session.run("pyright", "tests/typing/api.py")


@nox.session(python=PYTHONS)
def release(session: nox.Session) -> None:
    """Build every package into dist/, check it, and install it from an index on this machine.

    ``-- publish`` then uploads it to PyPI; only the commit of the version's tag can be published.
    """
    sync(session, "--only-group=release")
    session.run("python", "-m", "tools.release", "check")
    if session.posargs == ["publish"]:
        session.run("python", "-m", "tools.release", "tag")
    shutil.rmtree("dist", ignore_errors=True)
    # Each wheel is built from its source distribution, so both are complete.
    session.run("uv", "build", "--all-packages", "--out-dir", "dist", "--quiet")
    wheels = sorted(Path("dist").glob("*.whl"))
    if len(wheels) != 1 + len(PACKAGES):
        session.error(f"expected the core and {len(PACKAGES)} packages, built {wheels}")
    for wheel in wheels:
        require_py_typed(session, wheel)
    for example in Path("examples").glob("*/pyproject.toml"):  # these are not published
        for file in Path("dist").glob(f"{example.parent.name}-*"):
            file.unlink()
    files = [str(path) for path in sorted(Path("dist").glob("d_back*"))]
    session.run("twine", "check", "--strict", *files)
    session.run("python", "-m", "tools.local_index")
    notes = session.run("python", "-m", "tools.release", "notes", silent=True)
    Path("dist/release-notes.md").write_text(str(notes), encoding="utf-8")
    if session.posargs == ["publish"]:
        session.run("uv", "publish", *files)


@nox.session(python=PYTHONS)
def docs(session: nox.Session) -> None:
    """Build the documentation's site into site/, in all languages, without a warning."""
    sync(session, "--group=dev", "--group=docs")
    shutil.rmtree("site", ignore_errors=True)
    for config in ("zensical.toml", "zensical.de.toml"):  # the second goes into the first's site
        session.run("zensical", "build", "--strict", "--clean", f"--config-file={config}")
    Path("site/de/404.html").unlink()  # the one at the root serves both languages
    single = Path(".cache/single").resolve()
    session.run("python", "-m", "tools.single_page", str(single))
    with session.chdir(single):
        session.run("zensical", "build", "--strict", "--clean", "--config-file=zensical.toml")
    Path(single, "site/404.html").unlink()
    shutil.copytree(single / "site", "site/single")
    session.run("pytest", "docs/tests")


@nox.session(python=PYTHONS)
def size(session: nox.Session) -> None:
    """Print the core's lines of code per package, and their budgets."""
    session.run("python", "-m", "tools.size")


@nox.session(python=PYTHONS)
def bench(session: nox.Session) -> None:
    """Measure the gateway against its peers, in one run; what follows -- goes to the bench."""
    sync(session, "--group=dev", "--group=bench")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session(python=PYTHONS)
def cluster(session: nox.Session) -> None:
    """Show an origin, three edges and NATS on this machine, and a take-over.

    With ``-- measure``: how long events take to an edge's clients, and what two edges carry.
    """
    sync(session)
    if session.posargs[:1] == ["measure"]:
        session.run("python", "-m", "bench.cluster.measure", *session.posargs[1:])
    else:
        session.run("python", "-m", "bench.cluster.demo")


@nox.session(python=PYTHONS)
def promise(session: nox.Session) -> None:
    """Look for a client that does not end with the truth, whatever fails.

    ``-- --minutes 30`` says how long; every run begins with the seed of ``--first-seed``.
    ``-- --exhaustive`` tries every order of eight steps of a delivery instead, in an hour.
    """
    sync(session)
    if session.posargs == ["--exhaustive"]:
        options = ["-k", "everything", "--timeout=0", "--log-cli-level=INFO"]
        session.run("pytest", *options, DELIVERY, env={"D_BACK_DELIVERY_MORE_STEPS": "3"})
        return
    session.run("python", "-m", "promise", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=PYTHONS)
def hostile(session: nox.Session) -> None:
    """Serve honest clients beside hostile ones of every kind; Linux only.

    ``-- --minutes 60`` says how long, ``--tls`` and ``--no-uvloop`` how the gateway runs.
    """
    sync(session)
    session.run("python", "-m", "hostile", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=PYTHONS)
def mutants(session: nox.Session) -> None:
    """Change the core in random places, and see if its tests fail: ``-- --sample 150``."""
    sync(session)
    session.run("python", "-m", "tools.mutants", *session.posargs)


def pytest(session: nox.Session, *options: str) -> None:
    """Run pytest in several processes; what takes long comes first, as tests/conftest.py sorts it.

    There are twice as many as cores: most tests wait for processes, networks and timers. Without
    bytecode each of the many processes that they start would compile the whole core again.
    """
    processes = f"--numprocesses={2 * (os.cpu_count() or 1)}"
    command = ("pytest", processes, "--dist=loadfile", "--no-loadscope-reorder", *options)
    session.run(*command, env={"PYTHONDONTWRITEBYTECODE": ""})


def sync(session: nox.Session, *options: str) -> None:
    """Install what uv.lock has in the groups; without options every package and tool."""
    session.run_install(
        "uv",
        "sync",
        "--locked",
        f"--python={session.virtualenv.location}",
        *(options or ("--group=dev",)),
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
    )


def require_py_typed(session: nox.Session, wheel: Path) -> None:
    """Fail where a package in the wheel would hide its types from those who import it."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = {name.split("/")[0] for name in names if name.endswith(".py") and "/" in name}
    for package in sorted(packages):
        if f"{package}/py.typed" not in names:
            session.error(f"{wheel.name}: {package}/py.typed is missing")
