"""What both sides of the bridge to Isaac Gym share: messages, and memory that two processes use.

The server runs under Python 3.6 to 3.8 and finds this file beside itself, so it keeps to Python 3.6 and imports nothing
else of this package; torch and NumPy only when a tensor is wanted, because Isaac Gym refuses to come after torch.
"""

import contextlib
import ctypes
import importlib
import json
import mmap
import socket
from typing import Any

VERSION = 1  # of the messages in server.py: both sides must speak the same
TOKEN = "PPO_AND_FRIENDS_ISAACGYM_TOKEN"  # the environment variable with what the server must say to be believed
LONGEST_LINE = 1 << 20
ALIGNMENT = 256  # bytes; what cudaMalloc gives, so that rows are read as fast as in tensors of their own
FLOAT, FLAG = "<f4", "|u1"


class Channel:
    """JSON objects over a stream socket, one a line."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._reader = connection.makefile("rb")

    def send(self, message: dict, body: bytes = b"") -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\n" + body)

    def receive(self) -> dict:
        """Raises EOFError where the other side is gone, ValueError where it talks of something else."""
        line = self._reader.readline(LONGEST_LINE)
        if not line:
            raise EOFError
        message = json.loads(line.decode())
        if not isinstance(message, dict):
            raise ValueError(repr(message))
        return message

    def receive_bytes(self, count: int) -> bytes:
        body = self._reader.read(count)
        if len(body) < count:
            raise EOFError
        return body

    def close(self) -> None:
        self._reader.close()
        self.connection.close()


class IpcHandle(ctypes.Structure):
    """`CUipcMemHandle`, the same 64 bytes as `cudaIpcMemHandle_t`."""

    _fields_ = [("reserved", ctypes.c_byte * 64)]


class Driver:
    """The calls of the CUDA driver by which two processes use the same memory.

    Torch's own way of sharing CUDA tensors is a tuple that changes with its version, and the two sides have versions
    years apart. The driver's handle does not change, names an allocation of its own, and so needs no offset, no
    reference counter and no event.

    Args:
        device: index among the devices that this process sees.
    Raises:
        OSError: there is no driver, or it refuses; the message names the call and the driver's reason.
    """

    BLOCK = 2 << 20  # bytes, CUDA C++ Programming Guide, "Interprocess Communication"
    PEER_ACCESS = 1  # CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS, the only flag there is

    def __init__(self, device: int) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", ctypes.c_uint(0))
        number, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(number), ctypes.c_int(device))
        # the primary context is the one in which torch works, whatever its version
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), number)

    def allocate(self, size: int) -> int:
        """Zeros. The driver cuts smaller allocations from common blocks, which a handle would share as a whole."""
        pointer, whole = ctypes.c_uint64(), ctypes.c_size_t(-(-size // self.BLOCK) * self.BLOCK)
        with self._current():
            self._call("cuMemAlloc_v2", ctypes.byref(pointer), whole)
            self._call("cuMemsetD8_v2", pointer, ctypes.c_ubyte(0), whole)
            self._call("cuCtxSynchronize")
        return pointer.value

    def free(self, pointer: int) -> None:
        with self._current():
            self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def handle(self, pointer: int) -> bytes:
        """By which another process opens the allocation that begins at `pointer`."""
        handle = IpcHandle()
        with self._current():
            self._call("cuIpcGetMemHandle", ctypes.byref(handle), ctypes.c_uint64(pointer))
        return bytes(handle)

    def open(self, handle: bytes) -> int:
        """Where another process's allocation begins in this one. It stays until this process ends."""
        pointer = ctypes.c_uint64()
        with self._current():
            opened = IpcHandle.from_buffer_copy(handle)
            self._call("cuIpcOpenMemHandle_v2", ctypes.byref(pointer), opened, ctypes.c_uint(self.PEER_ACCESS))
        return pointer.value

    @contextlib.contextmanager
    def _current(self):
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            reason = ctypes.c_char_p()
            self._library.cuGetErrorName(ctypes.c_int(status), ctypes.byref(reason))
            raise OSError(f"{name} failed: {(reason.value or str(status).encode()).decode()}")


class DeviceArray:
    """Device memory as `torch.as_tensor` takes it without a copy; `owner` lives as long as the tensor."""

    def __init__(self, pointer: int, shape: list, kind: str, owner: object) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": tuple(shape),
            "typestr": kind,
            "data": (pointer, False),
            "strides": None,
            "version": 2,
        }


def device_tensor(pointer: int, shape: list, kind: str, device: str, owner: object) -> Any:
    """A tensor over device memory."""
    tensor = importlib.import_module("torch").as_tensor(DeviceArray(pointer, shape, kind, owner), device=device)
    if tensor.data_ptr() != pointer:
        raise OSError(f"torch copied the shared memory from {device} instead of using it")
    return tensor


def host_tensor(memory: mmap.mmap, shape: list, kind: str, offset: int) -> Any:
    """A tensor over mapped host memory. By way of NumPy: torch.frombuffer came with 1.10 only."""
    numpy, torch = importlib.import_module("numpy"), importlib.import_module("torch")
    count = int(numpy.prod(shape))
    return torch.from_numpy(numpy.frombuffer(memory, kind, count, offset).reshape(shape))


def layout(shapes: list) -> tuple:
    """Where each of (name, shape, kind) lies in one block: ([name, shape, kind, offset], ...) and the bytes of all."""
    fields, end = [], 0
    for name, shape, kind in shapes:
        count = 1
        for size in shape:
            count *= size
        fields.append([name, list(shape), kind, end])
        end += -(-count * int(kind[-1]) // ALIGNMENT) * ALIGNMENT
    return fields, end
