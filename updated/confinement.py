"""What a child gives up before it loads what reads the network's bytes: for good, and held by the kernel.

Each step that the kernel knows must succeed, or the child ends. What the kernel does not know is told in a note.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
import sys
import threading
from dataclasses import dataclass

from updated import landlock, seccomp
from updated.core.errors import UpdatedError
from updated.directory import folder_of
from updated.libc import PR_SET_DUMPABLE, capget, capset, prctl
from updated.record import storage_error
from updated.task import Task

MEMORY_LIMIT = 512 * 1024 * 1024
"""Private memory that can be written, in bytes, with the stacks of all threads."""
STACK_SIZE = 8 * 1024 * 1024
OPEN_FILES = 256

# linux/capability.h.
CAP_DAC_READ_SEARCH = 1 << 2
_CAP_SETPCAP = 1 << 8
_CAPABILITY_VERSION_3 = 0x20080522
# linux/prctl.h, linux/seccomp.h.
_PR_SET_SECCOMP, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 23, 24, 38
_SECCOMP_MODE_FILTER = 2

LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
# What OpenSSL is set up by, and whom it trusts: Debian's places, and those of Fedora and Arch.
CERTIFICATES = (
    "/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/etc/pki/tls/openssl.cnf", "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted", "/etc/crypto-policies", "/etc/ca-certificates/extracted",
)  # fmt: skip
RESOLVER = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services",
    "/etc/hostname",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Needs:
    """What a child keeps, besides its open files, Python and the libraries of the system.

    `writable` are folders; they are made when they are missing. `capabilities` are bits.
    """

    readable: tuple[landlock.Place, ...]
    writable: tuple[str, ...]
    network: bool = False
    capabilities: int = 0


def needs_of_fetch(task: Task) -> Needs:
    """The network, and what the task names of files; no capability."""
    connection = task.connection
    readable: list[landlock.Place] = [*CERTIFICATES, *RESOLVER]
    resolver = os.path.dirname(os.path.realpath("/etc/resolv.conf"))
    if resolver != "/etc":
        readable.append(resolver)  # a new one is renamed into it while a download goes on
    if connection is not None:
        readable += [connection.ca_bundle, connection.client_certificate, connection.path]
        folders = (folder_of(url) for url in (connection.url, *connection.mirrors))
        readable += [folder for folder in folders if folder is not None]
    if task.imported is not None:
        readable.append(task.imported)
    # With the folders of the indexes and of the export in it. By its own name, which only root can make a link of.
    return Needs(tuple(readable), (os.path.dirname(task.store),), network=True)


def needs_of_seal(task: Task) -> Needs:
    """What fetch exported, whoever it belongs to, and no network."""
    # Its parent, since what fetch put in the place of its folder may lead anywhere.
    exported = os.path.dirname(task.export)
    return Needs((exported,), (os.path.dirname(task.store),), capabilities=CAP_DAC_READ_SEARCH)


def confine(needs: Needs) -> list[str]:
    """Gives up all but `needs`; sentences for people about what the kernel can't hold.

    Call it while there is one thread. Raises `UpdatedError`: "child-failed", "disk-full", "disk-error".
    """
    for folder in needs.writable:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise storage_error(folder, error) from None
    try:
        return _confine(needs)
    except OSError as error:
        raise UpdatedError(
            "child-failed", "the confinement of a child process", f"{error.filename}: {error.strerror}",
            "What the daemon runs in refuses it: compare with SystemCallFilter= in the shipped updated.service.",
        ) from None


def _confine(needs: Needs) -> list[str]:
    _limit_resources()
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(PR_SET_DUMPABLE, 0)
    notes = []
    version = landlock.version()
    if version >= landlock.LEAST_VERSION:
        landlock.restrict([*_program(), *needs.readable], needs.writable)
    else:
        notes.append(
            f"Which files the children may open is held by file permissions alone: the kernel has version {version} of "
            f"Landlock, and {landlock.LEAST_VERSION} (Linux 5.19, with landlock among its security modules) is needed."
        )
    _drop_capabilities(needs.capabilities)
    if not _filter_calls(network=needs.network):
        notes.append(
            "The system calls of the children are not filtered: the kernel can't do it, or there is no list for this "
            f"architecture ({_architecture()})."
        )
    return notes


def _limit_resources() -> None:
    # Else what a thread takes of the limit is up to the `ulimit -s` of whoever started the daemon.
    threading.stack_size(STACK_SIZE)
    for limit, most in (
        (resource.RLIMIT_DATA, MEMORY_LIMIT), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):  # fmt: skip
        _, before = resource.getrlimit(limit)
        least = most if before == resource.RLIM_INFINITY else min(most, before)
        resource.setrlimit(limit, (least, least))


def _program() -> list[str]:
    """Where Python, this program and the libraries lie; never all of the file system."""
    # An editable installation has a place of its own, which is not on the path.
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = [*LIBRARIES, sys.prefix, sys.base_prefix, *sys.path, ours]
    return [path for path in found if os.path.isabs(path) and os.path.normpath(path) != "/"]


def _drop_capabilities(kept: int) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    capget(header, data)
    low, high = struct.Struct("=III"), 12
    halves = [low.unpack_from(data, 0), low.unpack_from(data, high)]
    effective, permitted, inheritable = (one | other << 32 for one, other in zip(*halves, strict=True))
    if effective & _CAP_SETPCAP:
        capability = 0
        while _is_bounded(capability):
            prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
            capability += 1
    left = permitted & kept
    if (effective, permitted, inheritable) != (left, left, 0):
        # What is ambient goes with what is inheritable (capabilities(7)).
        capset(header, low.pack(left & 0xFFFFFFFF, left & 0xFFFFFFFF, 0) + low.pack(left >> 32, left >> 32, 0))


def _is_bounded(capability: int) -> bool:
    """Whether the kernel knows this capability."""
    try:
        prctl(_PR_CAPBSET_READ, capability, 0, 0, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def _filter_calls(*, network: bool) -> bool:
    """Whether it can be done here; the last step, since it refuses some of the others."""
    code = seccomp.program(_architecture(), os.getpid(), network=network)
    if code is None or not _has_filters():
        return False
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // seccomp.INSTRUCTION.size, ctypes.addressof(buffer))
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program)
    return True


def _architecture() -> str:
    """As uname(2) has it; a program of 32 bits has other system calls than its kernel."""
    machine = os.uname().machine
    return machine if sys.maxsize > 2**32 else f"{machine}, 32 bits"


def _has_filters() -> bool:
    """Without a program, a kernel that has filters finds fault with the address, another one with the mode."""
    try:
        prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        if error.errno != errno.EFAULT:
            raise
    return True
