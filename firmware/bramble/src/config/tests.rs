use proptest::prelude::{any, prop_assert, proptest};

use super::{network::Method, *};

const TEMPLATE: &str = include_str!("../card/bramble.toml");

fn read(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("it is written");
    Config::read(file.path()).map_err(|error| error.to_string())
}

fn key() -> String {
    "ab".repeat(32)
}

#[test]
fn an_empty_file_is_sound() {
    assert_eq!(read(""), Ok(Config::default()));
}

#[test]
fn the_template_says_nothing_yet() {
    assert_eq!(read(TEMPLATE), Ok(Config::default()));
    assert_eq!(Config::read_lenient(TEMPLATE), (Config::default(), Vec::new()));
}

/// Every setting that the template explains is one, and its example is sound.
#[test]
fn the_template_is_sound_without_its_comment_signs() {
    let is_setting = |line: &str| {
        line.strip_prefix('#').is_some_and(|rest| {
            rest.starts_with(|first: char| first.is_ascii_lowercase()) && rest.contains(" = ")
        })
    };
    let filled = |line: &str| match line.trim_start_matches('#') {
        "key = \"\"" => format!("key = \"{}\"", key()),
        "token = \"\"" => "token = \"BRMTKN-1-x\"".to_owned(),
        "ssid = \"\"" => "ssid = \"home\"".to_owned(),
        "password = \"\"" => "password = \"long enough\"".to_owned(),
        "method = \"dhcp\"" => "method = \"static\"".to_owned(),
        other => other.to_owned(),
    };
    let lines = TEMPLATE.lines();
    let text: Vec<_> =
        lines.map(|line| if is_setting(line) { filled(line) } else { line.to_owned() }).collect();
    let config = read(&text.join("\n")).expect("it is sound");
    assert!(config.wifi.is_some() && config.mqtt.is_some() && config.cluster.names_one());
    assert_eq!(config.network.method(), Method::Static);
    assert_eq!(config.time.servers, ["192.168.1.1"]);
    assert_eq!(Config::read_lenient(&text.join("\n")), (config, Vec::new()));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = read("[cluster]\nkeey = \"00\"\n").expect_err("it is unknown");
    assert!(error.contains("line 2") && error.contains("keey"), "{error}");
}

#[test]
fn a_bad_key_is_refused_and_not_repeated() {
    let error = read("[cluster]\nkey = \"cafe\"\n").expect_err("it is too short");
    assert!(error.contains("64 hexadecimal digits") && !error.contains("cafe"), "{error}");
}

#[test]
fn bad_values_are_refused() {
    let long = "a".repeat(64);
    for (section, setting) in [
        ("board", "hostname = \"\"".to_owned()),
        ("board", "hostname = \"-a\"".to_owned()),
        ("board", "hostname = \"a b\"".to_owned()),
        ("board", "hostname = \"käse\"".to_owned()),
        ("board", format!("hostname = \"{long}\"")),
        ("network", "address = \"192.168.1.10\"".to_owned()),
        ("network", "address = \"192.168.1.10/33\"".to_owned()),
        ("network", "address = \"192.168.1.10/0\"".to_owned()),
        ("network", "address = \"192.168.1.0/24\"".to_owned()),
        ("network", "address = \"192.168.1.255/24\"".to_owned()),
        ("network", "address = \"127.0.0.1/8\"".to_owned()),
        ("network", "address = \"239.0.0.1/8\"".to_owned()),
        ("network", "method = \"dhpc\"".to_owned()),
        ("network", "method = \"static\"".to_owned()),
        ("network", "gateway = \"192.168.1.1\"".to_owned()),
        ("network", "address = \"10.0.0.2/24\"\ngateway = \"10.0.1.1\"".to_owned()),
        ("network", "address = \"10.0.0.2/24\"\nmethod = \"dhcp\"".to_owned()),
        ("network", "vlan = 0".to_owned()),
        ("network", "vlan = 4095".to_owned()),
        ("network", "vlan = -1".to_owned()),
        ("network", "interface = \"../eth0\"".to_owned()),
        ("network", "dns = [\"dns.example\"]".to_owned()),
        ("wifi", "ssid = \"\"".to_owned()),
        ("wifi", format!("ssid = \"{}\"", "a".repeat(33))),
        ("wifi", "password = \"long enough\"".to_owned()),
        ("wifi", "ssid = \"a\"\npassword = \"short\"".to_owned()),
        ("wifi", format!("ssid = \"a\"\npassword = \"{}\"", "x".repeat(64))),
        ("wifi", "ssid = \"a\"\ncountry = \"Germany\"".to_owned()),
        ("mqtt", "username = \"me\"".to_owned()),
        ("mqtt", "url = \"http://broker\"".to_owned()),
        ("mqtt", "url = \"mqtt://\"".to_owned()),
        ("mqtt", "url = \"mqtt://broker:99999\"".to_owned()),
        ("time", "servers = [\"two words\"]".to_owned()),
        ("cluster", "token = \"BRMTKN-1-x\"".to_owned()),
        ("cluster", "join = [\"192.168.1.10:7420\"]".to_owned()),
    ] {
        let text = format!("[{section}]\n{setting}\n");
        let error = read(&text).expect_err(&text);
        let (_, problems) = Config::read_lenient(&text);
        assert!(!problems.is_empty(), "{text}: {error}");
        assert!(problems[0].contains(&format!("[{section}]")), "{text}: {problems:?}");
    }
}

