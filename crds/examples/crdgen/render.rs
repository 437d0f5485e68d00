//! A CustomResourceDefinition as the text that is checked in.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// Name of the file of a definition, as in `trainingjobs.trainyard.dev.yaml`.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.{}.yaml", crd.spec.names.plural, crd.spec.group)
}

/// The definition as YAML.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, Box<dyn std::error::Error>> {
    let mut value = serde_json::to_value(crd)?;
    whole_numbers(&mut value);
    let body = serde_saphyr::to_string(&value)?;
    Ok(format!(
        "# Generated from the types in crds/src: cargo run -p trainyard-crds --example crdgen\n{body}"
    ))
}

/// Bounds are f64 in the Rust types; `1024.0` reads better as `1024`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(float) = number
                .as_f64()
                .filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 9.1e15)
            {
                *number = (float as i64).into();
            }
        }
        _ => {}
    }
}
