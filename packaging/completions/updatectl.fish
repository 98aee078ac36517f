# Completions of updatectl for fish. 'python -m tests.documents' writes them, from what the program takes.

# Whether the words so far lead to a verb, and so many arguments stand behind it.
function __updated_ctl_at -a wanted place
    set -l words (commandline -opc)
    set -e words[1]
    set -l path ''
    set -l count 0
    set -l skip no
    for word in $words
        if test $skip = yes
            set skip no
        else if contains -- "$path $word" ' --root' ' --color' '/status --color' '/check --color' '/install --color' '/import --color' '/reboot --color' '/rollback --color' '/channel --color' '/hold --color' '/unhold --color' '/allow --color' '/history --color' '/history -n' '/history --lines' '/history --since' '/health --color' '/health -n' '/health --lines' '/watch --color' '/log --color' '/log -n' '/log --lines' '/config --color' '/doctor --color' '/explain --color' '/provision --color' '/provision --slot-size' '/provision --state-size' '/provision --esp-size' '/provision --image'
            set skip yes
        else if string match -q -- '-*' $word
            continue
        else if contains -- "$path/$word" /status /check /install /import /reboot /rollback /channel /hold /unhold /allow /history /health /watch /log /config /doctor /explain /provision
            set path $path/$word
        else
            set count (math $count + 1)
        end
    end
    test "$path" = "$wanted"; and test -z "$place" -o "$count" = "$place"
end

function __updated_ctl_denied
    set -l program updated-ctl
    command -q $program; or set program updatectl
    command $program status --json 2>/dev/null |
        sed -n '/^  "denied": \[$/,/^  \]/s/^ *"version": "\([0-9A-Za-z.+-]*\)".*/\1/p'
end

function __updated_ctl_codes
    printf '%s\t%s\n' \
        internal 'an error that the program did not expect' \
        child-failed 'a child process ended without a result' \
        bad-request 'an argument is not valid' \
        bad-image 'an image can\'t be published' \
        bad-key 'a signing key is missing or does not open' \
        bad-repository 'the repository folder is not as expected' \
        already-running 'another process already works on this node' \
        daemon-not-running 'the daemon does not answer on the bus' \
        not-authorized 'the caller may not do this' \
        unknown-channel 'the repository has no such channel' \
        not-possible-now 'the request does not fit the state of the node' \
        no-root-of-trust 'the pinned root metadata is missing or damaged' \
        bad-config 'the configuration is not valid' \
        hook-refused 'staged; a hook failed before the reboot. It is tried again at until' \
        reboot-failed 'the command that reboots did not work' \
        boot-reference 'the boot reference could not be read or written' \
        state-corrupt 'a state file is damaged' \
        disk-full 'there is no space left for the state of the node, or for a file of a slot' \
        disk-error 'a disk or a file could not be read or written' \
        slot-differs 'what was read back from the slot is not the signed image' \
        slot-running 'it is not known which slot runs, or it is the one to be written' \
        slot-in-use 'the slot to be written is mounted, or something else writes to it' \
        slot-missing 'a partition, folder or file that a slot needs is not there' \
        release-too-old 'the release is below the version floor of this node' \
        denied 'failed here before, or was rolled back by a person' \
        image-too-large 'an image is larger than its slot' \
        incompatible 'the release is made for other machines' \
        patch-invalid 'the table of a patch does not fit its format' \
        index-invalid 'a chunk index does not fit its format' \
        manifest-invalid 'a signed manifest does not fit its schema' \
        wrong-digest 'content differs from its signed digest' \
        no-such-target 'the signed metadata does not list what is needed' \
        metadata-invalid 'signed metadata does not verify' \
        metadata-rolled-back 'signed metadata is older than what was trusted' \
        metadata-expired 'signed metadata is past its expiry date' \
        encoded 'the server compressed a body on the way' \
        no-ranges 'the server sends a file from its beginning only' \
        bad-redirect 'the server redirected to a place that is not allowed' \
        too-long 'the server sent more than the signed length' \
        too-slow 'the server sent less than the lowest accepted rate' \
        truncated 'the connection ended before the whole file came' \
        not-found 'a file of the repository is missing on the server' \
        http-status 'the server answered with an error' \
        unreachable 'the server could not be reached' \
        battery 'the machine runs on battery' \
        metered 'the network is metered' \
        users 'staged; people are logged in and were warned' \
        inhibited 'staged; a program has a block on shutdown; the text says which, and why' \
        reboot-window 'staged; the reboot windows are closed, or what is left of one is too short' \
        download-window 'the download windows are closed' \
        pinned '[updates] pin or newest does not admit the release, or the channel does not have the pinned one' \
        manual-reboot 'staged; by [updates] reboot, the node is rebooted by a person, or by an agent that finds /run/reboot-required' \
        not-started 'staged; the boot loader starts the other slot all the same, so that only a person reboots again' \
        no-repository 'the configuration names none: neither url nor path' \
        disabled 'switched off by the configuration or by /usr/.noupdate' \
        held 'a person paused updates' \
        trial 'the slot that runs is not confirmed yet' \
        below-floor 'is older than one that was confirmed on this node' \
        deadend 'the release that runs can\'t be updated from; the publisher\'s text says what to do' \
        minimum 'can only be reached from a newer release than the one that runs' \
        barrier 'another release has to be passed through first' \
        downgrade 'the release that runs was recalled, an older one replaces it, and [updates] allow_downgrade is off' \
        recalled 'the publisher recalled the release, the one that runs or a newer one' \
        wave 'the rollout reaches this node later, or rests before it' \
        empty-channel 'the channel has no release yet' \
        ahead 'runs something newer than all of the channel; it stays there until the channel has overtaken it' \
        up-to-date 'runs the newest release of the channel'
