# boot.cmd - choose the slot, count the boot, and start it (see the README.md of uboot).
#
#   mkimage -A arm64 -T script -C none -n updated -d boot.cmd boot.scr
#
# In U-Boot's environment, BOOT_ORDER lists the slots. BOOT_X_LEFT: the boots that slot X has left. BOOT_X_OK: 0 while it is on
# trial, 1 if its boots are not counted (BOOT_X_LEFT is 9 then); with 2, or anything else, it is confirmed and counted.

# ---- What depends on the board. Commands that the environment has already need no line here. ----

# Only for a U-Boot that has no place of its own for the environment (CONFIG_ENV_IS_NOWHERE):
# load mmc 0:1 ${loadaddr} uboot.env && env import -c ${loadaddr} ${filesize}

# Only for an environment that is one file: its second copy, for the case that a power cut spoiled the first one.
# if test -z "${BOOT_ORDER}"; then
#     load mmc 0:1 ${loadaddr} uboot.env.backup && env import -c ${loadaddr} ${filesize}
# fi

# How the environment is saved; the second way is for a U-Boot without saveenv (0x4000 is the size of the environment).
setenv updated_save 'saveenv'
# setenv updated_save 'env export -c -s 0x4000 ${loadaddr} && fatwrite mmc 0:1 ${loadaddr} uboot.env 0x4000'

# The kernel's arguments; updated.slot=a or updated.slot=b is put behind them. panic=10 makes a panic a further try.
setenv updated_args 'console=ttyS0,115200 ro panic=10'

# How each slot is loaded and started.
setenv updated_boot_a 'setenv bootargs ${bootargs} root=PARTLABEL=rootfs-a; load mmc 0:2 ${kernel_addr_r} /boot/Image && load mmc 0:2 ${fdt_addr_r} /boot/board.dtb && booti ${kernel_addr_r} - ${fdt_addr_r}'
setenv updated_boot_b 'setenv bootargs ${bootargs} root=PARTLABEL=rootfs-b; load mmc 0:3 ${kernel_addr_r} /boot/Image && load mmc 0:3 ${fdt_addr_r} /boot/board.dtb && booti ${kernel_addr_r} - ${fdt_addr_r}'

# ---- From here on nothing depends on the board. ----

updated_slot=none
updated_first=none
updated_good_a=no
updated_good_b=no
for updated_name in ${BOOT_ORDER}; do
    # What is missing is set here: an assignment of nothing would leave the value of the slot before.
    updated_ours=no
    updated_ok=2
    updated_left=0
    if test "${updated_name}" = "A"; then
        updated_ours=yes
        if test -n "${BOOT_A_OK}"; then
            updated_ok="${BOOT_A_OK}"
        fi
        if test -n "${BOOT_A_LEFT}"; then
            updated_left="${BOOT_A_LEFT}"
        fi
        if test "${updated_ok}" != "0"; then
            updated_good_a=yes
        fi
    elif test "${updated_name}" = "B"; then
        updated_ours=yes
        if test -n "${BOOT_B_OK}"; then
            updated_ok="${BOOT_B_OK}"
        fi
        if test -n "${BOOT_B_LEFT}"; then
            updated_left="${BOOT_B_LEFT}"
        fi
        if test "${updated_ok}" != "0"; then
            updated_good_b=yes
        fi
    fi
    if test "${updated_ours}" = "yes"; then
        if test "${updated_first}" = "none"; then
            updated_first="${updated_name}"
        fi
        if test "${updated_slot}" = "none"; then
            # Not every U-Boot can subtract. What is not listed here is no boot.
            updated_next=none
            if test "${updated_left}" = "9"; then updated_next=8
            elif test "${updated_left}" = "8"; then updated_next=7
            elif test "${updated_left}" = "7"; then updated_next=6
            elif test "${updated_left}" = "6"; then updated_next=5
            elif test "${updated_left}" = "5"; then updated_next=4
            elif test "${updated_left}" = "4"; then updated_next=3
            elif test "${updated_left}" = "3"; then updated_next=2
            elif test "${updated_left}" = "2"; then updated_next=1
            elif test "${updated_left}" = "1"; then updated_next=0
            # RAUC may have written more, in hexadecimal; it is taken for 9.
            elif itest "${updated_left}" -gt 9; then updated_next=8
            fi
            if test "${updated_ok}-${updated_left}" = "1-9"; then
                updated_slot="${updated_name}"
            elif test "${updated_next}" != "none"; then
                if test "${updated_name}" = "A"; then
                    setenv BOOT_A_LEFT "${updated_next}"
                else
                    setenv BOOT_B_LEFT "${updated_next}"
                fi
                if run updated_save; then
                    updated_slot="${updated_name}"
                elif test "${updated_ok}" != "0"; then
                    updated_slot="${updated_name}"
                else
                    echo "updated: slot ${updated_name} is on trial, and since this boot cannot be counted it is not started"
                fi
            fi
        fi
    fi
done

if test "${updated_slot}" = "none"; then
    # All is used up: then rather a slot that was confirmed once, or else the first one, than a prompt that nobody sees.
    if test "${updated_good_a}" = "yes"; then
        updated_slot=A
    elif test "${updated_good_b}" = "yes"; then
        updated_slot=B
    elif test "${updated_first}" = "B"; then
        updated_slot=B
    else
        updated_slot=A
    fi
fi

echo "updated: starting slot ${updated_slot}"
if test "${updated_slot}" = "A"; then
    setenv bootargs "${updated_args} updated.slot=a"
    run updated_boot_a
    # Its kernel could not be loaded.
    if test "${updated_good_b}" = "yes"; then
        setenv bootargs "${updated_args} updated.slot=b"
        run updated_boot_b
    fi
else
    setenv bootargs "${updated_args} updated.slot=b"
    run updated_boot_b
    if test "${updated_good_a}" = "yes"; then
        setenv bootargs "${updated_args} updated.slot=a"
        run updated_boot_a
    fi
fi
echo "updated: no slot could be started"
reset
