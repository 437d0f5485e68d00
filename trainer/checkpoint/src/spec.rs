//! What differs between the specs of two jobs.

use serde_json::Value;
use std::collections::BTreeSet;

/// One phrase for each value in which two specs differ, as in `training.seed is 7 there, 8 here`.
pub fn spec_differences(stored: &Value, wanted: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("", Some(stored), Some(wanted), &mut differences);
    differences
}

fn compare(path: &str, stored: Option<&Value>, wanted: Option<&Value>, found: &mut Vec<String>) {
    if stored == wanted {
        return;
    }
    let (Some(Value::Object(a)), Some(Value::Object(b))) = (stored, wanted) else {
        let shown = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
        let (stored, wanted) = (shown(stored), shown(wanted));
        found.push(format!("{path} is {stored} there, {wanted} here"));
        return;
    };
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let below = match path {
            "" => name.clone(),
            _ => format!("{path}.{name}"),
        };
        compare(&below, a.get(name), b.get(name), found);
    }
}
