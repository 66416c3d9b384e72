BRAMBLE_FIRMWARE:append:rpi = " linux-firmware-rpidistro-bcm43430 linux-firmware-rpidistro-bcm43455"
