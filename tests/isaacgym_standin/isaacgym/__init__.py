"""Stands in for Isaac Gym's package: its import conditions, and the ways in which its import fails."""

import ctypes
import os
import sys

if "torch" in sys.modules:
    raise ImportError("PyTorch was imported before isaacgym modules.  Please import torch after isaacgym modules.")

failure = os.environ.get("STANDIN_FAILURE", "")
if failure == "libpython":
    ctypes.CDLL("libpython3.8.so.1.0" if sys.version_info[:2] != (3, 8) else "libpython3.7m.so.1.0")
if failure == "libpython in reach":
    folder = os.path.join(sys.base_prefix, "lib")
    if folder not in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        raise ImportError(f"libpython.so.1.0: cannot open shared object file; {folder} is not in LD_LIBRARY_PATH")
if failure == "Python.h":
    print("[1/2] c++ -c gymtorch.cpp\nextension.h:4:10: fatal error: Python.h: No such file or directory", flush=True)
    raise RuntimeError("Error building extension 'gymtorch'")
if failure == "version":
    raise RuntimeError("No gym module found for the active version of Python (3.11)")
if failure == "segmentation fault":
    print("before the fall", flush=True)
    ctypes.string_at(0)
