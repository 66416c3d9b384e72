//! What `bramble card` changes, by its arguments.

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use toml::{Table, Value};

use super::secret::{Secrets, is_terminal};
use crate::card::settings::Settings;

/// Settings to change.
#[derive(Debug, Default, Args)]
pub(super) struct Changes {
    /// The cluster's key: @FILE, `-` (standard input), `new` to draw one, or 64 hexadecimal digits
    /// (which others on this machine may see)
    #[arg(long, value_name = "KEY", help_heading = "Cluster")]
    key: Option<String>,
    /// A token that lets the board join over a routed network: @FILE, `-`, or the token
    #[arg(long, help_heading = "Cluster")]
    token: Option<String>,
    /// Where to present the token: a manager's address; may be repeated
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Cluster")]
    join: Vec<String>,
    /// The board's name
    #[arg(long, value_name = "NAME", help_heading = "Board")]
    hostname: Option<String>,
    /// A label for placement; may be repeated, and is added to those that are there
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Board")]
    label: Vec<String>,
    /// The board's address with its prefix, or `dhcp`
    #[arg(long, value_name = "ADDRESS/PREFIX", help_heading = "Network")]
    address: Option<String>,
    /// The router's address
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    gateway: Option<String>,
    /// A name server; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    dns: Vec<String>,
    /// The number of the tagged virtual network
    #[arg(long, value_name = "NUMBER", help_heading = "Network")]
    vlan: Option<i64>,
    /// The interface to use
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    interface: Option<String>,
    /// A time server; may be repeated
    #[arg(long, value_name = "SERVER", help_heading = "Network")]
    time_server: Vec<String>,
    /// The wireless network's name; its password is asked for unless it is given or --wifi-open
    #[arg(long, value_name = "SSID", help_heading = "Wi-Fi")]
    wifi: Option<String>,
    /// A file with the wireless network's password; `-` is the standard input
    #[arg(long, value_name = "FILE", help_heading = "Wi-Fi", conflicts_with = "wifi_open")]
    wifi_password_file: Option<String>,
    /// The wireless network has no password
    #[arg(long, help_heading = "Wi-Fi")]
    wifi_open: bool,
    /// The country where the board is, by two letters
    #[arg(long, value_name = "COUNTRY", help_heading = "Wi-Fi")]
    wifi_country: Option<String>,
    /// The wireless network does not announce its name
    #[arg(long, help_heading = "Wi-Fi")]
    wifi_hidden: bool,
    /// The broker to report to, as mqtt://HOST:PORT or mqtts://HOST:PORT
    #[arg(long, value_name = "URL", help_heading = "MQTT")]
    mqtt: Option<String>,
    /// Who logs in at the broker
    #[arg(long, value_name = "NAME", help_heading = "MQTT")]
    mqtt_username: Option<String>,
    /// A file with the password for it; `-` is the standard input
    #[arg(long, value_name = "FILE", help_heading = "MQTT")]
    mqtt_password_file: Option<String>,
    /// Where on the board the PEM file of the broker's authority is, as /card/ca.pem
    #[arg(long, value_name = "PATH", help_heading = "MQTT")]
    mqtt_ca: Option<String>,
    /// Remove a setting, as network.gateway; may be repeated
    #[arg(long, value_name = "SECTION.KEY")]
    unset: Vec<String>,
}

/// What was changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Each change in a line, without secrets.
    pub(super) changed: Vec<String>,
    /// The key, if one was drawn.
    pub(super) drawn_key: Option<String>,
}

impl Changes {
    /// Whether nothing is to be changed.
    pub(super) fn is_empty(&self) -> bool {
        let Self { join, label, dns, time_server, unset, .. } = self;
        let texts = [
            &self.key,
            &self.token,
            &self.hostname,
            &self.address,
            &self.gateway,
            &self.interface,
            &self.wifi,
            &self.wifi_password_file,
            &self.wifi_country,
            &self.mqtt,
            &self.mqtt_username,
            &self.mqtt_password_file,
            &self.mqtt_ca,
        ];
        texts.iter().all(|text| text.is_none())
            && [join, label, dns, time_server, unset].iter().all(|list| list.is_empty())
            && self.vlan.is_none()
            && !self.wifi_open
            && !self.wifi_hidden
    }

    /// Makes the changes.
    pub(super) fn apply(self, settings: &mut Settings) -> Result<Outcome> {
        let mut editor = Editor { settings, secrets: Secrets, outcome: Outcome::default() };
        for name in &self.unset {
            let (section, key) =
                name.split_once('.').with_context(|| format!("--unset {name}: SECTION.KEY is"))?;
            editor.unset(section, key)?;
        }
        self.apply_cluster(&mut editor)?;
        editor.text("board", "hostname", self.hostname.as_deref())?;
        editor.labels(&self.label)?;
        self.apply_network(&mut editor)?;
        self.apply_wifi(&mut editor)?;
        self.apply_mqtt(&mut editor)?;
        Ok(editor.outcome)
    }

