# What assemble-rootfs and assemble-release share; sourced by them. They set $tree, the unpacked root file system.

repository=$(cd "$here/../.." && pwd)

# Unpacks the tar file of packages, and takes out what differs from one build to the next, or belongs to the machine that
# built it.
unpack() {
    tar -C "$tree" --numeric-owner -xpf "$1"
    chmod 0755 "$tree"
    rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/var/cache/ldconfig/* "$tree"/run/* "$tree"/tmp/*
    rm -f "$tree"/var/cache/debconf/*-old "$tree"/var/lib/dpkg/*-old "$tree"/etc/passwd- "$tree"/etc/group- \
        "$tree"/etc/shadow- "$tree"/etc/gshadow- "$tree"/etc/.pwd.lock "$tree"/etc/resolv.conf "$tree"/var/lib/dbus/machine-id
    find "$tree/var/log" -type f -delete
    : >"$tree/etc/machine-id"
    : >"$tree/etc/resolv.conf"
    echo localhost >"$tree/etc/hostname"
}

# put FOLDER PLACE: copies a folder into the image; of the modes only the executable bit counts, as in git.
put() {
    (cd "$1" && find . ! -name . ! -path '*/__pycache__*' ! -name '*.pyc' -print) | LC_ALL=C sort | while IFS= read -r name; do
        from=$1/$name to=$tree$2/$name
        if [ -L "$from" ]; then ln -sfn "$(readlink "$from")" "$to"
        elif [ -d "$from" ]; then [ -d "$to" ] || mkdir -m 0755 "$to"
        elif [ -x "$from" ]; then install -m 0755 "$from" "$to"
        else install -m 0644 "$from" "$to"
        fi
    done
}

# Compiles the Python below a folder. Bound to the content of the source, not to a time stamp; the python of this
# machine does it only if it is of the version that the image has.
compile() {
    python=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    if [ -d "$tree/usr/lib/$python" ]; then
        (cd "$tree" && PYTHONHASHSEED=0 python3 -m compileall -q -f -p / --invalidation-mode unchecked-hash "$1")
    else
        echo "${0##*/}: the image has no $python, so that $1 is not compiled in it." >&2
    fi
}

# name ID VERSION: writes into os-release which image this is.
name() {
    release=$tree/usr/lib/os-release
    sed -i '/^IMAGE_ID=/d; /^IMAGE_VERSION=/d' "$release"
    printf 'IMAGE_ID=%s\nIMAGE_VERSION=%s\n' "$1" "$2" >>"$release"
    ln -sfn ../usr/lib/os-release "$tree/etc/os-release"
}

# Data of files lies apart from inodes (--chunksize), so that a file that grew leaves the rest of the image as it was.
# -T of mkfs.erofs 1.5 only takes back time stamps that are newer.
make_image() {
    find "$tree" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-1700000000}" {} +
    rm -f "$1"
    mkfs.erofs --quiet --chunksize=65536 -x-1 -T "${SOURCE_DATE_EPOCH:-1700000000}" \
        -U 7b3c1f0e-2d54-4c6b-9a0e-5f1d8e7a4c21 "$1" "$tree"
}
