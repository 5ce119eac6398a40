"""Every way in which the server of Isaac Gym can fail is one clear error, and nothing is left behind."""

from __future__ import annotations

import ast
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from isaacgym_toys import DIE, PYTHON, RAISE, STANDIN, interpreter, take, vector

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.vector.isaacgym import memory, process
from ppo_and_friends.vector.isaacgym.client import IsaacGymEnv
from ppo_and_friends.vector.isaacgym.failures import remedy
from ppo_and_friends.vector.isaacgym.process import SCRIPT, ServerProcess

FOLDER = SCRIPT.parent


@pytest.mark.parametrize("name", ["server.py", "sharing.py"])
def test_the_servers_files_are_python_3_6(name) -> None:
    ast.parse((FOLDER / name).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("setting", "task", "message"),
    [
        ("STANDIN_FAILURE=libpython", "Ant", "Isaac Gym needs libpython3.[78]m?.so.1.0, which .* conda"),
        ("STANDIN_FAILURE=Python.h", "Ant", "Isaac Gym compiles an extension .* without Python.h: .*python3.8-dev"),
        ("STANDIN_FAILURE=version", "Ant", "no library for Python 3.11: name a Python of 3.6, 3.7 or 3.8"),
        ("", "Nonsense", "isaacgymenvs has no task Nonsense"),
    ],
)
def test_known_failures_name_the_mend(tmp_path, setting, task, message) -> None:
    with pytest.raises(UserError, match=f"^{task} on Isaac Gym cannot start: .*{message}"):
        vector(interpreter(tmp_path, *filter(None, [setting])), task)


@pytest.mark.parametrize("package", ["isaacgym", "isaacgymenvs"])
def test_a_missing_package_is_named(tmp_path, package) -> None:
    there = tmp_path / "packages"
    there.mkdir()
    for name in ("isaacgym", "isaacgymenvs", "hydra"):
        if name != package:
            (there / name).symlink_to(STANDIN / name)
    python = interpreter(tmp_path, path=there)
    with pytest.raises(UserError, match=f"{python} has no package {package}: install .*github|nvidia"):
        vector(python)


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("ModuleNotFoundError: No module named 'torch'", "py has no package torch: `py -m pip install torch`"),
        ("No module named 'rl_games.common'", "py has no package rl_games: install IsaacGymEnvs"),
        ("RuntimeError: Ninja is required to load C++ extensions", "`py -m pip install ninja`"),
        ("AttributeError: module 'numpy' has no attribute 'float'", 'py -m pip install "numpy<1.24"'),
        ("RuntimeError: Failed to acquire interface: [carb::gym::Gym]", "nvidia-smi"),
        ("OSError: cuIpcOpenMemHandle_v2 failed: CUDA_ERROR_NOT_SUPPORTED", "(CUDA_ERROR_NOT_SUPPORTED), as it does"),
        ("TypeError: make() got an unexpected keyword argument 'cfg'", "release 1.5.1"),
        ("ConfigCompositionException: Could not override 'task.env.length'.", "has no setting task.env.length for"),
        ("[Error] PxgCudaDeviceMemoryAllocator fail to allocate memory", "ask for fewer (--envs_per_proc)"),
    ],
)
def test_other_known_failures(said, mend) -> None:
    assert mend in str(remedy(f"before\n{said}\nafter", "py"))
    assert remedy("something else", "py") is None


def test_unknown_failures_show_what_was_said(tmp_path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"Quits: .* failed in starting \(SystemExit: (.|\n)*quit\(\)"):
        vector(interpreter(tmp_path), "Quits")
    fallen = interpreter(tmp_path, "STANDIN_FAILURE=segmentation fault")
    with pytest.raises(EnvironmentFailure, match=r"killed by SIGSEGV\).\nIt said:\nbefore the fall"):
        vector(fallen)


def test_the_interpreter_must_be_one(tmp_path) -> None:
    with pytest.raises(UserError, match="none was named: add --env.python PATH"):
        IsaacGymEnv("Ant").make(1)
    with pytest.raises(UserError, match="'~/nothing/python', but there is no such program"):
        IsaacGymEnv("Ant", "~/nothing/python").make(1)
    text = tmp_path / "python"
    text.write_text("neither a script nor a program")
    text.chmod(0o755)
    with pytest.raises(UserError, match=f"{text} cannot be started .Exec format error"):
        vector(str(text))


