"""What each reason to wait and each error means, what the node does about it by itself, and what a person can do.

The one source of these words. Pure. The tables of packaging/doc/operating.md and errors.md are checked against it. A
mend holds commands in quotes, as they are typed; words in capitals stand for what a person fills in.
"""

from __future__ import annotations

from collections.abc import Mapping

# By code of the reason: its meaning, what the node does by itself, and what a person can do; nothing where there is
# nothing to do but wait.
REASONS: Mapping[str, tuple[str, str, str]] = {
    "up-to-date": (
        "runs the newest release of the channel",
        "takes a newer one as soon as a regular check finds it",
        "",
    ),
    "ahead": (
        "runs something newer than all of the channel; it stays there until the channel has overtaken it",
        "stays on what runs, and looks again at each regular check",
        "'updatectl channel NAME' follows another channel",
    ),
    "empty-channel": (
        "the channel has no release yet",
        "looks again at each regular check",
        "'releasectl promote' ships one; 'updatectl channel NAME' follows another channel",
    ),
    "wave": (
        "the rollout reaches this node later, or rests before it",
        "takes it when its turn comes; the status says when, if that is known",
        "'updatectl install' doesn't wait for it",
    ),
    "denied": (
        "failed here before, or was rolled back by a person",
        "never tries it again, and takes a newer one",
        "'updatectl history' says why; wait for a newer release, or, when the cause is gone, 'updatectl allow VERSION'",
    ),
    "recalled": (
        "the publisher recalled the release, the one that runs or a newer one",
        "installs nothing that was recalled; takes the next release that it may",
        "wait for a newer release",
    ),
    "downgrade": (
        "the release that runs was recalled, an older one replaces it, and [updates] allow_downgrade is off",
        "stays on what runs, until the channel has a newer one",
        "set allow_downgrade = true in the table [updates], then 'systemctl reload updated'",
    ),
    "barrier": (
        "another release has to be passed through first",
        "takes that one first, once nothing stands against it",
        "'updatectl history' says what became of that one",
    ),
    "minimum": (
        "can only be reached from a newer release than the one that runs",
        "leaves it, and takes what it can reach",
        "'updatectl import PATH' installs one in between, from a bundle",
    ),
    "deadend": (
        "the release that runs can't be updated from; the publisher's text says what to do",
        "stays on what runs, and looks again at each regular check",
        "do what the publisher says",
    ),
    "below-floor": (
        "is older than one that was confirmed on this node",
        "leaves it, and takes a newer one",
        "wait for a newer release",
    ),
    "trial": (
        "the slot that runs is not confirmed yet",
        "goes on when health has confirmed the slot; a slot that is not confirmed is left for the other one",
        "'updatectl health' shows its checks",
    ),
    "held": (
        "a person paused updates",
        "stops a download, which goes on when the pause has ended; does not reboot until then",
        "'updatectl unhold' ends the pause",
    ),
    "disabled": (
        "switched off by the configuration or by /usr/.noupdate",
        "looks for releases; installs none, and does not reboot into one that is staged",
        "switch it on there, then 'systemctl reload updated'; 'updatectl install' installs all the same",
    ),
    "no-repository": (
        "the configuration names none: neither url nor path",
        "waits for an import",
        "'updatectl import PATH' installs one; or set url in the table [repository]",
    ),
    "not-started": (
        "staged; the boot loader starts the other slot all the same, so that only a person reboots again",
        "keeps what is staged ready; any other reboot may still start it",
        "'updatectl reboot' tries it again; 'updatectl doctor' looks at the boot reference",
    ),
    "hook-refused": (
        "staged; a hook failed before the reboot. It is tried again at until",
        "asks the hooks again then, and reboots when none refuses",
        "'updatectl reboot' tries it at once; 'updatectl log' says what it printed",
    ),
    "manual-reboot": (
        "staged; by [updates] reboot, the node is rebooted by a person, or by an agent that finds /run/reboot-required",
        "keeps what is staged ready for any reboot; a newer release may replace it",
        "'updatectl reboot' reboots into it",
    ),
    # What the node's own rules say about when it may act.
    "pinned": (
        "[updates] pin or newest does not admit the release, or the channel does not have the pinned one",
        "takes what the pin admits, once the channel has it",
        "change it in the table [updates], then 'systemctl reload updated'",
    ),
    "download-window": (
        "the download windows are closed",
        "downloads in the next window",
        "'updatectl install' doesn't wait for the window",
    ),
    "reboot-window": (
        "staged; the reboot windows are closed, or what is left of one is too short",
        "reboots in the next window that is long enough; any other reboot starts the release too",
        "'updatectl reboot' doesn't wait for the window",
    ),
    "inhibited": (
        "staged; a program has a block on shutdown; the text says which, and why",
        "reboots when the block is gone",
        "'systemd-inhibit --list' shows all; 'updatectl reboot --force' asks neither them nor hooks",
    ),
    "users": (
        "staged; people are logged in and were warned",
        "reboots at until, or as soon as nobody is logged in",
        "'updatectl hold' stops the reboot; 'updatectl reboot' doesn't wait for them",
    ),
    "metered": (
        "the network is metered",
        "downloads when the network is not metered any more",
        "'updatectl install' downloads all the same",
    ),
    "battery": (
        "the machine runs on battery",
        "goes on when power is connected; a download that runs is brought to its end",
        "connect it to power; 'updatectl install' and 'updatectl reboot' don't wait for that",
    ),
}

# What else can be done where the release that runs was recalled, and the other slot holds a good one.
LEAVE_RECALLED = "'updatectl rollback' leaves the one that runs"