#[test]
fn good_values_are_taken() {
    for text in [
        "[network]\naddress = \"10.0.0.2/31\"\ngateway = \"10.0.0.3\"",
        "[network]\nmethod = \"dhcp\"\ndns = [\"1.1.1.1\", \"2606:4700::1111\"]\nvlan = 4094",
        "[wifi]\nssid = \"Ünïcode\"\ncountry = \"GB\"\nhidden = true",
        "[mqtt]\nurl = \"mqtts://[fe80::1]:8883\"",
        "[mqtt]\nurl = \"mqtt://homeassistant.local/\"",
        "[time]\nservers = [\"ntp.example\", \"fe80::1\"]",
    ] {
        assert!(read(text).is_ok(), "{text}: {:?}", read(text));
    }
}

#[test]
fn secrets_are_not_shown_by_debug() {
    let text = format!(
        "[cluster]\nkey = \"{}\"\ntoken = \"hunter0\"\njoin = [\"10.0.0.1:7420\"]\n[mqtt]\nurl = \
         \"mqtt://h\"\npassword = \"hunter2\"\n[wifi]\nssid = \"a\"\npassword = \"hunter22\"\n",
        key()
    );
    let shown = format!("{:?}", read(&text).expect("it is sound"));
    assert!(!shown.contains(&key()) && !shown.contains("hunter"), "{shown}");
}

#[test]
fn what_is_sound_is_used_and_the_rest_is_told_by_line_and_key() {
    let text = format!(
        "[board]\nhostname = \"pi 1\"\nlabels = {{ room = \"attic\", floor = 3 }}\ncolour = \"red\"\n\
         [cluster]\nkey = \"{}\"\n[network]\nvlan = \"ten\"\ndns = [\"1.1.1.1\", \"x\"]\n\
         [netwrok]\nmethod = \"dhcp\"\n",
        key()
    );
    let (config, problems) = Config::read_lenient(&text);
    assert!(config.cluster.key.is_some());
    assert_eq!(config.board.labels.len(), 1);
    assert_eq!(config.network.dns.len(), 1);
    for (problem, expected) in problems.iter().zip([
        "line 2: [board] hostname: it is not a host name",
        "line 3: [board] labels: expected a string, not this integer",
        "line 4: [board] unknown key `colour`",
        "line 8: [network] vlan: a VLAN is a number from 1 to 4094",
        "line 9: [network] dns: ",
        "line 10: unknown section `netwrok`",
    ]) {
        assert!(problem.starts_with(expected), "{problem}");
    }
    assert_eq!(problems.len(), 6, "{problems:?}");
}