end

complete -c updated-ctl -f
complete -c updated-ctl -n '__updated_ctl_at \'\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'\'' -l root -r -f -a '(__fish_complete_directories)' -d 'take all paths below DIR'
complete -c updated-ctl -n '__updated_ctl_at \'\'' -l version -f -d 'print the version, and end'
complete -c updated-ctl -n '__updated_ctl_at \'\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a status -d 'show where the node stands, and why it is not updating now'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a check -d 'look for a release now'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a install -d 'install the newest now, despite wave, hold or download window'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a import -d 'install the newest release of a bundle or a directory now'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a reboot -d 'reboot into the staged release now'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a rollback -d 'go back to the other slot, reboot, and deny what runs now'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a channel -d 'show or choose the release channel'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a hold -d 'pause updates'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a unhold -d 'end the pause'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a allow -d 'take a release off the denylist'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a history -d 'show what happened, and why'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a health -d 'show the last verdict with each check, and those before'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a watch -d 'follow the node until interrupted'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a log -d 'show the log of the daemon, of health and of what they start'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a config -d 'show the merged configuration, and where each value comes from'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a doctor -d 'check this node, and say what to mend'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a explain -d 'say what an error or a reason means, and what to do'
complete -c updated-ctl -n '__updated_ctl_at \'\' 0' -f -a provision -d 'lay out a disk or an image file, and write its first slot'
complete -c updated-ctl -n '__updated_ctl_at \'/status\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/status\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/status\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/check\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/check\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/check\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/check\'' -l wait -f -d 'follow it to its end (default)'
complete -c updated-ctl -n '__updated_ctl_at \'/check\'' -l no-wait -f -d 'only ask for it, and return at once'
complete -c updated-ctl -n '__updated_ctl_at \'/install\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/install\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/install\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/install\'' -l wait -f -d 'follow it to its end (default)'
complete -c updated-ctl -n '__updated_ctl_at \'/install\'' -l no-wait -f -d 'only ask for it, and return at once'
complete -c updated-ctl -n '__updated_ctl_at \'/import\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/import\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/import\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/import\'' -l wait -f -d 'follow it to its end (default)'
complete -c updated-ctl -n '__updated_ctl_at \'/import\'' -l no-wait -f -d 'only ask for it, and return at once'
complete -c updated-ctl -n '__updated_ctl_at \'/import\' 0' -F
complete -c updated-ctl -n '__updated_ctl_at \'/reboot\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/reboot\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/reboot\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/reboot\'' -l force -f -d 'ask neither the pre-reboot hooks nor inhibitors'
complete -c updated-ctl -n '__updated_ctl_at \'/rollback\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/rollback\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/rollback\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/rollback\'' -l force -f -d 'also to a release that was denied or recalled'
complete -c updated-ctl -n '__updated_ctl_at \'/channel\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/channel\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/channel\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/channel\'' -l wait -f -d 'follow it to its end (default)'
complete -c updated-ctl -n '__updated_ctl_at \'/channel\'' -l no-wait -f -d 'only ask for it, and return at once'
complete -c updated-ctl -n '__updated_ctl_at \'/channel\' 0' -f -a 'stable beta alpha'
complete -c updated-ctl -n '__updated_ctl_at \'/hold\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/hold\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/hold\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/unhold\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/unhold\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/unhold\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/unhold\'' -l wait -f -d 'follow it to its end'
complete -c updated-ctl -n '__updated_ctl_at \'/unhold\'' -l no-wait -f -d 'only ask for it, and return at once (default)'
complete -c updated-ctl -n '__updated_ctl_at \'/allow\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/allow\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/allow\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/allow\'' -l wait -f -d 'follow it to its end'
complete -c updated-ctl -n '__updated_ctl_at \'/allow\'' -l no-wait -f -d 'only ask for it, and return at once (default)'
complete -c updated-ctl -n '__updated_ctl_at \'/allow\' 0' -f -a '(__updated_ctl_denied)'
complete -c updated-ctl -n '__updated_ctl_at \'/history\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/history\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/history\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/history\'' -s n -l lines -r -f -d 'how many entries at most (default: 20)'
complete -c updated-ctl -n '__updated_ctl_at \'/history\'' -l since -r -f -d 'only from then on: 18:00, 2026-11-20, 2026-11-20T00:00:00Z, or 90m, 12h, 7d ago'
complete -c updated-ctl -n '__updated_ctl_at \'/health\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/health\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/health\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/health\'' -s n -l lines -r -f -d 'how many verdicts (default: 5)'
complete -c updated-ctl -n '__updated_ctl_at \'/watch\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/watch\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/watch\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/log\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/log\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/log\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/log\'' -s f -l follow -f -d 'go on with what is added'
complete -c updated-ctl -n '__updated_ctl_at \'/log\'' -s n -l lines -r -f -d 'how many lines (default: all, with -f 10)'
complete -c updated-ctl -n '__updated_ctl_at \'/log\'' -s b -l boot -f -d 'of one boot: 0 this one (default), -1 the one before'
complete -c updated-ctl -n '__updated_ctl_at \'/config\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/config\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/config\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/doctor\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/doctor\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/doctor\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/explain\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/explain\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/explain\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/explain\' 0' -f -a '(__updated_ctl_codes)'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -f -s h -l help -d 'show the help'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -l json -f -d 'print JSON'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -l color -r -f -a 'auto always never' -d 'colour the output: auto (on a terminal, without NO_COLOR), always or never'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -l slot-size -r -f -d 'the size of each slot (default: 2G)'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -l state-size -r -f -d 'the size of the state partition (default: 1G)'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -l esp-size -r -f -d 'the size of the EFI system partition (default: 64M)'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -l image -r -F -d 'write this image into slot a, and confirm the slot'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\'' -l force -f -d 'overwrite a disk that has a partition table'
complete -c updated-ctl -n '__updated_ctl_at \'/provision\' 0' -F

# Another program may have the name updatectl.
if not command -q updated-ctl; or test (realpath (command -s updatectl) 2>/dev/null) = (realpath (command -s updated-ctl))
    complete -c updatectl -w updated-ctl
end
