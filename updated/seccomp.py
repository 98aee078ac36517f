"""Which system calls a child gives up, as a program of seccomp(2): pure, the caller installs it.

It is a list of what is refused, since no list of what Python, OpenSSL and the C library need would outlive their next
version. Calls that are newer than `NEWEST` don't exist for a child: libraries can do without, as on an older kernel.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from updated.libc import PR_SET_DUMPABLE, PR_SET_PDEATHSIG

# mseal(2), Linux 6.10. As from 424 the numbers are the same everywhere, so this also ends what only old or foreign ABIs
# have, such as x32. Before it is raised, each new call has to be looked at.
NEWEST: Final = 462

# linux/audit.h, by os.uname().machine; the place in each pair below.
ARCHITECTURES: Final[Mapping[str, tuple[int, int]]] = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Of x86_64 (asm/unistd_64.h) and of aarch64 (asm-generic/unistd.h), which has not all of them.
Numbers = Mapping[str, tuple[int, int | None]]

_PROCESSES: Final[Numbers] = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kcmp": (312, 272),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "shmget": (29, 194),
    "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181),
}
_NAMESPACES: Final[Numbers] = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
}
_IDENTITY: Final[Numbers] = {
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "setgroups": (116, 159), "capset": (126, 91), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None),
    "fchownat": (260, 54), "mknod": (133, None), "mknodat": (259, 33), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
}
# Large parts of the kernel that no downloader uses, and where many of its holes were.
_SURFACE: Final[Numbers] = {
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None), "personality": (135, 92), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "splice": (275, 76), "tee": (276, 77), "vmsplice": (278, 75),
}
_MACHINE: Final[Numbers] = {
    "reboot": (169, 142), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "create_module": (174, None),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "vhangup": (153, 58), "nfsservctl": (180, 42), "uselib": (134, None), "_sysctl": (156, None),
}
_SERVER: Final[Numbers] = {"listen": (50, 201), "accept": (43, 202), "accept4": (288, 242)}
_NETWORK: Final[Mapping[str, tuple[int, int]]] = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "sendto": (44, 206),
    "sendmsg": (46, 211), "sendmmsg": (307, 269), "recvfrom": (45, 207), "recvmsg": (47, 212), "recvmmsg": (299, 243),
}
REFUSED: Final[Numbers] = {**_PROCESSES, **_NAMESPACES, **_IDENTITY, **_SURFACE, **_MACHINE, **_SERVER}
CHECKED: Final[Mapping[str, tuple[int, int]]] = {
    "clone": (56, 220), "clone3": (435, 435), "ioctl": (16, 29), "kill": (62, 129), "tgkill": (234, 131),
    "prctl": (157, 167), **_NETWORK,
}


@dataclass(frozen=True, slots=True)
class Check:
    """The low half of an argument, masked, has to be one of `values`, or none of them; else the call fails."""

    argument: int
    values: Sequence[int]
    error: int = errno.EPERM
    mask: int = 0xFFFFFFFF
    permitted: bool = True


# linux/sched.h: a thread, and nothing that has a namespace of its own.
_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020080
# asm-generic/ioctls.h. A terminal, a disk and all else answers as if it did not know the request.
_FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX = 0x541B, 0x5421, 0x5450, 0x5451
_SOCKET_TYPE = 0xF
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
_PROTOCOLS = (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)


def _checks(pid: int, *, network: bool) -> Mapping[str, Sequence[Check]]:
    """By the name of a call. A call without any check is refused."""
    own = (Check(0, (pid,)),)
    checks: dict[str, Sequence[Check]] = {
        "clone": (Check(0, (_CLONE_THREAD,), mask=_CLONE_THREAD | _CLONE_NEW),),
        # Its flags lie in memory, which a filter can't read; the C library takes clone when there is no such call.
        "clone3": (Check(0, (), errno.ENOSYS),),
        "ioctl": (Check(1, (_FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX), errno.ENOTTY),),
        "kill": own,
        "tgkill": own,
        # They hold the child to the daemon's life, and keep others out of its memory.
        "prctl": (Check(0, (PR_SET_PDEATHSIG, PR_SET_DUMPABLE), permitted=False),),
    }
    if network:
        checks["socket"] = (
            Check(0, _FAMILIES, errno.EAFNOSUPPORT),
            Check(1, (socket.SOCK_STREAM, socket.SOCK_DGRAM), mask=_SOCKET_TYPE),
            Check(2, _PROTOCOLS, errno.EPROTONOSUPPORT),
        )
        checks["socketpair"] = (Check(0, (socket.AF_UNIX,), errno.EAFNOSUPPORT),)
    else:
        checks.update({name: (Check(0, ()),) for name in _NETWORK})
    return checks


# linux/bpf_common.h and linux/seccomp.h.
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP_IF_GREATER, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_ALLOW, _KILL_PROCESS, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

INSTRUCTION: Final = struct.Struct("=HBBI")


def _do(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """An instruction; a jump leaves out so many of those that follow."""
    return INSTRUCTION.pack(code, then, otherwise, value)


def program(machine: str, pid: int, *, network: bool) -> bytes | None:
    """The filter for process `pid` on a `machine` (uname(2)), with or without the network; None for other machines.

    A call through a foreign ABI ends the process.
    """
    if machine not in ARCHITECTURES:
        return None
    architecture, place = ARCHITECTURES[machine]
    code = [
        _do(_LOAD, _ARCHITECTURE), _do(_JUMP_IF_EQUAL, architecture, then=1), _do(_RETURN, _KILL_PROCESS),
        _do(_LOAD, _NUMBER), _do(_JUMP_IF_GREATER, NEWEST, otherwise=1), _do(_RETURN, _ERROR | errno.ENOSYS),
    ]  # fmt: skip
    for numbers in REFUSED.values():
        number = numbers[place]
        if number is not None:
            code += [_do(_JUMP_IF_EQUAL, number, otherwise=1), _do(_RETURN, _ERROR | errno.EPERM)]
    for name, checks in _checks(pid, network=network).items():
        block = [part for check in checks for part in _checked(check)] + [_do(_RETURN, _ALLOW)]
        code += [_do(_JUMP_IF_EQUAL, CHECKED[name][place], otherwise=len(block)), *block]
    return b"".join([*code, _do(_RETURN, _ALLOW)])


def _checked(check: Check) -> list[bytes]:
    """Goes on behind these instructions when the check passes."""
    low_half = _ARGUMENTS + 8 * check.argument  # both machines are little-endian
    code = [_do(_LOAD, low_half), _do(_AND, check.mask)]
    left = len(check.values)
    for value in check.values:
        left -= 1
        if check.permitted:
            code.append(_do(_JUMP_IF_EQUAL, value, then=left + 1))
        else:
            code.append(_do(_JUMP_IF_EQUAL, value, then=left, otherwise=0 if left else 1))
    return [*code, _do(_RETURN, _ERROR | check.error)]
