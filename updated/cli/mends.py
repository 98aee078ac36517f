"""What each reason to wait and each error means, and what a person can do: the one source of these words. Pure.

The tables of packaging/doc/operating.md and errors.md are checked against it. A mend holds commands in quotes, as they
are typed; words in capitals stand for what a person fills in.
"""

from __future__ import annotations

from collections.abc import Mapping

# By code of the reason: its meaning, and what to do; nothing where there is nothing to do but wait.
REASONS: Mapping[str, tuple[str, str]] = {
    "up-to-date": ("runs the newest release of the channel", ""),
    "ahead": (
        "runs something newer than all of the channel; it stays there until the channel has overtaken it",
        "'updatectl channel NAME' follows another channel",
    ),
    "empty-channel": (
        "the channel has no release yet",
        "'releasectl promote' ships one; 'updatectl channel NAME' follows another channel",
    ),
    "wave": (
        "the rollout reaches this node later, or rests before it",
        "'updatectl install' doesn't wait for it",
    ),
    "denied": (
        "failed here before, or was rolled back by a person",
        "'updatectl history' says why; wait for a newer release, or, when the cause is gone, 'updatectl allow VERSION'",
    ),
    "recalled": (
        "the publisher recalled the release, the one that runs or a newer one",
        "wait for a newer release",
    ),
    "downgrade": (
        "the release that runs was recalled, an older one replaces it, and [updates] allow_downgrade is off",
        "set allow_downgrade = true in the table [updates], then 'systemctl reload updated'",
    ),
    "barrier": ("another release has to be passed through first", "'updatectl history' says what became of that one"),
    "minimum": (
        "can only be reached from a newer release than the one that runs",
        "'updatectl import PATH' installs one in between, from a bundle",
    ),
    "deadend": (
        "the release that runs can't be updated from; the publisher's text says what to do",
        "do what the publisher says",
    ),
    "below-floor": (
        "is older than one that was confirmed on this node",
        "wait for a newer release",
    ),
    "trial": ("the slot that runs is not confirmed yet", "'updatectl health' shows its checks"),
    "held": ("a person paused updates", "'updatectl unhold' ends the pause"),
    "disabled": (
        "switched off by the configuration or by /usr/.noupdate",
        "switch it on there, then 'systemctl reload updated'; 'updatectl install' installs all the same",
    ),
    "no-repository": (
        "the configuration names none: neither url nor path",
        "'updatectl import PATH' installs one; or set url in the table [repository]",
    ),
    "not-started": (
        "staged; the boot loader starts the other slot all the same, so that only a person reboots again",
        "'updatectl reboot' tries it again; 'updatectl doctor' looks at the boot reference",
    ),
    "hook-refused": (
        "staged; a hook failed before the reboot. It is tried again at until",
        "'updatectl reboot' tries it at once; 'updatectl log' says what it printed",
    ),
    "manual-reboot": (
        "staged; by [updates] reboot, the node is rebooted by a person, or by an agent that finds /run/reboot-required",
        "'updatectl reboot' reboots into it",
    ),
    # What the node's own rules say about when it may act.
    "pinned": (
        "[updates] pin or newest does not admit the release, or the channel does not have the pinned one",
        "change it in the table [updates], then 'systemctl reload updated'",
    ),
    "download-window": ("the download windows are closed", "'updatectl install' doesn't wait for the window"),
    "reboot-window": (
        "staged; the reboot windows are closed, or what is left of one is too short",
        "'updatectl reboot' doesn't wait for the window",
    ),
    "inhibited": (
        "staged; a program has a block on shutdown; the text says which, and why",
        "'systemd-inhibit --list' shows all; 'updatectl reboot --force' asks neither them nor hooks",
    ),
    "users": (
        "staged; people are logged in and were warned",
        "'updatectl hold' stops the reboot; 'updatectl reboot' doesn't wait for them",
    ),
    "metered": ("the network is metered", "'updatectl install' downloads all the same"),
    "battery": (
        "the machine runs on battery",
        "connect it to power; 'updatectl install' and 'updatectl reboot' don't wait for that",
    ),
}

