SUMMARY = "The firmware of a cluster of Raspberry Pis"
DESCRIPTION = "Container runtime, consensus node, scheduler, network and telemetry of a board, \
and its process 1 when it is an appliance: one static binary."
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

inherit cargo cargo-update-recipe-crates externalsrc systemd

require ${BPN}-crates.inc

EXTERNALSRC = "${BRAMBLE_SOURCE}"
EXTERNALSRC_SYMLINKS = ""

CARGO_BUILD_FLAGS:append = " --package bramble"
# The whole user space of a board, so it may need no other file.
RUSTFLAGS:append:libc-musl = " -Ctarget-feature=+crt-static"

SYSTEMD_SERVICE:${PN} = "bramble.service"
SYSTEMD_AUTO_ENABLE = "disable"

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/bramble ${D}${bindir}/bramble

    install -d ${D}${systemd_system_unitdir}
    sed -e 's,/usr/local/bin/bramble,${bindir}/bramble,' \
        ${S}/firmware/bramble/bramble.service > ${D}${systemd_system_unitdir}/bramble.service
    chmod 0644 ${D}${systemd_system_unitdir}/bramble.service

    # As process 1 it answers to these names; see bramble-init below.
    install -d ${D}${base_sbindir}
    ln -s ${bindir}/bramble ${D}/init
    ln -s ${bindir}/bramble ${D}${base_sbindir}/modprobe
}

# The appliance's first process and its answer to the kernel's requests for modules. Apart, because
# on any other system these names belong to others.
PACKAGES =+ "${PN}-init"
FILES:${PN}-init = "/init ${base_sbindir}/modprobe"
RDEPENDS:${PN}-init = "${PN} e2fsprogs-e2fsck"
RCONFLICTS:${PN}-init = "kmod busybox"
SUMMARY:${PN}-init = "Bramble as process 1"

# Where the kernel has them built in there is no such package, and nothing to recommend.
RRECOMMENDS:${PN} += " \
    kernel-module-br-netfilter \
    kernel-module-bridge \
    kernel-module-nf-tables \
    kernel-module-overlay \
    kernel-module-veth \
    kernel-module-vxlan \
    kernel-module-wireguard \
"
