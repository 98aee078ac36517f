# Completions of updatectl for bash. 'python -m tests.documents' writes them, from what the program takes.

_updated_ctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} path='' waits='' place=0 kind='' key word index words=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $word == '=' ]]; then
            continue
        elif [[ -n $waits ]]; then
            waits=''
        elif [[ $word == -* ]]; then
            case "$path $word" in
                ' --root' | ' --color' | '/status --color' | '/check --color' | '/install --color' |\
                '/import --color' | '/reboot --color' | '/rollback --color' | '/channel --color' | '/hold --color' |\
                '/unhold --color' | '/allow --color' | '/history --color' | '/history -n' | '/history --lines' |\
                '/history --since' | '/health --color' | '/health -n' | '/health --lines' | '/watch --color' |\
                '/log --color' | '/log -n' | '/log --lines' | '/config --color' | '/doctor --color' |\
                '/explain --color' | '/provision --color' | '/provision --slot-size' | '/provision --state-size' |\
                '/provision --esp-size' | '/provision --image') waits=$word ;;
            esac
        else
            case $path/$word in
                /status | /check | /install | /import | /reboot | /rollback | /channel | /hold | /unhold | /allow |\
                /history | /health | /watch | /log | /config | /doctor | /explain | /provision) path+=/$word ;;
                *) ((place += 1)) ;;
            esac
        fi
    done
    [[ $cur != '=' ]] || cur=''
    if [[ -n $waits ]]; then
        key="$path $waits"
    elif [[ $cur == -* ]]; then
        key="$path -"
    else
        key="$path $place"
    fi
    case $key in
        ' -') words=(--help --root --version --json --color) ;;
        ' 0')
            words=(
                status check install import reboot rollback channel hold unhold allow history health watch log config
                doctor explain provision
            )
            ;;
        ' --root') kind=folders ;;
        ' --color') words=(auto always never) ;;
        '/status -') words=(--help --json --color) ;;
        '/status --color') words=(auto always never) ;;
        '/check -') words=(--help --json --color --wait --no-wait) ;;
        '/check --color') words=(auto always never) ;;
        '/install -') words=(--help --json --color --wait --no-wait) ;;
        '/install --color') words=(auto always never) ;;
        '/import -') words=(--help --json --color --wait --no-wait) ;;
        '/import 0') kind=files ;;
        '/import --color') words=(auto always never) ;;
        '/reboot -') words=(--help --json --color --force) ;;
        '/reboot --color') words=(auto always never) ;;
        '/rollback -') words=(--help --json --color --force) ;;
        '/rollback --color') words=(auto always never) ;;
        '/channel -') words=(--help --json --color --wait --no-wait) ;;
        '/channel 0') words=(stable beta alpha) ;;
        '/channel --color') words=(auto always never) ;;
        '/hold -') words=(--help --json --color) ;;
        '/hold --color') words=(auto always never) ;;
        '/unhold -') words=(--help --json --color --wait --no-wait) ;;
        '/unhold --color') words=(auto always never) ;;
        '/allow -') words=(--help --json --color --wait --no-wait) ;;
        '/allow 0') kind=denied ;;
        '/allow --color') words=(auto always never) ;;
        '/history -') words=(--help --json --color -n --lines --since) ;;
        '/history --color') words=(auto always never) ;;
        '/health -') words=(--help --json --color -n --lines) ;;
        '/health --color') words=(auto always never) ;;
        '/watch -') words=(--help --json --color) ;;
        '/watch --color') words=(auto always never) ;;
        '/log -') words=(--help --json --color -f --follow -n --lines -b --boot) ;;
        '/log --color') words=(auto always never) ;;
        '/config -') words=(--help --json --color) ;;
        '/config --color') words=(auto always never) ;;
        '/doctor -') words=(--help --json --color) ;;
        '/doctor --color') words=(auto always never) ;;
        '/explain -') words=(--help --json --color) ;;
        '/explain 0')
            words=(
                internal child-failed bad-request bad-image bad-key bad-repository already-running daemon-not-running
                not-authorized unknown-channel not-possible-now no-root-of-trust bad-config hook-refused reboot-failed
                boot-reference state-corrupt disk-full disk-error slot-differs slot-running slot-in-use slot-missing
                release-too-old denied image-too-large incompatible patch-invalid index-invalid manifest-invalid
                wrong-digest no-such-target metadata-invalid metadata-rolled-back metadata-expired encoded no-ranges
                bad-redirect too-long too-slow truncated not-found http-status unreachable battery metered users
                inhibited reboot-window download-window pinned manual-reboot not-started no-repository disabled held
                trial below-floor deadend minimum barrier downgrade recalled wave empty-channel ahead up-to-date
            )
            ;;
        '/explain --color') words=(auto always never) ;;
        '/provision -') words=(--help --json --color --slot-size --state-size --esp-size --image --force) ;;
        '/provision 0') kind=files ;;
        '/provision --color') words=(auto always never) ;;
        '/provision --image') kind=files ;;
    esac
    COMPREPLY=()
    case $kind in
        files) compopt -o default ;;
        folders) compopt -o dirnames ;;
        denied)
            mapfile -t words < <("$1" status --json 2>/dev/null |
                sed -n '/^  "denied": \[$/,/^  \]/s/^ *"version": "\([0-9A-Za-z.+-]*\)".*/\1/p')
            ;;
    esac
    for word in "${words[@]}"; do
        [[ $word != "$cur"* ]] || COMPREPLY+=("$word")
    done
}

complete -F _updated_ctl updated-ctl
# Another program may have the name updatectl.
if ! type -P updated-ctl >/dev/null || [[ $(type -P updatectl) -ef $(type -P updated-ctl) ]]; then
    complete -F _updated_ctl updatectl
fi
