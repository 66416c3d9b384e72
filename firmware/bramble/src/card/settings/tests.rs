use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::card::TEMPLATE;

fn settings(text: &str) -> Settings {
    Settings::parse(text.as_bytes()).expect("it is sound")
}

#[test]
fn a_commented_example_gives_way() {
    let mut settings = settings(TEMPLATE);
    settings.set("cluster", "key", "ab".into()).expect("it is set");
    settings.set("network", "vlan", 7.into()).expect("it is set");
    let expected =
        TEMPLATE.replacen("#key = \"\"", "key = \"ab\"", 1).replacen("#vlan = 10", "vlan = 7", 1);
    assert_eq!(settings.text(), expected);
    settings.set("cluster", "key", "cd".into()).expect("it is set");
    assert_eq!(settings.text(), expected.replace("key = \"ab\"", "key = \"cd\""));
}

#[test]
fn everything_else_stays_as_it_was() {
    let mut settings = settings(
        "# mine\r\n[mqtt] # the broker\r\nurl = 'mqtt://h' # here\r\npassword = \"a\"\r\n\r\n[odd]\r\nx = 1\r\n\n\n",
    );
    settings.set("mqtt", "url", "mqtt://i".into()).expect("it is set");
    settings.set("mqtt", "username", "m\"e\\".into()).expect("it is set");
    settings.set("wifi", "ssid", "home".into()).expect("it is set");
    settings.unset("mqtt", "password").expect("it is unset");
    settings.unset("mqtt", "ca").expect("it was not set");
    assert_eq!(
        settings.text(),
        "# mine\r\n[mqtt] # the broker\r\nusername = \"m\\\"e\\\\\"\r\nurl = \"mqtt://i\" # here\r\n\r\n[odd]\r\nx = 1\r\n\r\n[wifi]\r\nssid = \"home\"\r\n"
    );
}

#[test]
fn lists_and_labels_are_written_on_one_line() {
    let mut settings = settings("[board]\ninterfaces = [\n  \"eth0\",\n]\n");
    let list = |items: &[&str]| {
        Value::from(items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
    };
    settings.set("board", "interfaces", list(&["a", "b"])).expect("it is set");
    let labels = Table::from_iter([("room".to_owned(), "attic".into())]);
    settings.set("board", "labels", labels.into()).expect("it is set");
    assert_eq!(
        settings.text(),
        "[board]\nlabels = { \"room\" = \"attic\" }\ninterfaces = [\"a\", \"b\"]\n"
    );
}

#[test]
fn what_cannot_be_edited_is_left_alone() {
    for text in
        ["cluster = { join = [] }\n", "cluster.join = []\n", "x = \"\"\"\n[cluster]\n\"\"\"\n"]
    {
        let mut settings = settings(text);
        let before = settings.clone();
        if let Err(error) = settings.set("cluster", "key", "ab".into()) {
            assert!(error.to_string().contains("by hand"), "{error}");
            assert_eq!(settings, before);
        } else {
            assert_eq!(settings.get("cluster", "key"), Some(&"ab".into()), "{text}");
        }
    }
    assert!(matches!(Settings::parse(b"\xff"), Err(EditError::NoText)));
    assert!(matches!(Settings::parse(b"\n\nx"), Err(EditError::NoToml { line: 3 })));
}

proptest! {
    #[test]
    fn any_text_survives_being_set(text: String, text_after: String) {
        let mut settings = settings(TEMPLATE);
        settings.set("wifi", "ssid", text.clone().into()).expect("it is set");
        settings.set("wifi", "password", text_after.clone().into()).expect("it is set");
        let read: Table = settings.text().parse().expect("it is sound");
        prop_assert_eq!(read["wifi"]["ssid"].as_str(), Some(text.as_str()));
        prop_assert_eq!(read["wifi"]["password"].as_str(), Some(text_after.as_str()));
        settings.unset("wifi", "ssid").expect("it is unset");
        settings.unset("wifi", "password").expect("it is unset");
        prop_assert!(settings.text().lines().count() + 2 == TEMPLATE.lines().count());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        if let Ok(mut settings) = Settings::parse(&bytes) {
            let _ = settings.set("cluster", "key", "ab".into());
        }
    }
}
