#compdef updated-ctl updatectl
# Completions of updatectl for zsh. 'python -m tests.documents' writes them, from what the program takes.

_updated_ctl() {
    local curcontext="$curcontext" state line
    typeset -A opt_args
    _arguments -s -C \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--root)--root=[take all paths below DIR]:DIR:_files -/' \
        '(--version)--version[print the version, and end]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '1: :->verb' \
        '*:: :->rest'
    case $state in
        verb)
            local -a verbs=(
                'status:show where the node stands, and why it is not updating now'
                'check:look for a release now'
                'install:install the newest now, despite wave, hold or download window'
                'import:install the newest release of a bundle or a directory now'
                'reboot:reboot into the staged release now'
                'rollback:go back to the other slot, reboot, and deny what runs now'
                'channel:show or choose the release channel'
                'hold:pause updates'
                'unhold:end the pause'
                'allow:take a release off the denylist'
                'history:show what happened, and why'
                'health:show the last verdict with each check, and those before'
                'watch:follow the node until interrupted'
                'log:show the log of the daemon, of health and of what they start'
                'config:show the merged configuration, and where each value comes from'
                'doctor:check this node, and say what to mend'
                'explain:say what an error or a reason means, and what to do'
                'provision:lay out a disk or an image file, and write its first slot'
            )
            _describe -t verbs verb verbs
            ;;
        rest)
            case $words[1] in
                status|check|install|import|reboot|rollback|channel|hold|unhold|allow|history|health|watch|log|config|doctor|explain|provision) _updated_ctl_${words[1]//-/_} ;;
            esac
            ;;
    esac
}

_updated_ctl_status() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)'
}

_updated_ctl_check() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--wait --no-wait)--wait[follow it to its end (default)]' \
        '(--wait --no-wait)--no-wait[only ask for it, and return at once]'
}

_updated_ctl_install() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--wait --no-wait)--wait[follow it to its end (default)]' \
        '(--wait --no-wait)--no-wait[only ask for it, and return at once]'
}

_updated_ctl_import() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--wait --no-wait)--wait[follow it to its end (default)]' \
        '(--wait --no-wait)--no-wait[only ask for it, and return at once]' \
        :PATH:_files
}

_updated_ctl_reboot() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--force)--force[ask neither the pre-reboot hooks nor inhibitors]'
}

_updated_ctl_rollback() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--force)--force[also to a release that was denied or recalled]'
}

_updated_ctl_channel() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--wait --no-wait)--wait[follow it to its end (default)]' \
        '(--wait --no-wait)--no-wait[only ask for it, and return at once]' \
        '::NAME:(stable beta alpha)'
}

_updated_ctl_hold() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '::UNTIL: '
}

_updated_ctl_unhold() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--wait --no-wait)--wait[follow it to its end]' \
        '(--wait --no-wait)--no-wait[only ask for it, and return at once (default)]'
}

_updated_ctl_allow() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--wait --no-wait)--wait[follow it to its end]' \
        '(--wait --no-wait)--no-wait[only ask for it, and return at once (default)]' \
        :VERSION:_updated_ctl_denied
}

_updated_ctl_history() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(-n --lines)-n+[how many entries at most (default\: 20)]:N: ' \
        '(-n --lines)--lines=[how many entries at most (default\: 20)]:N: ' \
        '(--since)--since=[only from then on\: 18\:00, 2026-11-20, 2026-11-20T00\:00\:00Z, or 90m, 12h, 7d ago]:TIME: '
}

_updated_ctl_health() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(-n --lines)-n+[how many verdicts (default\: 5)]:N: ' \
        '(-n --lines)--lines=[how many verdicts (default\: 5)]:N: '
}

_updated_ctl_watch() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)'
}

_updated_ctl_log() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(-f --follow)-f[go on with what is added]' \
        '(-f --follow)--follow[go on with what is added]' \
        '(-n --lines)-n+[how many lines (default\: all, with -f 10)]:N: ' \
        '(-n --lines)--lines=[how many lines (default\: all, with -f 10)]:N: ' \
        '(-b --boot)-b-[of one boot\: 0 this one (default), -1 the one before]::ID: ' \
        '(-b --boot)--boot=-[of one boot\: 0 this one (default), -1 the one before]::ID: '
}

_updated_ctl_config() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)'
}

_updated_ctl_doctor() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)'
}

_updated_ctl_explain() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        ::CODE:_updated_ctl_codes
}

_updated_ctl_provision() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        '(--color)--color=[colour the output\: auto (on a terminal, without NO_COLOR), always or never]:WHEN:(auto always never)' \
        '(--slot-size)--slot-size=[the size of each slot (default\: 2G)]:SIZE: ' \
        '(--state-size)--state-size=[the size of the state partition (default\: 1G)]:SIZE: ' \
        '(--esp-size)--esp-size=[the size of the EFI system partition (default\: 64M)]:SIZE: ' \
        '(--image)--image=[write this image into slot a, and confirm the slot]:FILE:_files' \
        '(--force)--force[overwrite a disk that has a partition table]' \
        :DISK:_files
}

