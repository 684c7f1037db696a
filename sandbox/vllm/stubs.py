"""Writes empty shared libraries in the place of the CUDA libraries that PyTorch names but never calls on a
CPU.

The registry's Linux wheel of PyTorch is the CUDA build: its libraries name cuBLAS, cuDNN, NCCL and others,
which are about 3 GB and of no use without a GPU. The dynamic loader only has to find a file of each name:
PyTorch is linked with lazy binding, and refers to no address in these libraries at load time, so nothing has
to be in them. The CUDA runtime itself, which answers "no device here", is the real one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What `readelf -d` lists as NEEDED in PyTorch 2.13.0's libtorch_python, libtorch_cpu, libtorch_cuda and
# libtorch_nvshmem, less the two that are really there (CUDA runtime, CUPTI).
SONAMES = (
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcufile.so.0",
    "libcurand.so.10",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvrtc.so.13",
    "libnvshmem_host.so.3",
)

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_DYN = struct.Struct("<qQ")
_ET_DYN, _EM_X86_64 = 3, 62
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_READ_WRITE = 6
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 0, 4, 5, 6, 10, 11, 14
_SYMBOL_SIZE = 24


def library(soname: str) -> bytes:
    """Return an x86-64 ELF shared library of that name which defines nothing."""
    strings = b"\0" + soname.encode() + b"\0"
    symbols = bytes(_SYMBOL_SIZE)  # the null symbol that every table begins with
    hash_table = struct.pack("<4I", 1, 1, 0, 0)  # one bucket, one chain, both empty
    header_size = _EHDR.size + 3 * _PHDR.size
    symbols_at = header_size
    hash_at = symbols_at + len(symbols)
    dynamic_at = hash_at + len(hash_table)
    entries = 7
    strings_at = dynamic_at + entries * _DYN.size
    size = strings_at + len(strings)
    dynamic = b"".join(
        _DYN.pack(tag, value)
        for tag, value in (
            (_DT_SONAME, 1),
            (_DT_HASH, hash_at),
            (_DT_STRTAB, strings_at),
            (_DT_SYMTAB, symbols_at),
            (_DT_STRSZ, len(strings)),
            (_DT_SYMENT, _SYMBOL_SIZE),
            (_DT_NULL, 0),
        )
    )
    header = _EHDR.pack(
        b"\x7fELF\x02\x01\x01",
        _ET_DYN,
        _EM_X86_64,
        1,
        0,
        _EHDR.size,
        0,
        0,
        _EHDR.size,
        _PHDR.size,
        3,
        0,
        0,
        0,
    )
    # Writable, because the loader relocates the dynamic section in place.
    load = _PHDR.pack(_PT_LOAD, _READ_WRITE, 0, 0, 0, size, size, 0x1000)
    dynamic_segment = _PHDR.pack(
        _PT_DYNAMIC, _READ_WRITE, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8
    )
    # Without it the loader would make every thread's stack executable.
    stack = _PHDR.pack(_PT_GNU_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
    return header + load + dynamic_segment + stack + symbols + hash_table + dynamic + strings


def install(site_packages: Path) -> None:
    """Put every library of `SONAMES` on PyTorch's search path, and have modules loaded with lazy binding.

    Args:
        site_packages: of the environment that has PyTorch in it.
    """
    folder = site_packages / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    for soname in SONAMES:
        (folder / soname).write_bytes(library(soname))
    # Python itself asks for everything to be bound at once, unless told otherwise before the first import.
    (site_packages / "berth_lazy_binding.pth").write_text(
        "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n"
    )