# What else can be done where the release that runs was recalled, and the other slot holds a good one.
LEAVE_RECALLED = "'updatectl rollback' leaves the one that runs"

# By code of the error: what helps in general. The error itself says what to do about the thing that it names.
ERRORS: Mapping[str, str] = {
    "unreachable": "look at the network, the name server and the proxy; it is tried again",
    "http-status": "look at the log of the web server; it is tried again",
    "not-found": "'releasectl verify' on the publisher's side; copy metadata/timestamp.json last",
    "truncated": "it goes on where it ended, by itself; look at the server and the proxy if it stays",
    "too-slow": "set lowest_rate lower in the table [repository], or find out what slows the connection down",
    "too-long": "serve the files as they are: 'releasectl verify' on the publisher's side",
    "bad-redirect": "name the place that it redirects to in the table [repository]",
    "no-ranges": "let the server answer requests for ranges; any ordinary web server does",
    "encoded": "switch compression off for these files on the server",
    "metadata-expired": "'releasectl refresh' on the publisher's side; look at this machine's clock",
    "metadata-rolled-back": "serve the newest metadata: a mirror or a medium is older than what this node has seen",
    "metadata-invalid": "'releasectl verify' on the publisher's side; look whether this is the right repository",
    "no-such-target": "'releasectl verify' on the publisher's side",
    "wrong-digest": "'releasectl verify' on the publisher's side; the rest is fetched from the next mirror",
    "manifest-invalid": "publish it with a releasectl that this node's version understands",
    "index-invalid": "'releasectl verify' on the publisher's side, and publish the release anew",
    "patch-invalid": "'releasectl verify' on the publisher's side, and publish the release anew",
    "incompatible": "follow a channel for machines of this kind, or correct compatible in the table [identity]",
    "image-too-large": "publish a smaller image, or lay the disk out with larger slots",
    "denied": "'updatectl history' says why; wait for a newer release, or 'updatectl allow VERSION'",
    "release-too-old": "publish a newer release",
    "slot-missing": "'updatectl doctor' compares the disk with the configuration",
    "slot-in-use": "unmount the slot; 'findmnt' and 'lsblk' show who uses it",
    "slot-running": "let the boot loader pass updated.slot=NAME to the kernel; 'updatectl doctor' looks at it",
    "slot-differs": "it is written again; a disk that does so twice is about to fail: 'journalctl --dmesg'",
    "disk-error": "'journalctl --dmesg' names the disk; replace it",
    "disk-full": "free some space where /var/lib/updated is; 'df -h /var/lib/updated'",
    "state-corrupt": "it is begun anew by itself; set channel and hold again",
    "boot-reference": "'updatectl doctor' says what is damaged, and 'updated-bootctl doctor' mends it",
    "reboot-failed": "'systemctl reboot'; then correct reboot_command in the table [updates]",
    "hook-refused": "'updatectl log' says what the hook printed; 'updatectl reboot --force' runs none",
    "bad-config": "correct the line that the error names, then 'systemctl restart updated'; 'updatectl config' checks",
    "no-root-of-trust": "put root.json of 'releasectl export-root' into the image, where root_of_trust says",
    "not-possible-now": "'updatectl status' says what the node does",
    "unknown-channel": "'updatectl channel NAME' follows one that is there",
    "not-authorized": "do it as root, or allow it with a polkit rule",
    "daemon-not-running": "'systemctl start updated'; 'updatectl log' says why it ended",
    "already-running": "'systemctl stop updated' ends the other one",
    "bad-repository": "name the folder that 'releasectl init' made",
    "bad-key": "name the folder with the keys, and the passphrase if they have one",
    "bad-image": "give the file or block device of an image",
    "bad-request": "correct the argument; 'updatectl VERB --help' says what it takes",
    "child-failed": "it is tried again; report it with 'updatectl log' if it stays",
    "internal": "report it, with 'updatectl log'",
}