# What the node does about most errors. The first is for those that a retry can help.
_AGAIN = "tries again after a minute, then ever more rarely, at least every four hours"
_NEXT_CHECK = "stays on what runs, and tries it again at the next regular check"
_NOTHING = "nothing: the command ended, and changed nothing"
_MIRROR = f"asks the next mirror, if there is one; else {_AGAIN}"

# By code of the error: what the node does by itself, and what helps in general. The error itself says what to do about
# the thing that it names.
ERRORS: Mapping[str, tuple[str, str]] = {
    "unreachable": (_MIRROR, "look at the network, the name server and the proxy"),
    "http-status": (_MIRROR, "look at the log of the web server"),
    "not-found": (_MIRROR, "'releasectl verify' on the publisher's side; copy metadata/timestamp.json last"),
    "truncated": (
        "goes on where it ended, with the next mirror, if there is one, or later",
        "look at the server and the proxy if it stays",
    ),
    "too-slow": (
        "goes on where it ended, with the next mirror, if there is one, or later",
        "set lowest_rate lower in the table [repository], or find out what slows the connection down",
    ),
    "too-long": (_MIRROR, "serve the files as they are: 'releasectl verify' on the publisher's side"),
    "bad-redirect": (_MIRROR, "name the place that it redirects to in the table [repository]"),
    "no-ranges": (_MIRROR, "let the server answer requests for ranges; any ordinary web server does"),
    "encoded": (_MIRROR, "switch compression off for these files on the server"),
    "metadata-expired": (_AGAIN, "'releasectl refresh' on the publisher's side; look at this machine's clock"),
    "metadata-rolled-back": (
        _AGAIN,
        "serve the newest metadata: a mirror or a medium is older than what this node has seen",
    ),
    "metadata-invalid": (
        _AGAIN,
        "'releasectl verify' on the publisher's side; look whether this is the right repository",
    ),
    "no-such-target": (_AGAIN, "'releasectl verify' on the publisher's side"),
    "wrong-digest": (
        "uses nothing of it; fetches it from the next mirror, if there is one, or later",
        "'releasectl verify' on the publisher's side",
    ),
    "manifest-invalid": (_AGAIN, "publish it with a releasectl that this node's version understands"),
    "index-invalid": (_AGAIN, "'releasectl verify' on the publisher's side, and publish the release anew"),
    "patch-invalid": (_AGAIN, "'releasectl verify' on the publisher's side, and publish the release anew"),
    "incompatible": (
        _NEXT_CHECK,
        "follow a channel for machines of this kind, or correct compatible in the table [identity]",
    ),
    "image-too-large": (_NEXT_CHECK, "publish a smaller image, or lay the disk out with larger slots"),
    "denied": (
        "never tries it again, and takes a newer one",
        "'updatectl history' says why; wait for a newer release, or 'updatectl allow VERSION'",
    ),
    "release-too-old": (_NEXT_CHECK, "publish a newer release"),
    "slot-missing": (_NEXT_CHECK, "'updatectl doctor' compares the disk with the configuration"),
    "slot-in-use": (_NEXT_CHECK, "unmount the slot; 'findmnt' and 'lsblk' show who uses it"),
    "slot-running": (
        _NEXT_CHECK,
        "let the boot loader pass updated.slot=NAME to the kernel; 'updatectl doctor' looks at it",
    ),
    "slot-differs": (
        "does not let the slot boot, and writes it again later",
        "a disk that does so twice is about to fail: 'journalctl --dmesg'",
    ),
    "disk-error": (
        _AGAIN,
        "its text says whether rights, the mount or the disk are to blame; 'journalctl --dmesg' names a bad disk",
    ),
    "disk-full": (_AGAIN, "free some space where /var/lib/updated is; 'df -h /var/lib/updated'"),
    "state-corrupt": (
        "sets the file aside, and begins anew with what slots and boot loader say",
        "set channel and hold again",
    ),
    "boot-reference": (_AGAIN, "'updatectl doctor' says what is damaged, and 'updated-bootctl doctor' mends it"),
    "reboot-failed": (_AGAIN, "'systemctl reboot'; then correct reboot_command in the table [updates]"),
    "hook-refused": (
        "keeps what is staged, and asks the hooks again later",
        "'updatectl log' says what the hook printed; 'updatectl reboot --force' runs none",
    ),
    "bad-config": (
        "goes on by what it read before; a daemon that starts with it ends, and systemd starts it every 10 seconds",
        "correct the line that the error names, then 'systemctl restart updated'; 'updatectl config' checks",
    ),
    "no-root-of-trust": (
        _NEXT_CHECK,
        "put root.json of 'releasectl export-root' into the image, where root_of_trust says",
    ),
    "not-possible-now": (_NOTHING, "'updatectl status' says what the node does"),
    "unknown-channel": (_NEXT_CHECK, "'updatectl channel NAME' follows one that is there"),
    "not-authorized": (_NOTHING, "do it as root, or allow it with a polkit rule"),
    "daemon-not-running": (
        "systemd starts a daemon that failed every 10 seconds, and none that was stopped",
        "'systemctl start updated'; 'updatectl log' says why it ended",
    ),
    "already-running": ("the process that was first goes on", "'systemctl stop updated' ends the other one"),
    "bad-repository": (_NOTHING, "name the folder that 'releasectl init' made"),
    "bad-key": (_NOTHING, "name the folder with the keys, and the passphrase if they have one"),
    "bad-image": (_NOTHING, "give the file or block device of an image"),
    "bad-request": (_NOTHING, "correct the argument; 'updatectl VERB --help' says what it takes"),
    "child-failed": (_AGAIN, "report it with 'updatectl log' if it stays"),
    "internal": (_AGAIN, "report it, with 'updatectl log'"),
}
