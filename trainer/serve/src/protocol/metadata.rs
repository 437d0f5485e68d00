//! What a server says of itself, of its models, and of errors: JSON bodies.

use serde::Serialize;

use super::datatype::Datatype;

/// The answer to `GET /v2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerMetadata<'a> {
    /// The program.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The extensions of the protocol that it serves, such as `binary_tensor_data` and `classification`.
    pub extensions: &'a [&'a str],
}

/// The answer to `GET /v2/models/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelMetadata {
    /// Its name.
    pub name: String,
    /// Its versions that are served.
    pub versions: Vec<String>,
    /// What made it.
    pub platform: String,
    /// Its inputs.
    pub inputs: Vec<TensorMetadata>,
    /// Its outputs.
    pub outputs: Vec<TensorMetadata>,
}

/// A tensor without its elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub datatype: Datatype,
    /// Its dimensions, the outermost first; -1 for one that each request chooses, which is the number of rows.
    pub shape: Vec<i64>,
}

/// The body of an answer whose status is not 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody<'a> {
    /// The message.
    pub error: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn s04_metadata_have_the_fields_of_the_protocol() {
        let server = ServerMetadata {
            name: "trainyard",
            version: "1",
            extensions: &["classification"],
        };
        let expected =
            json!({"name": "trainyard", "version": "1", "extensions": ["classification"]});
        assert_eq!(json!(server), expected);
        let tensor = TensorMetadata {
            name: "age".into(),
            datatype: Datatype::Fp32,
            shape: vec![-1, 1],
        };
        let model = ModelMetadata {
            name: "churn".into(),
            versions: vec!["3".into()],
            platform: "trainyard".into(),
            inputs: vec![tensor],
            outputs: vec![],
        };
        let expected = json!({
            "name": "churn", "versions": ["3"], "platform": "trainyard",
            "inputs": [{"name": "age", "datatype": "FP32", "shape": [-1, 1]}], "outputs": [],
        });
        assert_eq!(json!(model), expected);
        assert_eq!(json!(ErrorBody { error: "no" }), json!({"error": "no"}));
    }
}
