use bramble_cluster::{
    Constraint, ConstraintOperator, Node, NodeSpec, NodeStatus, Placement, Platform, Role,
    Timestamp, Version,
};

use super::{bytes, cores, meets, unmet};
use crate::world::admission;

fn node() -> Node {
    let admission = admission(7);
    let mut node = Node {
        id: admission.id,
        version: Version(1),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        spec: NodeSpec::default(),
        description: admission.description,
        role: Role::Manager,
        status: NodeStatus::default(),
        key: admission.key,
    };
    node.spec.labels.insert("room".to_owned(), "Kitchen".to_owned());
    node.description.engine_labels.insert("disk".to_owned(), "ssd".to_owned());
    node
}

fn constraint(attribute: &str, operator: ConstraintOperator, value: &str) -> Constraint {
    Constraint { attribute: attribute.to_owned(), operator, value: value.to_owned() }
}

fn holds(attribute: &str, operator: ConstraintOperator, value: &str) -> bool {
    let constraints = vec![constraint(attribute, operator, value)];
    meets(&node(), &Placement { constraints, ..Placement::default() })
}

#[test]
fn every_attribute_can_be_constrained_both_ways() {
    let id = node().id.to_string();
    for (attribute, value) in [
        ("node.id", id.as_str()),
        ("node.hostname", "pi-7"),
        ("node.hostname", "PI-7"),
        ("node.role", "manager"),
        ("node.platform.os", "linux"),
        ("node.platform.arch", "arm64"),
        ("node.platform.arch", "aarch64"),
        ("node.labels.room", "kitchen"),
        ("engine.labels.disk", "ssd"),
    ] {
        assert!(holds(attribute, ConstraintOperator::Equal, value), "{attribute}=={value}");
        assert!(!holds(attribute, ConstraintOperator::NotEqual, value), "{attribute}!={value}");
        assert!(!holds(attribute, ConstraintOperator::Equal, "else"), "{attribute}==else");
        assert!(holds(attribute, ConstraintOperator::NotEqual, "else"), "{attribute}!=else");
    }
}

#[test]
fn a_label_that_is_not_there_is_unequal_to_everything() {
    assert!(!holds("node.labels.none", ConstraintOperator::Equal, ""));
    assert!(holds("node.labels.none", ConstraintOperator::NotEqual, "x"));
}

#[test]
fn one_of_the_platforms_has_to_be_the_boards() {
    let platform =
        |os: &str, name: &str| Platform { os: os.to_owned(), architecture: name.to_owned() };
    let is_for =
        |platforms: Vec<Platform>| meets(&node(), &Placement { platforms, ..Placement::default() });
    assert!(is_for(vec![]));
    assert!(is_for(vec![platform("linux", "amd64"), platform("linux", "arm64")]));
    assert!(is_for(vec![platform("", "aarch64")]));
    assert!(!is_for(vec![platform("linux", "amd64")]));
    assert!(!is_for(vec![platform("windows", "")]));
}

#[test]
fn what_is_unmet_reads_as_a_sentence() {
    use ConstraintOperator::{Equal, NotEqual};
    for (attribute, operator, is_one, expected) in [
        ("node.labels.room", Equal, true, "does not have label room=x"),
        ("node.labels.room", Equal, false, "do not have label room=x"),
        ("node.labels.room", NotEqual, true, "has label room=x"),
        ("engine.labels.disk", NotEqual, false, "have label disk=x"),
        ("node.hostname", Equal, true, "is not named x"),
        ("node.hostname", NotEqual, false, "are named x"),
        ("node.role", Equal, false, "are not of role x"),
        ("node.id", NotEqual, true, "is node x"),
        ("node.platform.arch", Equal, true, "is not x"),
    ] {
        assert_eq!(unmet(&constraint(attribute, operator, "x"), is_one), expected);
    }
}

#[test]
fn amounts_are_written_as_people_say_them() {
    for (count, text) in [
        (0, "0 B"),
        (512, "512 B"),
        (1_024, "1 KiB"),
        (100 << 20, "100 MiB"),
        (1_536 << 20, "1.5 GiB"),
        (u64::MAX, "16777215.9 TiB"),
    ] {
        assert_eq!(bytes(count), text);
    }
    for (count, text) in [
        (0, "0 cores"),
        (250_000_000, "0.25 cores"),
        (1_000_000_000, "1 core"),
        (1_500_000_000, "1.5 cores"),
        (50_000_000, "0.05 cores"),
    ] {
        assert_eq!(cores(count), text);
    }
}
