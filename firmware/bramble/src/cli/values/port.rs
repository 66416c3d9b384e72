//! `-p 8080:80/tcp` and `-p published=8080,target=80,mode=host`

use anyhow::{Result, anyhow, bail};
use bramble_api::types::service::Port;

/// Reads what is published; a range gives several ports.
pub(in crate::cli) fn ports(text: &str) -> Result<Vec<Port>> {
    if text.contains('=') { Ok(vec![long(text)?]) } else { short(text) }
}

fn long(text: &str) -> Result<Port> {
    let mut port =
        Port { protocol: "tcp".to_owned(), publish_mode: "ingress".to_owned(), ..Port::default() };
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("target", value)) => port.target_port = number(text, value)?,
            Some(("published", value)) => port.published_port = number(text, value)?,
            Some(("protocol", value)) => port.protocol = protocol(text, value)?,
            Some(("mode", value @ ("ingress" | "host"))) => {
                value.clone_into(&mut port.publish_mode)
            }
            Some(("name", value)) => value.clone_into(&mut port.name),
            _ => bail!("invalid port `{text}`: `{part}` is not understood"),
        }
    }
    if port.target_port == 0 {
        bail!("invalid port `{text}`: target=<port in the container> is missing");
    }
    Ok(port)
}

fn short(text: &str) -> Result<Vec<Port>> {
    let (ports, name) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol(text, name)?;
    let (published, target) = ports.split_once(':').unwrap_or(("", ports));
    if target.contains(':') {
        bail!("invalid port `{text}`: a service is published on all addresses, give none");
    }
    let targets = range(text, target)?;
    let publisheds = if published.is_empty() { 0..=0 } else { range(text, published)? };
    let is_chosen = published.is_empty();
    if !is_chosen && publisheds.clone().count() != targets.clone().count() {
        bail!("invalid port `{text}`: the two ranges differ in length");
    }
    let first = *publisheds.start();
    Ok(targets
        .enumerate()
        .map(|(index, target_port)| Port {
            protocol: protocol.clone(),
            target_port,
            published_port: if is_chosen { 0 } else { first + index as u64 },
            publish_mode: "ingress".to_owned(),
            ..Port::default()
        })
        .collect())
}

fn range(text: &str, part: &str) -> Result<std::ops::RangeInclusive<u64>> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (number(text, first)?, number(text, last)?);
    if first > last {
        bail!("invalid port `{text}`: the range runs backwards");
    }
    Ok(first..=last)
}

fn number(text: &str, part: &str) -> Result<u64> {
    part.parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .map(u64::from)
        .ok_or_else(|| anyhow!("invalid port `{text}`: `{part}` is not from 1 to 65535"))
}

fn protocol(text: &str, name: &str) -> Result<String> {
    match name {
        "tcp" | "udp" | "sctp" => Ok(name.to_owned()),
        _ => bail!("invalid port `{text}`: `{name}` is none of tcp, udp, sctp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(u64, u64)> {
        let ports = ports(text).expect("valid");
        ports.iter().map(|port| (port.published_port, port.target_port)).collect()
    }

    #[test]
    fn ports_are_read() -> Result<()> {
        assert_eq!(pairs("8080:80"), [(8080, 80)]);
        assert_eq!(pairs("80"), [(0, 80)]);
        assert_eq!(pairs("8000-8001:80-81"), [(8000, 80), (8001, 81)]);
        assert_eq!(ports("53:53/udp")?[0].protocol, "udp");
        assert_eq!(ports("published=1,target=2,mode=host")?[0].publish_mode, "host");
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in [
            "",
            "0:80",
            "80:0",
            "70000:80",
            "a:80",
            "80:80/icmp",
            "1.2.3.4:80:80",
            "82-81:80-81",
            "80-81:80",
            "target=80,mode=everywhere",
            "published=80",
            "target=0",
        ] {
            assert!(ports(text).is_err(), "{text}");
        }
    }
}
