# bootcode.bin is read from the first partition; everything that start.elf needs is in the slot.
BRAMBLE_CARD_FILES:append:rpi = " ${BOOTFILES_DIR_NAME}/bootcode.bin"
BRAMBLE_SLOT_FILES:append:rpi = " \
    ${BOOTFILES_DIR_NAME}/*.elf \
    ${BOOTFILES_DIR_NAME}/*.dat \
    ${@make_dtb_boot_files(d)} \
"
