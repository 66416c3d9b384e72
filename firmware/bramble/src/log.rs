//! What this process tells on its standard error.

use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// What is logged unless `BRAMBLE_LOG` says otherwise. The consensus library takes for errors what
/// a cut cable does.
const LOG: &str = "info,openraft=off,mdns_sd=error";

/// Logs to the standard error; `BRAMBLE_LOG` says what (`debug`, `info,bramble_peering=debug`).
pub(crate) fn start() {
    let wanted = std::env::var("BRAMBLE_LOG").unwrap_or_else(|_| LOG.to_owned());
    let targets = wanted.parse::<Targets>().unwrap_or_else(|error| {
        eprintln!("bramble: BRAMBLE_LOG: {error}; `{LOG}` is used");
        Targets::new().with_default(tracing::Level::INFO)
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).compact();
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
}