def test_the_device_must_be_one(tmp_path) -> None:
    for device, message in (("cuda:7", "torch .* sees . GPU"), ("tpu", "must be auto, cpu or cuda:N")):
        with pytest.raises(UserError, match=f"env.device is '{device}', but {message}"):
            IsaacGymEnv("Ant", sys.executable, device).make(1)
    if not torch.cuda.is_available():
        assert IsaacGymEnv().where() == torch.device("cpu")


def test_failures_while_running(tmp_path) -> None:
    python = interpreter(tmp_path)
    for accident, message in (
        (RAISE, r"Ant: .*failed in its step \(ValueError: the joint broke\)(.|\n)*Traceback"),
        (DIE, r"Ant: .*failed in its step \(killed by SIGKILL\)"),
    ):
        env = vector(python)
        env.reset(0)
        with pytest.raises(EnvironmentFailure, match=message):
            take(env, accident, 0, 0)
        assert env._server._process.returncode is not None
        env.close()


def test_a_server_killed_between_steps(tmp_path) -> None:
    env = vector(interpreter(tmp_path))
    for meant_for_the_client in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(env._server._process.pid, meant_for_the_client)
        kept = env.reset(0)[0].actor
    os.kill(env._server._process.pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match="Ant: .*killed by SIGKILL"):
        take(env, 0, 0, 0)
    assert kept[:, 1].tolist() == [0, 0, 0]  # the memory is this process's own


def test_no_answer_in_time(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 2.0)
    with pytest.raises(EnvironmentFailure, match="gave no answer within 2 s; .* remove ~/.cache/torch_extensions"):
        vector(interpreter(tmp_path), "Endless", overrides=(f"told={tmp_path / 'told'}",))


def test_another_version_is_refused(tmp_path, monkeypatch) -> None:
    for name in ("server.py", "sharing.py"):
        (tmp_path / name).write_text((FOLDER / name).read_text().replace("VERSION = 1 ", "VERSION = 2 "))
    monkeypatch.setattr(process, "SCRIPT", tmp_path / "server.py")
    with pytest.raises(UserError, match="server of Isaac Gym speaks version 2 and this client version 1"):
        vector(interpreter(tmp_path))


STRANGER = """#!{python}
import os, socket, sys
for hello in (b'{{"version": 1, "token": "guess"}}\\n', b'{{"version": 1}}\\n', b'[]\\n', b'nonsense\\n'):
    stranger = socket.socket(socket.AF_UNIX)
    stranger.connect(sys.argv[-1])
    stranger.sendall(hello)
    assert stranger.recv(1) == b"", "a stranger was let in"
print("refused four times", flush=True)
os.execv({then!r}, [{then!r}] + sys.argv[1:])
"""


def test_whoever_does_not_know_the_token_is_sent_away(tmp_path) -> None:
    script = tmp_path / "stranger"
    script.write_text(STRANGER.format(python=sys.executable, then=interpreter(tmp_path)))
    script.chmod(0o755)
    server = ServerProcess(str(script), "Ant")
    assert "refused four times" in server._said
    server.close()


def test_libpython_is_found_beside_the_interpreter(tmp_path) -> None:
    packages, prefix = tmp_path / "packages", tmp_path / "prefix"
    packages.mkdir()
    for name in ("isaacgym", "isaacgymenvs", "hydra"):
        (packages / name).symlink_to(STANDIN / name)
    (packages / "sitecustomize.py").write_text(f"import sys\nsys.abiflags = 'toy'\nsys.base_prefix = {str(prefix)!r}\n")
    (prefix / "lib").mkdir(parents=True)
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (prefix / "lib" / f"libpython{version}toy.so.1.0").touch()
    vector(interpreter(tmp_path, "STANDIN_FAILURE=libpython in reach", path=packages)).close()


def test_too_little_shared_memory_is_said(tmp_path, monkeypatch) -> None:
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"\d+ bytes cannot be shared .* No space left .*--envs_per_proc"):
        vector(interpreter(tmp_path))


CLIENT = """
import sys
from ppo_and_friends.vector.isaacgym.client import IsaacGymEnv
IsaacGymEnv("Endless", sys.argv[1], "cpu", ("told=" + sys.argv[2],)).make(1)
"""


def test_no_server_outlives_its_client(tmp_path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    client = subprocess.Popen([sys.executable, "-c", CLIENT, interpreter(tmp_path), str(told)])
    server = int(Path(told).read_text())  # written when the server is in the midst of making its environments
    watch = os.pidfd_open(server)
    client.kill()
    client.wait()
    assert select.select([watch], [], [], 30.0)[0], "the server goes on without its client"
