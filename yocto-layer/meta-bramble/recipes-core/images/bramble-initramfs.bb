SUMMARY = "The file system a board runs from: the firmware, the kernel's modules, nothing else"
LICENSE = "Apache-2.0"

inherit image

PACKAGE_INSTALL = "bramble-init bramble-card kernel-modules ${BRAMBLE_FIRMWARE}"
# Packages with the firmware that the board's devices ask for.
BRAMBLE_FIRMWARE ?= ""

# The kernel is beside it in the slot.
PACKAGE_EXCLUDE = "kernel-image-*"

IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
IMAGE_FSTYPES = "cpio"
IMAGE_NAME_SUFFIX = ""
IMAGE_ROOTFS_EXTRA_SPACE = "0"

# Process 1 writes its first line before it has mounted anything.
ROOTFS_POSTPROCESS_COMMAND += "bramble_console"
bramble_console() {
    install -d ${IMAGE_ROOTFS}/dev
    mknod -m 0600 ${IMAGE_ROOTFS}/dev/console c 5 1
}
