//! Sensors of made-up machines, and of this one.

use super::*;
use crate::board::tests::machine;

#[test]
fn processor_load_is_what_happened_between_two_readings() {
    let before = parse_processor("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 ...").expect("times");
    let now = parse_processor("cpu  150 0 150 750 150 0 0 0 9 9\ncpu0 ...").expect("times");
    assert_eq!(load_permille(before, now), 500);
    assert_eq!(load_permille(now, now), 0, "no time passed");
    assert_eq!(load_permille(now, before), 0, "counters ran backwards");
}

#[test]
fn a_short_or_strange_line_is_no_reading() {
    assert_eq!(parse_processor(""), None);
    assert_eq!(parse_processor("cpu  1 2 3"), None);
    assert_eq!(parse_processor("intr 1 2 3 4 5"), None);
}

#[test]
fn the_processors_thermal_zone_is_preferred() {
    let (root, sources) = machine(&[
        ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
        ("sys/class/thermal/thermal_zone0/temp", "27800\n"),
        ("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n"),
        ("sys/class/thermal/thermal_zone1/temp", "51121\n"),
        ("sys/class/thermal/cooling_device0/type", "Processor\n"),
    ]);
    let mut sensors = Sensors::new(sources, root.path().to_owned());
    assert_eq!(sensors.read().temperature_millicelsius, Some(51_121));
}

#[test]
fn a_machine_without_sensors_has_vitals_all_the_same() {
    let (root, sources) = machine(&[("proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 40 kB\n")]);
    let mut sensors = Sensors::new(sources, root.path().to_owned());
    let vitals = sensors.read();
    assert_eq!((vitals.memory_used_bytes, vitals.memory_total_bytes), (61_440, 102_400));
    assert_eq!((vitals.cpu_permille, vitals.temperature_millicelsius), (0, None));
    assert!(vitals.disk_total_bytes >= vitals.disk_used_bytes);
}

#[test]
fn this_machine_has_memory_a_disk_and_an_uptime() {
    let mut sensors = Sensors::new(Sources::default(), std::env::temp_dir());
    let vitals = sensors.read();
    assert!(vitals.memory_total_bytes > vitals.memory_used_bytes && vitals.memory_used_bytes > 0);
    assert!(vitals.disk_total_bytes > 0 && vitals.cpu_permille <= 1000);
    assert!(!vitals.uptime.is_zero());
}
