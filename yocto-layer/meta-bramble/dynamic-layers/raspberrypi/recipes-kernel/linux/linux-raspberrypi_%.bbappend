require ${BRAMBLE_LAYERDIR}/recipes-kernel/linux/bramble-kernel.inc