#[test]
fn garbage_in_one_place_does_not_lose_the_cluster_key() {
    let sound = format!("[cluster]\nkey = \"{}\"\n", key());
    for (before, after) in [
        ("[board]\nhostname = pi-1\n", ""),
        ("[board]\nhostname = “pi-1”\n", ""),
        ("[board\nhostname = \"pi-1\"\n", ""),
        ("hello\n", "world\n"),
        ("\u{0}\u{1}\u{7f}\n", "====\n"),
        ("[mqtt]\npassword = \"\"\"\n", ""),
        ("[board]\ninterfaces = [\n\"eth0\",\n", ""),
        ("", "[board]\ninterfaces = [\n"),
        ("", "[cluster]\nhostname = \n"),
        ("", "key = \"second\"\n"),
        ("\u{feff}", ""),
        ("", "[mqtt]\nurl = \"mqtt://h\nusername = \"x\"\n"),
    ] {
        let text = format!("{before}{sound}{after}");
        for text in [text.clone(), text.replace('\n', "\r\n")] {
            let (config, problems) = Config::read_lenient(&text);
            assert!(config.cluster.key.is_some(), "{text}: {problems:?}");
            assert_eq!(problems.is_empty(), before == "\u{feff}", "{text}: {problems:?}");
        }
    }
}

#[test]
fn values_of_several_lines_survive_garbage_elsewhere() {
    let text = "garbage\n[board]\ninterfaces = [\n  \"eth0\", # the first\n  \"eth1\",\n]\n\
                [board.labels]\nroom = \"attic\"\n";
    let (config, problems) = Config::read_lenient(text);
    assert_eq!(config.board.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.board.labels["room"], "attic");
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn problems_never_repeat_a_value() {
    for text in [
        "[cluster]\nkey = \"hunter2\"\n",
        "[cluster]\nkey = hunter2\n",
        "[cluster]\nkey = [\"hunter2\"]\n",
        "[cluster]\ntoken = [\"hunter2\"]\n",
        "cluster = \"hunter2\"\n",
        "[wifi]\npassword = \"hunter2\"\n",
        "[wifi]\nssid = \"a\"\nhidden = \"hunter2\"\n",
        "[mqtt]\nurl = \"mqtt://me:hunter2@host\"\n",
        "[mqtt]\npassword = \"hunter2\n",
        "mqtt = \"hunter2\"\n",
        "[network]\nmethod = \"hunter2\"\n",
        "hunter2\n",
    ] {
        let (_, problems) = Config::read_lenient(text);
        assert!(!problems.is_empty(), "{text}");
        assert!(!problems.concat().contains("hunter2"), "{text}: {problems:?}");
        let strict = read(text).expect_err(text);
        assert!(!strict.contains("hunter2"), "{text}: {strict}");
    }
}

#[test]
fn an_endless_file_is_read_up_to_a_bound() {
    let sound = format!("[cluster]\nkey = \"{}\"\n", key());
    let text = sound + &"x = [\n".repeat(200_000);
    let (config, problems) = Config::read_lenient(&text);
    assert!(config.cluster.key.is_some());
    assert!(problems.len() < 64, "{}", problems.len());
}

/// Settles to the same thing again: what is sound stays sound.
fn is_settled(config: &Config) -> bool {
    let mut again = config.clone();
    again.settle().is_empty() && again == *config
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        let (config, _) = Config::read_lenient(&String::from_utf8_lossy(&bytes));
        prop_assert!(is_settled(&config));
    }

    #[test]
    fn a_damaged_template_is_read_without_panic(
        cuts in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..16),
        uncomment: bool,
    ) {
        let mut bytes = TEMPLATE.as_bytes().to_vec();
        if uncomment {
            bytes.retain(|byte| *byte != b'#');
        }
        for (at, byte) in cuts {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let (config, _) = Config::read_lenient(&String::from_utf8_lossy(&bytes));
        prop_assert!(is_settled(&config));
    }
}