    fn apply_cluster(&self, editor: &mut Editor<'_>) -> Result<()> {
        if self.key.as_deref() == Some("new") {
            let mut key = [0; 32];
            getrandom::fill(&mut key)
                .map_err(|error| anyhow!("cannot draw a cluster key: {error}"))?;
            let key = hex::encode(key);
            editor.outcome.drawn_key = Some(key.clone());
            editor.secret("cluster", "key", key)?;
        } else if let Some(key) = &self.key {
            let key = editor.secrets.read("--key", key)?;
            editor.secret("cluster", "key", key)?;
        }
        if let Some(token) = &self.token {
            let token = editor.secrets.read("--token", token)?;
            editor.secret("cluster", "token", token)?;
        }
        editor.list("cluster", "join", &self.join)
    }

    fn apply_network(&self, editor: &mut Editor<'_>) -> Result<()> {
        match self.address.as_deref() {
            Some("dhcp") => {
                editor.text("network", "method", Some("dhcp"))?;
                editor.unset("network", "address")?;
                editor.unset("network", "gateway")?;
            }
            Some(address) => {
                editor.text("network", "method", Some("static"))?;
                editor.text("network", "address", Some(address))?;
            }
            None => {}
        }
        editor.text("network", "gateway", self.gateway.as_deref())?;
        editor.list("network", "dns", &self.dns)?;
        editor.text("network", "interface", self.interface.as_deref())?;
        if let Some(vlan) = self.vlan {
            editor.set("network", "vlan", vlan.into())?;
        }
        editor.list("time", "servers", &self.time_server)
    }

    fn apply_wifi(&self, editor: &mut Editor<'_>) -> Result<()> {
        editor.text("wifi", "ssid", self.wifi.as_deref())?;
        if self.wifi_open {
            editor.unset("wifi", "password")?;
        } else if let Some(file) = &self.wifi_password_file {
            let password = editor.secrets.read_file("--wifi-password-file", file)?;
            editor.secret("wifi", "password", password)?;
        } else if let Some(ssid) = &self.wifi {
            if !is_terminal() {
                bail!("give --wifi-password-file FILE, or --wifi-open for a network without one");
            }
            let password = editor.secrets.ask(&format!("Password of the network {ssid}: "))?;
            editor.secret("wifi", "password", password)?;
        }
        editor.text("wifi", "country", self.wifi_country.as_deref())?;
        if self.wifi_hidden {
            editor.set("wifi", "hidden", true.into())?;
        }
        Ok(())
    }

    fn apply_mqtt(&self, editor: &mut Editor<'_>) -> Result<()> {
        editor.text("mqtt", "url", self.mqtt.as_deref())?;
        editor.text("mqtt", "username", self.mqtt_username.as_deref())?;
        if let Some(file) = &self.mqtt_password_file {
            let password = editor.secrets.read_file("--mqtt-password-file", file)?;
            editor.secret("mqtt", "password", password)?;
        } else if let Some(username) = self.mqtt_username.as_ref().filter(|_| is_terminal()) {
            let password =
                editor.secrets.ask(&format!("Password of {username} at the broker: "))?;
            editor.secret("mqtt", "password", password)?;
        }
        editor.text("mqtt", "ca", self.mqtt_ca.as_deref())
    }
}

/// Changes settings and remembers what was done.
struct Editor<'a> {
    settings: &'a mut Settings,
    secrets: Secrets,
    outcome: Outcome,
}

impl Editor<'_> {
    fn set(&mut self, section: &str, key: &str, value: Value) -> Result<()> {
        let line = match &value {
            Value::String(text) => format!("[{section}] {key} = {text}"),
            other => format!("[{section}] {key} = {}", serde_json::to_string(other)?),
        };
        self.settings.set(section, key, value)?;
        self.outcome.changed.push(line);
        Ok(())
    }

    fn unset(&mut self, section: &str, key: &str) -> Result<()> {
        if self.settings.get(section, key).is_some() {
            self.settings.unset(section, key)?;
            self.outcome.changed.push(format!("[{section}] {key} removed"));
        }
        Ok(())
    }

    fn text(&mut self, section: &str, key: &str, text: Option<&str>) -> Result<()> {
        match text {
            None => Ok(()),
            Some(text) => self.set(section, key, text.into()),
        }
    }

    fn list(&mut self, section: &str, key: &str, list: &[String]) -> Result<()> {
        match list {
            [] => Ok(()),
            list => self.set(section, key, list.to_vec().into()),
        }
    }

    fn secret(&mut self, section: &str, key: &str, secret: String) -> Result<()> {
        self.settings.set(section, key, secret.into())?;
        self.outcome.changed.push(format!("[{section}] {key} set"));
        Ok(())
    }

    fn labels(&mut self, added: &[String]) -> Result<()> {
        if added.is_empty() {
            return Ok(());
        }
        let mut labels = match self.settings.get("board", "labels") {
            Some(Value::Table(labels)) => labels.clone(),
            _ => Table::new(),
        };
        for label in added {
            let pair = label.split_once('=');
            let (key, value) = pair.with_context(|| format!("--label {label}: KEY=VALUE is"))?;
            labels.insert(key.to_owned(), value.into());
        }
        self.set("board", "labels", labels.into())
    }
}
