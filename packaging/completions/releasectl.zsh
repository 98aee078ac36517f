#compdef releasectl
# Completions of releasectl for zsh. 'python -m tests.documents' writes them, from what the program takes.

_releasectl() {
    local curcontext="$curcontext" state line
    typeset -A opt_args
    _arguments -s -C \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--version)--version[print the version, and end]' \
        '1: :->verb' \
        '*:: :->rest'
    case $state in
        verb)
            local -a verbs=(
                'init:make a repository and its keys'
                'refresh:sign the roles anew that change often or expire soon'
                'status:show what each channel ships, and when signatures expire'
                'verify:check every signature, digest and compressed frame'
                'export-root:write the root of trust that images pin'
                'key:make keys, and say which of them sign which role'
                'request:sign a change together with others'
                'add:publish a release; no channel ships it yet'
                'promote:ship a release in a channel'
                'rollout:go on with the rollout of a release, or pause it'
                'recall:take a release back: no node of the channel takes it any more'
                'mirror:copy a repository, verified, into a folder that nodes read'
                'bundle:write a release into one file, for nodes without a network'
                'serve:serve a repository over HTTP, to try things out'
            )
            _describe -t verbs verb verbs
            ;;
        rest)
            case $words[1] in
                init|refresh|status|verify|export-root|key|request|add|promote|rollout|recall|mirror|bundle|serve) _releasectl_${words[1]//-/_} ;;
            esac
            ;;
    esac
}

_releasectl_init() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--channels)--channels=[the channels, with commas (default\: stable,beta,alpha)]:NAMES: ' \
        '*--lifetime=[how long the signatures of a role last]:ROLE=DAYS: ' \
        '*--key=[a key in the folder for this role (again for more keys); a role without one gets new keys]:ROLE=NAME: ' \
        '*--threshold=[how many keys have to sign (root\: 2, others\: 1)]:ROLE=N: ' \
        ':REPOSITORY:_files -/'
}

_releasectl_refresh() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        ':REPOSITORY:_files -/'
}

_releasectl_status() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--json)--json[print JSON]' \
        ':REPOSITORY:_files -/'
}

_releasectl_verify() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        ':REPOSITORY:_files -/'
}

_releasectl_export_root() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        ':REPOSITORY:_files -/' \
        :FILE:_files
}

_releasectl_key() {
    local curcontext="$curcontext" state line
    typeset -A opt_args
    _arguments -s -C \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '1: :->verb' \
        '*:: :->rest'
    case $state in
        verb)
            local -a verbs=(
                'new:make a key, in a file'
                'import:make a key known that is elsewhere, or somebody else'"'"'s'
                'show:print the record of a key, to send it to others'
                'list:show the keys of a folder, and which keys sign which role'
                'add:let one more key sign a role'
                'rotate:take a new key into a role, and an old one out'
                'revoke:take a key out of a role'
                'threshold:change how many keys have to sign a role'
            )
            _describe -t verbs verb verbs
            ;;
        rest)
            case $words[1] in
                new|import|show|list|add|rotate|revoke|threshold) _releasectl_key_${words[1]//-/_} ;;
            esac
            ;;
    esac
}

_releasectl_key_new() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--scheme)--scheme=[how it signs\: ed25519, ecdsa-p256, rsa-pss, ml-dsa-65 (default\: ed25519)]:SCHEME:(ed25519 ecdsa-p256 rsa-pss ml-dsa-65)' \
        ':NAME: '
}

_releasectl_key_import() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--file --uri --record)--file=[a private key (PKCS #8); it is copied]:PEM:_files' \
        '(--file --uri --record)--uri=[a key in a token or a service, such as hsm\:2?label=TOKEN]:URI: ' \
        '(--file --uri --record)--record=[what '"'"'key show'"'"' printed on another machine]:FILE:_files' \
        ':NAME: '
}

_releasectl_key_show() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        ':NAME: '
}

_releasectl_key_list() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[a folder of keys]:DIR:_files -/' \
        '::REPOSITORY:_files -/'
}

_releasectl_key_add() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--role)--role=[the role\: root, targets, releases or such]:ROLE:(root targets snapshot timestamp releases stable beta alpha)' \
        '(--threshold)--threshold=[how many keys have to sign from then on]:N: ' \
        ':REPOSITORY:_files -/' \
        ':NAME: '
}

_releasectl_key_rotate() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--role)--role=[the role\: root, targets, releases or such]:ROLE:(root targets snapshot timestamp releases stable beta alpha)' \
        '(--old)--old=[the key to take out]:NAME|KEYID: ' \
        '(--new)--new=[the key, by its name in the folder]:NAME: ' \
        ':REPOSITORY:_files -/'
}

_releasectl_key_revoke() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--role)--role=[the role\: root, targets, releases or such]:ROLE:(root targets snapshot timestamp releases stable beta alpha)' \
        ':REPOSITORY:_files -/' \
        ':NAME|KEYID: '
}

_releasectl_key_threshold() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--role)--role=[the role\: root, targets, releases or such]:ROLE:(root targets snapshot timestamp releases stable beta alpha)' \
        ':REPOSITORY:_files -/' \
        ':N: '
}

