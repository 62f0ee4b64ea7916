"""Where each family of peers runs: an environment of its own under `.bench/`, made when a case first needs it.

What cannot be had here raises `Missing` with the reason, which the results show.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
HOME = ROOT / ".bench"


class Missing(Exception):
    """A peer that this machine cannot have, and why."""


@dataclass(frozen=True)
class Environment:
    """How programs of a family are started: the command before the program, and what the OS environment gets."""

    command: tuple[str, ...]
    variables: dict[str, str]
    version: str


_made: dict[str, Environment | Missing] = {}


def environment(name: str) -> Environment:
    """The environment of that name, made at first use.

    Raises:
        Missing: it cannot be had.
    """
    if name not in _made:
        try:
            _made[name] = _MAKERS[name]()
        except Missing as why:
            _made[name] = why
    found = _made[name]
    if isinstance(found, Missing):
        raise found
    return found


def versions() -> dict[str, str]:
    """What was used, by environment."""
    return {name: str(made) if isinstance(made, Missing) else made.version for name, made in sorted(_made.items())}


def _ours() -> Environment:
    # The checkout comes first, whatever is installed.
    return Environment((sys.executable,), {"PYTHONPATH": str(ROOT / "src")}, _commit(ROOT))


def add_checkout(name: str, folder: Path) -> None:
    """Let the environment `name` be another checkout of compactor, to compare with."""
    if not (folder / "src" / "compactor").is_dir():
        raise SystemExit(f"{folder} is no checkout of compactor: it has no src/compactor")
    _made[name] = Environment((sys.executable,), {"PYTHONPATH": str(folder / "src")}, _commit(folder))


def _commit(folder: Path) -> str:
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not in git"
    return found.stdout.strip()


def _run(command: list[str], what: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{what}: {error}") from None
    if done.returncode:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise Missing(f"{what}: {last}")
    return done.stdout


def _pip(name: str, *requirements: str, python: str = sys.executable) -> Callable[[], Environment]:
    def make() -> Environment:
        folder = HOME / name
        binary = folder / "bin" / "python"
        stamp = folder / ".installed"
        wanted = " ".join([python, *requirements])
        if not (stamp.is_file() and stamp.read_text().splitlines()[0] == wanted):
            interpreter = shutil.which(python)
            if interpreter is None:
                raise Missing(f"{python} is not found")
            shutil.rmtree(folder, ignore_errors=True)
            print(f"installing {' '.join(requirements)} into {folder}", file=sys.stderr)
            _run([interpreter, "-m", "venv", str(folder)], "no environment")
            install = [str(binary), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
            _run(install, f"pip cannot install {' '.join(requirements)}", cwd=ROOT)
            frozen = _run([str(binary), "-m", "pip", "freeze", "--disable-pip-version-check"], "pip freeze")
            named = " ".join(sorted(line for line in frozen.splitlines() if not line.startswith(("-e", "#"))))
            stamp.write_text(f"{wanted}\n{named}\n")
        return Environment((str(binary),), {}, stamp.read_text().splitlines()[1])

    return make


def _with_ours(name: str, *requirements: str) -> Callable[[], Environment]:
    """An environment that has compactor's dependencies as well, and the checkout before all."""
    make = _pip(name, *requirements, "httptools", "protobuf", "tornado")

    def make_with_ours() -> Environment:
        made = make()
        return Environment(made.command, {"PYTHONPATH": str(ROOT / "src")}, made.version)

    return make_with_ours


def _legacy() -> Environment:
    """Make that of compactor 0.3.0, unpatched, with what it runs with on CPython 3.11."""
    python = os.environ.get("INTEROP_PYTHON311") or (
        sys.executable if sys.version_info[:2] == (3, 11) else "python3.11"
    )
    return _pip("legacy", "--no-deps", "-r", "interop/legacy/requirements.txt", python=python)()


def debian(folder: Path, binary: str, packages: list[str]) -> Path:
    """Unpack Debian packages into a folder, installing nothing; return it.

    Raises:
        Missing: this is no Debian, or the packages cannot be had.
    """
    if not (folder / binary).exists():
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise Missing(f"{' '.join(packages)}: no {tool} here to get Debian's packages with")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(f"unpacking Debian's {' '.join(packages)} into {folder}", file=sys.stderr)
        download = ["apt-get", "download", "-qq", *packages]
        what = f"apt-get cannot download {' '.join(packages)}"
        try:
            _run(download, what, cwd=folder)
        except Missing:
            if os.geteuid() != 0:
                raise
            _run(["apt-get", "update", "-qq"], what)
            _run(download, what, cwd=folder)
        for package in sorted(folder.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(folder)], f"cannot unpack {package.name}")
        if not (folder / binary).exists():
            raise Missing(f"{' '.join(packages)}: there is no {binary} in it")
    return folder


def _erlang() -> Environment:
    installed = Path("/usr/lib/erlang")
    if not (installed / "bin" / "erl").exists():
        installed = debian(HOME / "erlang", "usr/lib/erlang/bin/erl", ["erlang-base"]) / "usr/lib/erlang"
    emulators = sorted(installed.glob("erts-*/bin"))
    if not emulators:
        raise Missing(f"no erts in {installed}")
    variables = {"ERLANG_ROOT": str(installed), "ERLANG_BIN": str(emulators[-1])}
    release = sorted(path.name for path in (installed / "releases").glob("[0-9]*") if path.is_dir())
    version = f"Erlang/OTP {release[-1] if release else '?'}, {emulators[-1].parent.name}"
    return Environment((sys.executable,), variables, version)


def _wrk() -> Environment:
    found = shutil.which("wrk")
    variables = {"WRK": found or ""}
    if found is None:
        folder = debian(HOME / "wrk", "usr/bin/wrk", ["wrk", "libluajit-5.1-2"])
        variables["WRK"] = str(folder / "usr/bin/wrk")
        variables["WRK_LIBRARIES"] = ":".join(str(path) for path in folder.glob("usr/lib/*-linux-gnu*"))
    return Environment((sys.executable,), variables, "wrk")


_MAKERS: dict[str, Callable[[], Environment]] = {
    "compactor": _ours,
    "python": lambda: Environment((sys.executable,), {}, sys.version.split()[0]),
    "uvloop": _with_ours("uvloop", "uvloop"),
    "legacy": _legacy,
    "erlang": _erlang,
    "wrk": _wrk,
    "plots": _pip("plots", "matplotlib"),
    **{
        name: _pip(name, requirement)
        for name, requirement in (
            ("pyzmq", "pyzmq"),
            ("pykka", "pykka"),
            ("thespian", "thespian"),
            ("xoscar", "xoscar"),
            ("tapio", "tapio-py"),
            ("grpcio", "grpcio"),
        )
    },
}
