# The Raspberry Pi's kernel leaves memory limits off unless it is asked.
BRAMBLE_CMDLINE:rpi = "console=serial0,115200 console=tty0 panic=10 cgroup_enable=memory"
