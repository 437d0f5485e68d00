//! What a server says of itself and of its models.

use serde::Serialize;

/// The extensions of the protocol that are served.
pub const EXTENSIONS: [&str; 4] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "statistics",
];

/// `GET /v2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerDescription {
    /// The program.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it serves beside the protocol.
    pub extensions: &'static [&'static str],
}

impl Default for ServerDescription {
    fn default() -> Self {
        Self {
            name: "trainyard",
            version: env!("CARGO_PKG_VERSION"),
            extensions: &EXTENSIONS,
        }
    }
}

/// `GET /v2/models/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelDescription {
    /// Its name.
    pub name: String,
    /// Its versions, the oldest first.
    pub versions: Vec<String>,
    /// What made it.
    pub platform: &'static str,
    /// Its inputs.
    pub inputs: Vec<TensorDescription>,
    /// Its outputs.
    pub outputs: Vec<TensorDescription>,
}

/// A tensor without elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorDescription {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub datatype: &'static str,
    /// Its dimensions, the outermost first; -1 for the number of rows.
    pub shape: Vec<i64>,
}
