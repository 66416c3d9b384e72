//! What makes a single value sound, and how an unsound one is told of: never by repeating it.

use serde::{Deserialize, Deserializer, de::Error};

/// Bytes that a key may have to be repeated in a message. A longer one is rather a slip: a secret
/// on the wrong side of the equals sign.
const KEY_SHOWN_MAX: usize = 24;
/// Bytes of an interface's name, by the kernel.
const INTERFACE_MAX: usize = 15;

pub(super) fn hostname<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    text(from, is_hostname, "it is not a host name: letters, digits and hyphens, at most 63, are")
}

pub(super) fn interface<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    text(from, is_interface, "it is not the name of an interface, as eth0 is")
}

pub(super) fn passphrase<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let rule =
        "a WPA2 password has 8 to 63 letters, digits and signs, or it is 64 hexadecimal digits";
    text(from, is_passphrase, rule)
}

pub(super) fn country<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let is_country =
        |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    text(from, is_country, "it is not a country's two capital letters, as DE is")
}

pub(super) fn ssid<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let is_ssid = |text: &str| (1..=32).contains(&text.len());
    Ok(text(from, is_ssid, "a network's name has 1 to 32 bytes")?.unwrap_or_default())
}

pub(super) fn mqtt_url<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let rule = "it must be mqtt://host[:port] or mqtts://host[:port]";
    Ok(text(from, is_mqtt_url, rule)?.unwrap_or_default())
}

pub(super) fn vlan<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    match u16::deserialize(from) {
        Ok(number @ 1..=4094) => Ok(Some(number)),
        _ => Err(D::Error::custom("a VLAN is a number from 1 to 4094")),
    }
}

pub(super) fn servers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let servers = Vec::<String>::deserialize(from)?;
    match servers.iter().all(|server| is_server(server)) {
        true => Ok(servers),
        false => Err(D::Error::custom("a time server is given by its name or its address")),
    }
}

fn text<'de, D: Deserializer<'de>>(
    from: D,
    is_sound: impl Fn(&str) -> bool,
    rule: &str,
) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    if is_sound(&text) { Ok(Some(text)) } else { Err(D::Error::custom(rule)) }
}

/// Host names by RFC 1123, one label.
fn is_hostname(name: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_sound)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_interface(name: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..=INTERFACE_MAX).contains(&name.len())
        && name.bytes().all(is_sound)
        && name != "."
        && name != ".."
}

fn is_passphrase(text: &str) -> bool {
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    match text.len() {
        8..=63 => text.bytes().all(is_printable),
        64 => text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        _ => false,
    }
}

fn is_mqtt_url(url: &str) -> bool {
    let rest = url.strip_prefix("mqtts://").or_else(|| url.strip_prefix("mqtt://"));
    let Some(rest) = rest else { return false };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_domain(host),
    };
    host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

fn is_server(name: &str) -> bool {
    is_domain(name) || name.parse::<std::net::IpAddr>().is_ok()
}

/// A host's name with its domain, or an IPv4 address.
fn is_domain(name: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(is_sound) && !name.starts_with(['-', '.'])
}

/// Says where in `text` the parser stopped. `toml`'s own display quotes the line, secrets and all.
pub(super) fn locate(text: &str, error: &toml::de::Error) -> String {
    let message = discreet(error.message());
    match error.span() {
        Some(span) => format!("line {}: {message}", line_at(text, span.start)),
        None => message,
    }
}

/// The number of the line that the byte at `offset` is in.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A parser's message without the value that it complains of: `invalid type: string "hunter2",
/// expected a boolean`.
pub(super) fn discreet(message: &str) -> String {
    let message = message.trim();
    for beginning in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(beginning) {
            let kind = rest.split([' ', ',']).next().unwrap_or("value");
            let expected = rest.rsplit_once(", expected ").map_or("something else", |(_, end)| end);
            return format!("expected {expected}, not this {kind}");
        }
    }
    match message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        Some((key, rest)) => format!("unknown key {}{rest}", shown(key)),
        None if message.starts_with("unknown variant `") => {
            let expected =
                message.rsplit_once(", expected ").map_or("something else", |(_, end)| end);
            format!("expected {expected}")
        }
        None => message.lines().next().unwrap_or_default().to_owned(),
    }
}

/// A key as a message shows it.
pub(super) fn shown(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match key.len() <= KEY_SHOWN_MAX && key.bytes().all(is_plain) {
        true => format!("`{key}`"),
        false => "with an odd name".to_owned(),
    }
}
