//! What Home Assistant must be told to show a board without anything being configured there.

use bramble_cluster::NodeId;
use serde_json::{Value, json};

use crate::report::BoardReport;

/// Where Home Assistant looks, unless somebody told it otherwise.
const PREFIX: &str = "homeassistant";

/// The sensor that says whether a board has problems, with their texts as its attributes: its
/// topic and its configuration.
pub(crate) fn problems(node: NodeId, report: &BoardReport) -> (String, Value) {
    let board = format!("bramble_{node}");
    let state = format!("bramble/board/{node}/state");
    let config = json!({
        "name": "Problems",
        "unique_id": format!("{board}_problems"),
        "device_class": "problem",
        "entity_category": "diagnostic",
        "state_topic": state,
        "value_template": "{{ 'ON' if value_json.has_problems else 'OFF' }}",
        "json_attributes_topic": state,
        "json_attributes_template": "{{ {'problems': value_json.problems} | tojson }}",
        "availability_topic": format!("bramble/board/{node}/availability"),
        "device": {
            "identifiers": [board],
            "name": report.hostname,
            "manufacturer": "Bramble",
            "sw_version": report.version,
        },
    });
    (format!("{PREFIX}/binary_sensor/{board}/problems/config"), config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board_state;

    #[test]
    fn the_sensor_reads_what_the_board_reports() {
        let node = NodeId::from_random(7);
        let report = BoardReport {
            hostname: "pi-1".to_owned(),
            problems: vec!["there is no network cable".to_owned()],
            ..BoardReport::default()
        };
        let (topic, config) = problems(node, &report);
        assert_eq!(topic, format!("homeassistant/binary_sensor/bramble_{node}/problems/config"));
        assert_eq!(config["device"]["name"], "pi-1");
        assert_eq!(config["state_topic"], format!("bramble/board/{node}/state"));
        let state = board_state(&report);
        assert_eq!(state["has_problems"], true);
        assert_eq!(state["problems"][0], "there is no network cable");
        assert_eq!(board_state(&BoardReport::default())["has_problems"], false);
    }
}
