//! Finds what a request asks for and Bramble has no word for.
//!
//! A request is translated to the cluster's types and back. Whatever it held that did not come back
//! is an option that would have been lost.

use serde_json::Value;

/// The paths of everything set in `asked` that is missing from `kept`.
///
/// Values that differ are a translation's right (an image gets its tag); values that vanish are not.
pub fn leftovers(asked: &Value, kept: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    compare(String::new(), asked, Some(kept), &mut paths);
    paths
}

fn compare(path: String, asked: &Value, kept: Option<&Value>, paths: &mut Vec<String>) {
    if says_nothing(asked) {
        return;
    }
    match (asked, kept) {
        (Value::Object(asked), Some(Value::Object(kept))) => {
            for (key, value) in asked {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(path, value, kept.get(key), paths);
            }
        }
        (Value::Array(asked), Some(Value::Array(kept))) => {
            for (index, value) in asked.iter().enumerate() {
                compare(format!("{path}[{index}]"), value, kept.get(index), paths);
            }
        }
        (Value::Object(asked), None) => {
            for (key, value) in asked {
                compare(format!("{path}.{key}"), value, None, paths);
            }
        }
        (_, None | Some(Value::Null)) => paths.push(path),
        _ => {}
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.values().all(says_nothing),
        Value::Bool(true) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_vanishes_is_named_with_its_path() {
        let asked = json!({
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {
                "Secrets": [{"SecretName": "key"}],
                "Mounts": [{"Target": "/a", "BindOptions": {"Propagation": "shared"}}],
            }},
        });
        let kept = json!({
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Mounts": [{"Target": "/a"}]}},
        });
        assert_eq!(
            leftovers(&asked, &kept),
            [
                "TaskTemplate.ContainerSpec.Mounts[0].BindOptions.Propagation",
                "TaskTemplate.ContainerSpec.Secrets",
            ]
        );
    }

    #[test]
    fn what_says_nothing_is_not_missed() {
        let asked = json!({"A": null, "B": 0, "C": "", "D": [], "E": {"F": false}, "G": 1});
        assert_eq!(leftovers(&asked, &json!({"G": 2})), Vec::<String>::new());
    }
}
