use super::*;
use crate::Sources;

const DEPENDENCIES: &str = "\
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz kernel/lib/crc16.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/net/usb/smsc95xx.ko.xz: kernel/net/usb/usbnet.ko.xz kernel/net/mii.ko.xz
kernel/net/usb/usbnet.ko.xz: kernel/net/mii.ko.xz
kernel/net/mii.ko.xz:
kernel/net/phy/phy-smsc.ko.xz:
kernel/loop/a.ko: kernel/loop/b.ko
kernel/loop/b.ko: kernel/loop/a.ko
a broken line
";
const ALIASES: &str = "\
# Aliases extracted from modules themselves.
alias fs-ext4 ext4
alias usb:v0424pEC00d*dc*dsc*dp*ic*isc*ip*in* smsc95xx
alias crypto-crc16 gone
";
const SOFT: &str = "softdep smsc95xx pre: phy-smsc post: mii none\nsoftdep gone pre: ext4\n";

fn names(index: &Index, name: &str) -> Vec<String> {
    index.order(name).into_iter().map(|step| step.name).collect()
}

#[test]
fn what_is_needed_comes_first_and_once() {
    let index = Index::parse(DEPENDENCIES, ALIASES, SOFT, "");
    assert_eq!(names(&index, "ext4"), ["crc16", "mbcache", "jbd2", "ext4"]);
    assert_eq!(names(&index, "smsc95xx"), ["phy_smsc", "mii", "usbnet", "smsc95xx"]);
    assert_eq!(names(&index, "none"), Vec::<String>::new());
}

#[test]
fn a_wish_is_told_from_a_need() {
    let index = Index::parse(DEPENDENCIES, ALIASES, SOFT, "");
    let soft: Vec<bool> = index.order("smsc95xx").into_iter().map(|step| step.is_soft).collect();
    assert_eq!(soft, [true, false, false, false]);
}

#[test]
fn modules_that_need_each_other_end() {
    let index = Index::parse(DEPENDENCIES, ALIASES, SOFT, "");
    assert_eq!(names(&index, "a"), ["b", "a"]);
}

#[test]
fn names_aliases_and_builtins_are_found() {
    let index = Index::parse(DEPENDENCIES, ALIASES, SOFT, "kernel/drivers/mmc/core/mmc-core.ko\n");
    assert_eq!(index.named("phy-smsc"), ["phy_smsc"]);
    assert_eq!(index.named("fs-ext4"), ["ext4"]);
    assert_eq!(index.named("crypto-crc16"), Vec::<String>::new());
    assert!(index.is_builtin("mmc_core"));
    let device = "usb:v0424pEC00d0200dcFFdsc00dp01icFFisc00ipFFin00";
    assert_eq!(index.matching(device), ["smsc95xx"]);
}

#[test]
fn what_is_loaded_is_not_loaded_again() {
    let root = tempfile::tempdir().unwrap();
    let places = Places {
        sources: Sources { sys: root.path().join("sys"), proc: root.path().join("proc") },
        modules: root.path().join("modules"),
        ..Places::default()
    };
    let release = places.modules.join("7.2.12");
    fs::create_dir_all(&release).unwrap();
    fs::create_dir_all(places.sources.proc.join("sys/kernel")).unwrap();
    fs::write(places.sources.proc.join("sys/kernel/osrelease"), "7.2.12\n").unwrap();
    assert!(matches!(Modules::of_this_kernel(&places), Err(LoadError::Index { .. })));
    fs::write(release.join("modules.dep"), DEPENDENCIES).unwrap();
    fs::write(release.join("modules.alias"), ALIASES).unwrap();
    let modules = Modules::of_this_kernel(&places).unwrap();

    for name in ["crc16", "mbcache", "jbd2", "ext4"] {
        let folder = places.sources.sys.join("module").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("initstate"), "live\n").unwrap();
    }
    assert_eq!(modules.load("fs-ext4").unwrap(), 0);
    fs::write(places.sources.sys.join("module/ext4/initstate"), "coming\n").unwrap();
    let refused = modules.load("ext4").unwrap_err();
    assert!(refused.to_string().starts_with("kernel module ext4 was not loaded"), "{refused}");
    assert!(matches!(modules.load("nothing"), Err(LoadError::Unknown { .. })));
    fs::create_dir_all(places.sources.sys.join("module/nothing")).unwrap();
    assert_eq!(modules.load("nothing").unwrap(), 0);

    let device = places.sources.sys.join("bus/usb/devices/1-1");
    fs::create_dir_all(&device).unwrap();
    fs::write(device.join("modalias"), "usb:v9999p0001\n").unwrap();
    assert_eq!(Coldplug::default().load_new(&modules), 0);
}
