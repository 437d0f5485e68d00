//! JSON whose bytes do not depend on the order in which fields are declared.

use serde::ser::Error;
use serde::{Serialize, Serializer};

/// Serializes `value` with the names of each object in alphabetical order; for
/// `#[serde(serialize_with)]`.
///
/// Facts and records have been written in this order since the first release, and readers take any.
/// The order is kept so that the same record is the same text in every release.
///
/// # Errors
/// If `value` has no JSON form.
pub fn sorted<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(value).map_err(S::Error::custom)?;
    value.sort_all_objects(); // a map keeps the order of insertion under some features of serde_json
    value.serialize(serializer)
}
