//! What must hold of anything that was read.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Checks that a value is the same when its JSON is read again.
///
/// # Panics
/// If it is not.
pub fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).expect("what was read has a JSON form");
    match serde_json::from_str::<T>(&text) {
        Ok(read) => assert_eq!(&read, value, "written as {text}"),
        Err(error) => panic!("{error}: {value:?} was written as {text}"),
    }
}
