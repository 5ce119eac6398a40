"""Isaac Gym's side of the bridge: a script that the client starts under the user's own old interpreter.

    PYTHON -u server.py SOCKET          with the token in the environment

Isaac Gym exists for Python 3.6 to 3.8 only, so this file keeps to Python 3.6 and imports nothing of this package but
the file beside it; it needs nothing but the standard library until it has said hello.

Both sides send JSON objects, one a line:

    server  {"version", "token", "python"}                                  hello
    client  {"task", "rows", "device", "threads", "overrides", "immediate", "render"}
    server  {"fields": [[name, shape, kind, offset], ...], "bytes", "low", "high", "log"}
    client  {"file": path} or {"cuda": handle in hexadecimal}               the memory that both use from now on
    server  {"seen": the sum of its time_outs}
    client  {"do": "step"} | {"do": "reset", "seed"} | {"do": "picture"}    as often as it likes
    server  {} after each of these; with "picture": [height, width, 3] as many bytes follow

Instead of any answer the server may send {"error": one line, "trace": text}, and ends.
"""

import contextlib
import ctypes
import importlib
import mmap
import os
import random
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any

from sharing import FLAG, FLOAT, TOKEN, VERSION, Channel, Driver, device_tensor, host_tensor, layout

SETUP_SEED = 0  # of what a task draws once, such as masses and terrain; episodes are drawn from the seed of each reset


def log_columns(extras: dict, rows: int, prefix: str = "") -> dict:
    """The numbers a task reports beside its rewards, by name: scalars, and tensors of one number or one a row."""
    columns = {}
    for key, value in extras.items():
        name = prefix + str(key)
        if isinstance(value, dict):
            columns.update(log_columns(value, rows, name + "/"))
        elif (isinstance(value, (int, float)) or getattr(value, "shape", None) in ((), (1,), (rows,))) and (
            name != "time_outs"
        ):
            columns[name] = value
    return columns


def draw_from(seed: int) -> None:
    """Seed whatever a task may draw from: torch on all devices above all."""
    random.seed(seed)
    importlib.import_module("numpy").random.seed(seed % 2**32)
    importlib.import_module("torch").manual_seed(seed)


def make(order: dict) -> Any:
    """The environments that the client asked for, made as isaacgymenvs' own train.py makes them."""
    # what pip installed beside this interpreter: gymtorch is compiled with the ninja that lies there
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
    importlib.import_module("isaacgym")  # refuses to be imported after torch
    environments = importlib.import_module("isaacgymenvs")
    hydra = importlib.import_module("hydra")
    draw_from(SETUP_SEED)
    device, render = order["device"], order["render"]
    # composed here rather than by make, whose own configuration is a GPU's whatever its arguments say
    chosen = [
        f"task={order['task']}",
        f"num_envs={order['rows']}",
        f"sim_device={device}",
        f"rl_device={device}",
        "pipeline=" + ("cpu" if device == "cpu" else "gpu"),
        f"num_threads={order['threads']}",
    ]
    folder = os.path.join(os.path.dirname(os.path.abspath(str(environments.__file__))), "cfg")
    with hydra.initialize_config_dir(config_dir=folder):
        config = hydra.compose(config_name="config", overrides=chosen + order["overrides"])
    return environments.make(
        seed=SETUP_SEED,
        task=order["task"],
        num_envs=order["rows"],
        sim_device=device,
        rl_device=device,
        graphics_device_id=int(device.partition(":")[2] or 0) if render else -1,
        headless=not render,
        virtual_screen_capture=render,
        force_render=render,
        cfg=config,
    )


