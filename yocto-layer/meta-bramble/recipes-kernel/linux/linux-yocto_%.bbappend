require bramble-kernel.inc