_releasectl_request() {
    local curcontext="$curcontext" state line
    typeset -A opt_args
    _arguments -s -C \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '1: :->verb' \
        '*:: :->rest'
    case $state in
        verb)
            local -a verbs=(
                'show:say what a request changes, and which signatures are missing'
                'sign:sign a request with the keys that are here and that it asks for'
                'publish:publish a request that has all its signatures'
            )
            _describe -t verbs verb verbs
            ;;
        rest)
            case $words[1] in
                show|sign|publish) _releasectl_request_${words[1]//-/_} ;;
            esac
            ;;
    esac
}

_releasectl_request_show() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[a folder of keys\: they are called by their names]:DIR:_files -/' \
        '(--root)--root=[the root of trust that you know\: refuse what does not follow it]:FILE:_files' \
        :FILE:_files
}

_releasectl_request_sign() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--root)--root=[the root of trust that you know\: refuse what does not follow it]:FILE:_files' \
        :FILE:_files
}

_releasectl_request_publish() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        ':REPOSITORY:_files -/' \
        '*:FILE:_files'
}

_releasectl_add() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--version)--version=[such as 1.4.0 or 1.4.0-rc.1]:VERSION: ' \
        '(--compatible)--compatible=[which machines the release is made for]:NAME: ' \
        '*--component=[an image file, such as rootfs=FILE]:NAME=IMAGE: ' \
        '(--notes)--notes=[a text for people]:FILE:_files' \
        '(--level)--level=[the level of zstd (default\: 17)]:1-22: ' \
        '(--patches)--patches=[from how many of the newest releases to make patches (default\: 2)]:0-9: ' \
        ':REPOSITORY:_files -/'
}

_releasectl_promote() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--channel)--channel=[the channel]:NAME:(stable beta alpha)' \
        '(--version)--version=[the release]:VERSION: ' \
        '(--rollout-hours --waves)--rollout-hours=[spread the nodes evenly over this time]:HOURS: ' \
        '(--rollout-hours --waves)--waves=[a share of the nodes at a time\: 1%,10%@24h,100%@3d]:WAVES: ' \
        '(--barrier)--barrier[nodes with older releases must pass through this one]' \
        '(--minimum)--minimum=[only nodes that run this one or a newer one may take it]:VERSION: ' \
        '(--urgent)--urgent[nodes don'"'"'t wait for their windows]' \
        ':REPOSITORY:_files -/'
}

_releasectl_rollout() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--channel)--channel=[the channel]:NAME:(stable beta alpha)' \
        '(--version)--version=[the release]:VERSION: ' \
        '(--hours --waves --pause --resume --all --urgent --as-usual)--hours=[the rest of the nodes evenly over this time]:HOURS: ' \
        '(--hours --waves --pause --resume --all --urgent --as-usual)--waves=[waves from now on, such as 10%,100%@24h]:WAVES: ' \
        '(--hours --waves --pause --resume --all --urgent --as-usual)--pause[no more nodes than now]' \
        '(--hours --waves --pause --resume --all --urgent --as-usual)--resume[after a pause, go on as before]' \
        '(--hours --waves --pause --resume --all --urgent --as-usual)--all[all nodes now]' \
        '(--hours --waves --pause --resume --all --urgent --as-usual)--urgent[nodes don'"'"'t wait for their windows; the waves stay]' \
        '(--hours --waves --pause --resume --all --urgent --as-usual)--as-usual[nodes wait for their windows again]' \
        ':REPOSITORY:_files -/'
}

_releasectl_recall() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--keys)--keys=[the folder of the keys]:DIR:_files -/' \
        '(--passphrase-file)--passphrase-file=[its first line opens encrypted keys (else the variable RELEASECTL_PASSPHRASE does)]:FILE:_files' \
        '(--request)--request=[publish nothing; write the change to this file, to be signed by others]:FILE:_files' \
        '(--channel)--channel=[the channel]:NAME:(stable beta alpha)' \
        '(--version)--version=[the release]:VERSION: ' \
        '(--reason)--reason=[for the people who read it on the nodes]:TEXT: ' \
        '(--replacement)--replacement=[an older release that nodes go back to, if their operator allows that]:VERSION: ' \
        ':REPOSITORY:_files -/'
}

_releasectl_mirror() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '*--channel=[only what this channel needs]:NAME:(stable beta alpha)' \
        '(--root)--root=[the root of trust (default\: the one that the mirror began with)]:FILE:_files' \
        '(--connections)--connections=[how many files to fetch at once (default\: 4)]:1-32: ' \
        '(--bandwidth-limit)--bandwidth-limit=[at most so many bytes per second]:BYTES: ' \
        '(--reread)--reread[also check what is there already, and mend it]' \
        ':SOURCE:_files -/' \
        ':DESTINATION:_files -/'
}

_releasectl_bundle() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--channel)--channel=[the channel]:NAME:(stable beta alpha)' \
        '(--version)--version=[the release (default\: the newest that the channel ships)]:VERSION: ' \
        '*--from=[what nodes run\: patches from it go along, and barriers on the way]:VERSION: ' \
        ':REPOSITORY:_files -/' \
        :FILE:_files
}

_releasectl_serve() {
    _arguments -s \
        '(- *)-h[show the help]' \
        '(- *)--help[show the help]' \
        '(--listen)--listen=[where (default\: 127.0.0.1\:8080)]:HOST\:PORT: ' \
        ':REPOSITORY:_files -/'
}

_releasectl "$@"