class Server:
    """The environments, and the memory into which each step is written."""

    def __init__(self, env: Any, order: dict) -> None:
        self.env, self.device, self._immediate = env, order["device"], order["immediate"]
        self._torch = importlib.import_module("torch")
        extras = self._restart(SETUP_SEED)[3]  # tasks fill it in their first step only
        self.log = list(log_columns(extras, order["rows"]))
        rows = order["rows"]
        shapes = [("actions", (rows, env.num_actions), FLOAT), ("observations", (rows, env.num_observations), FLOAT)]
        if env.num_states:
            shapes.append(("states", (rows, env.num_states), FLOAT))
        shapes += [("rewards", (rows,), FLOAT), ("resets", (rows,), FLAG), ("time_outs", (rows,), FLAG)]
        if self.log:
            shapes.append(("log", (len(self.log), rows), FLOAT))
        self.fields, self.bytes = layout(shapes)
        self._shared = {}

    def use(self, memory: dict) -> int:
        """Work in the client's memory from now on. The sum of time_outs there shows that it is the same."""
        if "cuda" in memory:
            driver = Driver(int(self.device.partition(":")[2]))
            start = driver.open(bytes.fromhex(memory["cuda"]))
            for name, shape, kind, offset in self.fields:
                self._shared[name] = device_tensor(start + offset, shape, kind, self.device, driver)
        else:
            with open(memory["file"], "r+b") as file:
                mapped = mmap.mmap(file.fileno(), self.bytes)
            for name, shape, kind, offset in self.fields:
                self._shared[name] = host_tensor(mapped, shape, kind, offset)
        return int(self._shared["time_outs"].sum())

    def step(self) -> None:
        ages = self.env.progress_buf + 1
        seen, rewards, resets, extras = self.env.step(self._shared["actions"].clone())
        if self._immediate:  # VecTask looks for time-outs after the task has reset its counts, and finds none
            extras = dict(extras, time_outs=(resets != 0) & (ages >= self.env.max_episode_length - 1))
        self._write(seen, rewards, resets, extras)

    def reset(self, seed: int) -> None:
        self._write(*self._restart(seed))

    def picture(self) -> Any:
        """`[height, width, 3]` uint8, of the virtual screen that shows the viewer."""
        return self.env.render(mode="rgb_array")

    def _restart(self, seed: int) -> tuple:
        """Every row at its start. Tasks reset rows within a step only, so one is taken, with actions of zero."""
        draw_from(seed)
        self.env.reset_buf.fill_(1)
        self.env.progress_buf.fill_(int(self.env.max_episode_length))  # for tasks that compute reset_buf anew
        return self.env.step(self._torch.zeros((self.env.num_envs, self.env.num_actions), device=self.device))

    def _write(self, seen: dict, rewards: Any, resets: Any, extras: dict) -> None:
        shared = self._shared
        shared["observations"].copy_(seen["obs"])
        if "states" in shared:
            shared["states"].copy_(seen["states"])
        shared["rewards"].copy_(rewards)
        shared["resets"].copy_(resets != 0)
        if "time_outs" in extras:
            shared["time_outs"].copy_(extras["time_outs"] != 0)
        columns = log_columns(extras, self.env.num_envs)
        for index, name in enumerate(self.log):
            if name in columns:
                shared["log"][index] = columns[name]
        if self.device != "cpu":
            self._torch.cuda.synchronize(self.device)  # the other process knows nothing of this one's streams


def serve(channel: Channel) -> None:
    """Make what the client asks for, then do as it says until it goes."""
    order = channel.receive()
    server = Server(make(order), order)
    space = server.env.action_space
    bounds = {"low": [float(x) for x in space.low], "high": [float(x) for x in space.high]}
    channel.send(dict(bounds, fields=server.fields, bytes=server.bytes, log=server.log))
    channel.send({"seen": server.use(channel.receive())})
    while True:
        wanted = channel.receive()
        if wanted["do"] == "picture":
            picture = server.picture()
            if picture is None:
                raise RuntimeError("the viewer gave no picture")
            channel.send({"picture": list(picture.shape)}, picture.astype("uint8").tobytes())
            continue
        if wanted["do"] == "reset":
            server.reset(wanted["seed"])
        else:
            server.step()
        channel.send({})


def with_libpython(environment: dict) -> Any:
    """`environment` with this interpreter's libpython in reach of the loader; None where nothing needs doing.

    Isaac Gym's library is linked to it, and a conda interpreter has it where the loader does not look.
    """
    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}.so.1.0"
    with contextlib.suppress(OSError):
        ctypes.CDLL(name)
        return None
    known = environment.get("LD_LIBRARY_PATH", "")
    for folder in (os.path.join(sys.base_prefix, "lib"), os.path.join(sys.prefix, "lib")):
        if os.path.exists(os.path.join(folder, name)) and folder not in known.split(os.pathsep):
            return dict(environment, LD_LIBRARY_PATH=folder + (os.pathsep + known if known else ""))
    return None


def end_with(connection: socket.socket) -> None:
    """End this process when the client's is gone, even in the midst of making or stepping."""
    watch = select.poll()
    watch.register(connection, 0)  # only hang-up and error
    watch.poll()
    os._exit(1)


def main(path: str) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):  # they reach the whole group; the client decides what they mean
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    environment = with_libpython(dict(os.environ))
    if environment is not None:  # the loader reads it once, at a process's start
        os.execve(sys.executable, [sys.executable, "-u", os.path.abspath(__file__), path], environment)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    threading.Thread(target=end_with, args=(connection,), daemon=True).start()
    channel = Channel(connection)
    python = ".".join(str(number) for number in sys.version_info[:3])
    channel.send({"version": VERSION, "token": os.environ.pop(TOKEN), "python": python})
    try:
        serve(channel)
    except (EOFError, ConnectionError):
        pass
    except BaseException as error:  # isaacgymenvs calls quit() where it has no simulation
        line = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            channel.send({"error": line, "trace": traceback.format_exc()})
    os._exit(0)  # Isaac Gym is known to crash when it is taken down in an orderly way


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose other files are not for this interpreter
    main(sys.argv[1])
