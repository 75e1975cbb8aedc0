"""A throw-away virtual environment for plugins, in which all that is installed here can be imported."""

import contextlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

IMPORTED = (
    "pytest",
    "torch._dynamo",
    "cvr_plugins.cli",
    "cvr_plugins.grid",
    "cvr_plugins.rechub",
    "cvr_plugins.testing",
)
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    told = {{"module": {module!r}, "arguments": sys.argv, "folder": os.getcwd(), "variables": dict(os.environ)}}
    told |= {{"interpreter": {interpreter!r}, "packages": {packages!r}}}
    message = json.dumps(told).encode()
    socket.send_fds(connection, [len(message).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(message)
    sys.exit(int(connection.recv(8) or 70))
"""


class Workshop:
    """A process that has imported what programs of all environments import, and forks itself for each run of one.

    A program starts in a moment, then, instead of importing torch once more; what an environment has installed is
    found and imported anew in each run.
    """

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.address = os.path.join(self._folder.name, "workshop")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, __file__, self.address]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "open\n", "the workshop did not start"

    def close(self):
        """End it."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


class PluginEnvironment:
    """The environment in a new `folder`, with the programs `python`, `pip`, `pytest` and `cvr-plugins`.

    Its `pip` installs without dependencies, which are all there, and without the network where hatchling is installed.
    `pytest` and `cvr-plugins` run in `workshop`.
    """

    def __init__(self, folder, workshop):
        self.bin = folder / "bin"
        self.interpreter = str(self.bin / "python")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.packages = Path(self.python("-c", code).stdout.strip())
        # addsitedir and not a bare path, which would leave out what is installed as editable.
        packages = sysconfig.get_path("purelib")
        (self.packages / "packages.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
        told = {"address": workshop.address, "interpreter": self.interpreter, "packages": str(self.packages)}
        for name, module in (("cvr-plugins", "cvr_plugins.cli"), ("pytest", "pytest")):
            self._program(name, f"#!{self.interpreter} -IS\n{CLIENT.format(module=module, **told)}")
        # Not PIP_NO_DEPS, which would also leave the build backend without its dependencies.
        pip = f'exec "{sys.executable}" -m pip --python "{self.interpreter}"'
        self._program("pip", f'#!/bin/sh\ntest "$1" != install || set -- "$@" --no-deps\n{pip} "$@"\n')

    def _program(self, name, text):
        program = self.bin / name
        program.write_text(text)
        program.chmod(0o755)

    @property
    def variables(self):
        """The environment variables under which its programs come first."""
        found = {**os.environ, "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]])}
        found |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
        found |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        found |= {"PYTEST_ADDOPTS": "-p no:cacheprovider", "TQDM_DISABLE": "1"}
        if importlib.util.find_spec("hatchling"):
            # pip reads this one the wrong way round: 0 switches the isolation off.
            found |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        return found

    def run(self, *command, code=0, env=None, **options):
        """Run a program; raises AssertionError unless it exits with `code`."""
        environment = {**self.variables, **(env or {})}
        own = self.bin / command[0]
        command = [str(own) if own.exists() else command[0], *command[1:]]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=550, check=False, env=environment, **options
        )
        assert done.returncode == code, f"{command} -> {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done

    def python(self, *arguments, **options):
        """Run its Python, a process of its own."""
        return self.run(self.interpreter, *arguments, **options)

    def install(self, *folders):
        """Install the distributions in `folders`."""
        self.run("pip", "install", "--quiet", *map(str, folders))

    def uninstall(self, *distributions):
        """Uninstall distributions."""
        self.run("pip", "uninstall", "--quiet", "--yes", *distributions)


def serve(address):
    """Import what takes long, then run what is asked for at `address`, each in a fork of its own."""
    for name in IMPORTED:
        importlib.import_module(name)
    if importlib.util.find_spec("recbole"):
        importlib.import_module("cvr_plugins.recbole.running.runner")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("open", flush=True)
        # So that nobody need wait for the forks.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    connection.sendall(str(_run(connection)).encode())
                    os._exit(0)


def _run(connection):
    """Run the program that is asked for; return its exit code."""
    length, descriptors, *_ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        told = json.loads(stream.read(int.from_bytes(length, "big")))
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["variables"])
    sys.argv, sys.executable = told["arguments"], told["interpreter"]
    sys.dont_write_bytecode = True
    multiprocessing.set_executable(sys.executable)
    importlib.invalidate_caches()
    site.addsitedir(told["packages"])
    code = 0
    try:
        code = _code(importlib.import_module(told["module"]).main())
    except SystemExit as ended:
        code = _code(ended.code)
    except Exception as error:  # noqa: BLE001 - any that Python would show
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _code(ended):
    return ended if isinstance(ended, int) else int(ended is not None)


if __name__ == "__main__":
    serve(sys.argv[1])
