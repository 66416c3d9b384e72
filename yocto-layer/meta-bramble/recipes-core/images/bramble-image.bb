SUMMARY = "A card that boots into the cluster"
LICENSE = "Apache-2.0"

inherit image

# The card has no root file system: both slots carry the initramfs.
PACKAGE_INSTALL = ""
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
IMAGE_FSTYPES = "wic.zst wic.bmap"
WKS_FILE = "bramble-ab.wks"

BRAMBLE_CARD_FILES = "bramble-card/*"
BRAMBLE_SLOT_FILES = " \
    bramble-slot/* \
    ${KERNEL_IMAGETYPE};kernel8.img \
    bramble-initramfs-${MACHINE}.cpio;bramble.cpio \
"
IMAGE_BOOT_FILES_label-BRAMBLE = "${BRAMBLE_CARD_FILES}"
IMAGE_BOOT_FILES_label-BRAMBLE-A = "${BRAMBLE_SLOT_FILES}"
IMAGE_BOOT_FILES_label-BRAMBLE-B = "${BRAMBLE_SLOT_FILES}"
WICVARS:append = " IMAGE_BOOT_FILES_label-BRAMBLE IMAGE_BOOT_FILES_label-BRAMBLE-A IMAGE_BOOT_FILES_label-BRAMBLE-B"

do_image_wic[depends] += " \
    bramble-card:do_deploy \
    bramble-initramfs:do_image_complete \
    e2fsprogs-native:do_populate_sysroot \
    virtual/kernel:do_deploy \
"
