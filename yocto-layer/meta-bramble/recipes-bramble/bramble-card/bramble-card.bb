SUMMARY = "The files on a Bramble card that are not the kernel, the firmware or a board's own"
DESCRIPTION = "On the first partition what its owner edits and what chooses the slot; in a slot \
what the bootloader is told; in the initramfs what process 1 reads."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = " \
    file://autoboot.txt \
    file://boot.modules \
    file://bramble.toml \
    file://config.txt \
    file://README.txt \
"
S = "${UNPACKDIR}"

DEPENDS = "e2fsprogs-native"

inherit deploy

PACKAGE_ARCH = "${MACHINE_ARCH}"

# The kernel's command line. `bramble.slot` is appended by what starts an emulated board.
BRAMBLE_CMDLINE ?= "console=tty0 panic=10"
BRAMBLE_CMDLINE:qemuarm64 ?= "console=ttyAMA0 panic=10"
BRAMBLE_CMDLINE:qemux86-64 ?= "console=ttyS0 panic=10"

# Public minisign keys that updates are accepted from, as absolute paths: a current and a recovery.
BRAMBLE_TRUST ?= ""

do_configure[noexec] = "1"

do_compile() {
    # The bootloader takes at most 512 bytes, and a commit overwrites exactly that sector.
    (cat ${S}/autoboot.txt; yes '' | head -c 512) | head -c 512 > ${B}/autoboot.512

    # What a board writes to its fourth partition to format it anew.
    rm -f ${B}/data.ext4
    truncate -s 64M ${B}/data.ext4
    mke2fs -q -t ext4 -L BRAMBLE-DATA -b 4096 -I 256 -i 16384 -J size=8 \
        -E resize=67108864,lazy_itable_init=1,root_owner=0:0 ${B}/data.ext4
    gzip -n -9 -c ${B}/data.ext4 > ${B}/data.ext4.gz
}

do_install() {
    install -D -m 0644 ${S}/boot.modules ${D}${sysconfdir}/bramble/boot.modules
    install -D -m 0644 ${B}/data.ext4.gz ${D}${sysconfdir}/bramble/data.ext4.gz
    echo "${@d.getVar('DISTRO_VERSION')}" > ${D}${sysconfdir}/bramble/version
    install -d ${D}${sysconfdir}/bramble/trust
    for key in ${BRAMBLE_TRUST}; do
        install -m 0644 "$key" ${D}${sysconfdir}/bramble/trust/
    done
}

do_deploy() {
    install -d ${DEPLOYDIR}/bramble-card ${DEPLOYDIR}/bramble-slot
    install -m 0644 ${B}/autoboot.512 ${DEPLOYDIR}/bramble-card/autoboot.txt
    install -m 0644 ${S}/bramble.toml ${S}/README.txt ${DEPLOYDIR}/bramble-card/
    # Empty, but it must be there: the bootloader takes the partition for bootable by its name.
    : > ${DEPLOYDIR}/bramble-card/config.txt

    install -m 0644 ${S}/config.txt ${DEPLOYDIR}/bramble-slot/config.txt
    echo "${BRAMBLE_CMDLINE}" > ${DEPLOYDIR}/bramble-slot/cmdline.txt
}
addtask deploy after do_compile before do_build
