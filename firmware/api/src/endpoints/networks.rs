//! `/networks`: until overlay networks exist, the four that every engine has.

use serde_json::Value;

use crate::{
    error::ApiError,
    filters::Filters,
    types::network::{BUILTIN, Builtin, find},
};

const FILTERS: [&str; 7] = ["id", "name", "driver", "scope", "type", "label", "dangling"];

/// `GET /networks`
pub(crate) fn list(created: &str, filters: Option<&str>) -> Result<Vec<Value>, ApiError> {
    let filters = Filters::parse(filters, &FILTERS)?;
    let networks = BUILTIN.iter().filter(|network| is_admitted(&filters, network));
    Ok(networks.map(|network| network.to_json(created)).collect())
}

fn is_admitted(filters: &Filters, network: &Builtin) -> bool {
    filters.admits("id", |value| network.id.starts_with(value))
        && filters.admits("name", |value| network.name.contains(value))
        && filters.admits("driver", |value| network.driver == value)
        && filters.admits("scope", |value| network.scope() == value)
        && filters.admits("type", |value| value == "builtin")
        && filters.admits("dangling", |value| matches!(value, "false" | "0"))
        && filters.admits("label", |_| false)
}

/// `GET /networks/{id}`
pub(crate) fn inspect(created: &str, name: &str) -> Result<Value, ApiError> {
    let network = find(name);
    network
        .map(|network| network.to_json(created))
        .ok_or_else(|| ApiError::NotFound { kind: "network", name: name.to_owned() })
}
