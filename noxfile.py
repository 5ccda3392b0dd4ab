"""Sessions over Python versions, such as `nox -s tests-3.12`; missing versions are skipped."""

import nox

VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=VERSIONS)
def tests(session: nox.Session) -> None:
    """The fast tests."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=VERSIONS)
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it without the source tree, and run the command."""
    session.install("build")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--wheel", "--outdir", folder)
    (file,) = session.run("python", "-c", f"import glob; print(*glob.glob('{folder}/*.whl'))",
                          silent=True).split()  # fmt: skip
    session.install(file)
    with session.chdir(folder):
        session.run("oodml", "--version")
        session.run("python", "-c", "import oodml; oodml.load_model; print(oodml.names('losses'))")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the package and a sample of user code."""
    session.install("-e", ".[check]")
    session.run("mypy")
    session.run("mypy", "--strict", "tests/typing/user_code.py")
