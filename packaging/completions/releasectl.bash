# Completions of releasectl for bash. 'python -m tests.documents' writes them, from what the program takes.

_releasectl() {
    local cur=${COMP_WORDS[COMP_CWORD]} path='' waits='' place=0 kind='' key word index words=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $word == '=' ]]; then
            continue
        elif [[ -n $waits ]]; then
            waits=''
        elif [[ $word == -* ]]; then
            case "$path $word" in
                '/init --keys' | '/init --passphrase-file' | '/init --channels' | '/init --lifetime' | '/init --key' |\
                '/init --threshold' | '/refresh --keys' | '/refresh --passphrase-file' | '/refresh --request' |\
                '/key/new --keys' | '/key/new --passphrase-file' | '/key/new --scheme' | '/key/import --keys' |\
                '/key/import --passphrase-file' | '/key/import --file' | '/key/import --uri' | '/key/import --record' |\
                '/key/show --keys' | '/key/list --keys' | '/key/add --keys' | '/key/add --passphrase-file' |\
                '/key/add --request' | '/key/add --role' | '/key/add --threshold' | '/key/rotate --keys' |\
                '/key/rotate --passphrase-file' | '/key/rotate --request' | '/key/rotate --role' |\
                '/key/rotate --old' | '/key/rotate --new' | '/key/revoke --keys' | '/key/revoke --passphrase-file' |\
                '/key/revoke --request' | '/key/revoke --role' | '/key/threshold --keys' |\
                '/key/threshold --passphrase-file' | '/key/threshold --request' | '/key/threshold --role' |\
                '/request/show --keys' | '/request/show --root' | '/request/sign --keys' |\
                '/request/sign --passphrase-file' | '/request/sign --root' | '/request/publish --keys' |\
                '/request/publish --passphrase-file' | '/add --keys' | '/add --passphrase-file' | '/add --request' |\
                '/add --version' | '/add --compatible' | '/add --component' | '/add --notes' | '/add --level' |\
                '/add --patches' | '/promote --keys' | '/promote --passphrase-file' | '/promote --request' |\
                '/promote --channel' | '/promote --version' | '/promote --rollout-hours' | '/promote --waves' |\
                '/promote --minimum' | '/rollout --keys' | '/rollout --passphrase-file' | '/rollout --request' |\
                '/rollout --channel' | '/rollout --version' | '/rollout --hours' | '/rollout --waves' |\
                '/recall --keys' | '/recall --passphrase-file' | '/recall --request' | '/recall --channel' |\
                '/recall --version' | '/recall --reason' | '/recall --replacement' | '/mirror --channel' |\
                '/mirror --root' | '/mirror --connections' | '/mirror --bandwidth-limit' | '/bundle --channel' |\
                '/bundle --version' | '/bundle --from' | '/serve --listen') waits=$word ;;
            esac
        else
            case $path/$word in
                /init | /refresh | /status | /verify | /export-root | /key | /key/new | /key/import | /key/show |\
                /key/list | /key/add | /key/rotate | /key/revoke | /key/threshold | /request | /request/show |\
                /request/sign | /request/publish | /add | /promote | /rollout | /recall | /mirror | /bundle | /serve) path+=/$word ;;
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
        ' -') words=(--help --version) ;;
        ' 0')
            words=(
                init refresh status verify export-root key request add promote rollout recall mirror bundle serve
            )
            ;;
        '/init -') words=(--help --keys --passphrase-file --channels --lifetime --key --threshold) ;;
        '/init 0') kind=folders ;;
        '/init --keys') kind=folders ;;
        '/init --passphrase-file') kind=files ;;
        '/refresh -') words=(--help --keys --passphrase-file --request) ;;
        '/refresh 0') kind=folders ;;
        '/refresh --keys') kind=folders ;;
        '/refresh --passphrase-file') kind=files ;;
        '/refresh --request') kind=files ;;
        '/status -') words=(--help --json) ;;
        '/status 0') kind=folders ;;
        '/verify -') words=(--help) ;;
        '/verify 0') kind=folders ;;
        '/export-root -') words=(--help) ;;
        '/export-root 0') kind=folders ;;
        '/export-root 1') kind=files ;;
        '/key -') words=(--help) ;;
        '/key 0') words=(new import show list add rotate revoke threshold) ;;
        '/key/new -') words=(--help --keys --passphrase-file --scheme) ;;
        '/key/new --keys') kind=folders ;;
        '/key/new --passphrase-file') kind=files ;;
        '/key/new --scheme') words=(ed25519 ecdsa-p256 rsa-pss ml-dsa-65) ;;
        '/key/import -') words=(--help --keys --passphrase-file --file --uri --record) ;;
        '/key/import --keys') kind=folders ;;
        '/key/import --passphrase-file') kind=files ;;
        '/key/import --file') kind=files ;;
        '/key/import --record') kind=files ;;
        '/key/show -') words=(--help --keys) ;;
        '/key/show --keys') kind=folders ;;
        '/key/list -') words=(--help --keys) ;;
        '/key/list 0') kind=folders ;;
        '/key/list --keys') kind=folders ;;
        '/key/add -') words=(--help --keys --passphrase-file --request --role --threshold) ;;
        '/key/add 0') kind=folders ;;
        '/key/add --keys') kind=folders ;;
        '/key/add --passphrase-file') kind=files ;;
        '/key/add --request') kind=files ;;
        '/key/add --role') words=(root targets snapshot timestamp releases stable beta alpha) ;;
        '/key/rotate -') words=(--help --keys --passphrase-file --request --role --old --new) ;;
        '/key/rotate 0') kind=folders ;;
        '/key/rotate --keys') kind=folders ;;
        '/key/rotate --passphrase-file') kind=files ;;
        '/key/rotate --request') kind=files ;;
        '/key/rotate --role') words=(root targets snapshot timestamp releases stable beta alpha) ;;
        '/key/revoke -') words=(--help --keys --passphrase-file --request --role) ;;
        '/key/revoke 0') kind=folders ;;
        '/key/revoke --keys') kind=folders ;;
        '/key/revoke --passphrase-file') kind=files ;;
        '/key/revoke --request') kind=files ;;
        '/key/revoke --role') words=(root targets snapshot timestamp releases stable beta alpha) ;;
        '/key/threshold -') words=(--help --keys --passphrase-file --request --role) ;;
        '/key/threshold 0') kind=folders ;;
        '/key/threshold --keys') kind=folders ;;
        '/key/threshold --passphrase-file') kind=files ;;
        '/key/threshold --request') kind=files ;;
        '/key/threshold --role') words=(root targets snapshot timestamp releases stable beta alpha) ;;
        '/request -') words=(--help) ;;
        '/request 0') words=(show sign publish) ;;
        '/request/show -') words=(--help --keys --root) ;;
        '/request/show 0') kind=files ;;
        '/request/show --keys') kind=folders ;;
        '/request/show --root') kind=files ;;
        '/request/sign -') words=(--help --keys --passphrase-file --root) ;;
        '/request/sign 0') kind=files ;;
        '/request/sign --keys') kind=folders ;;
        '/request/sign --passphrase-file') kind=files ;;
        '/request/sign --root') kind=files ;;
        '/request/publish -') words=(--help --keys --passphrase-file) ;;
        '/request/publish 0') kind=folders ;;
        '/request/publish '*) kind=files ;;
        '/request/publish --keys') kind=folders ;;
        '/request/publish --passphrase-file') kind=files ;;
        '/add -')
            words=(
                --help --keys --passphrase-file --request --version --compatible --component --notes --level --patches
            )
            ;;
        '/add 0') kind=folders ;;
        '/add --keys') kind=folders ;;
        '/add --passphrase-file') kind=files ;;
        '/add --request') kind=files ;;
        '/add --notes') kind=files ;;
        '/promote -')
            words=(
                --help --keys --passphrase-file --request --channel --version --rollout-hours --waves --barrier
                --minimum --urgent
            )
            ;;
        '/promote 0') kind=folders ;;
        '/promote --keys') kind=folders ;;
        '/promote --passphrase-file') kind=files ;;
        '/promote --request') kind=files ;;
        '/promote --channel') words=(stable beta alpha) ;;
        '/rollout -')
            words=(
                --help --keys --passphrase-file --request --channel --version --hours --waves --pause --resume --all
                --urgent --as-usual
            )
            ;;
        '/rollout 0') kind=folders ;;
        '/rollout --keys') kind=folders ;;
        '/rollout --passphrase-file') kind=files ;;
        '/rollout --request') kind=files ;;
        '/rollout --channel') words=(stable beta alpha) ;;
        '/recall -') words=(--help --keys --passphrase-file --request --channel --version --reason --replacement) ;;
        '/recall 0') kind=folders ;;
        '/recall --keys') kind=folders ;;
        '/recall --passphrase-file') kind=files ;;
        '/recall --request') kind=files ;;
        '/recall --channel') words=(stable beta alpha) ;;
        '/mirror -') words=(--help --channel --root --connections --bandwidth-limit --reread) ;;
        '/mirror 0') kind=folders ;;
        '/mirror 1') kind=folders ;;
        '/mirror --channel') words=(stable beta alpha) ;;
        '/mirror --root') kind=files ;;
        '/bundle -') words=(--help --channel --version --from) ;;
        '/bundle 0') kind=folders ;;
        '/bundle 1') kind=files ;;
        '/bundle --channel') words=(stable beta alpha) ;;
        '/serve -') words=(--help --listen) ;;
        '/serve 0') kind=folders ;;
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

complete -F _releasectl releasectl