_updated_ctl_denied() {
    local -a versions=(${(f)"$(_call_program versions $service status --json 2>/dev/null |
        sed -n '/^  "denied": \[$/,/^  \]/s/^ *"version": "\([0-9A-Za-z.+-]*\)".*/\1/p')"})
    _describe -t versions version versions
}

_updated_ctl_codes() {
    local -a codes=(
        'internal:an error that the program did not expect'
        'child-failed:a child process ended without a result'
        'bad-request:an argument is not valid'
        'bad-image:an image can'"'"'t be published'
        'bad-key:a signing key is missing or does not open'
        'bad-repository:the repository folder is not as expected'
        'already-running:another process already works on this node'
        'daemon-not-running:the daemon does not answer on the bus'
        'not-authorized:the caller may not do this'
        'unknown-channel:the repository has no such channel'
        'not-possible-now:the request does not fit the state of the node'
        'no-root-of-trust:the pinned root metadata is missing or damaged'
        'bad-config:the configuration is not valid'
        'hook-refused:staged; a hook failed before the reboot. It is tried again at until'
        'reboot-failed:the command that reboots did not work'
        'boot-reference:the boot reference could not be read or written'
        'state-corrupt:a state file is damaged'
        'disk-full:there is no space left for the state of the node, or for a file of a slot'
        'disk-error:a disk or a file could not be read or written'
        'slot-differs:what was read back from the slot is not the signed image'
        'slot-running:it is not known which slot runs, or it is the one to be written'
        'slot-in-use:the slot to be written is mounted, or something else writes to it'
        'slot-missing:a partition, folder or file that a slot needs is not there'
        'release-too-old:the release is below the version floor of this node'
        'denied:failed here before, or was rolled back by a person'
        'image-too-large:an image is larger than its slot'
        'incompatible:the release is made for other machines'
        'patch-invalid:the table of a patch does not fit its format'
        'index-invalid:a chunk index does not fit its format'
        'manifest-invalid:a signed manifest does not fit its schema'
        'wrong-digest:content differs from its signed digest'
        'no-such-target:the signed metadata does not list what is needed'
        'metadata-invalid:signed metadata does not verify'
        'metadata-rolled-back:signed metadata is older than what was trusted'
        'metadata-expired:signed metadata is past its expiry date'
        'encoded:the server compressed a body on the way'
        'no-ranges:the server sends a file from its beginning only'
        'bad-redirect:the server redirected to a place that is not allowed'
        'too-long:the server sent more than the signed length'
        'too-slow:the server sent less than the lowest accepted rate'
        'truncated:the connection ended before the whole file came'
        'not-found:a file of the repository is missing on the server'
        'http-status:the server answered with an error'
        'unreachable:the server could not be reached'
        'battery:the machine runs on battery'
        'metered:the network is metered'
        'users:staged; people are logged in and were warned'
        'inhibited:staged; a program has a block on shutdown; the text says which, and why'
        'reboot-window:staged; the reboot windows are closed, or what is left of one is too short'
        'download-window:the download windows are closed'
        'pinned:[updates] pin or newest does not admit the release, or the channel does not have the pinned one'
        'manual-reboot:staged; by [updates] reboot, the node is rebooted by a person, or by an agent that finds /run/reboot-required'
        'not-started:staged; the boot loader starts the other slot all the same, so that only a person reboots again'
        'no-repository:the configuration names none: neither url nor path'
        'disabled:switched off by the configuration or by /usr/.noupdate'
        'held:a person paused updates'
        'trial:the slot that runs is not confirmed yet'
        'below-floor:is older than one that was confirmed on this node'
        'deadend:the release that runs can'"'"'t be updated from; the publisher'"'"'s text says what to do'
        'minimum:can only be reached from a newer release than the one that runs'
        'barrier:another release has to be passed through first'
        'downgrade:the release that runs was recalled, an older one replaces it, and [updates] allow_downgrade is off'
        'recalled:the publisher recalled the release, the one that runs or a newer one'
        'wave:the rollout reaches this node later, or rests before it'
        'empty-channel:the channel has no release yet'
        'ahead:runs something newer than all of the channel; it stays there until the channel has overtaken it'
        'up-to-date:runs the newest release of the channel'
    )
    _describe -t codes code codes
}

# Another program may have the name updatectl.
if [[ $service == updatectl && -n $commands[updated-ctl] && ! $commands[updatectl] -ef $commands[updated-ctl] ]]; then
    _default
    return
fi
_updated_ctl "$@"
