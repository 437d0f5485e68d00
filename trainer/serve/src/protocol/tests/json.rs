//! Requests in JSON, good and bad.

use std::time::Duration;

use super::{decode, refusal, request};
use crate::protocol::*;

#[test]
fn s04_what_a_request_wants_is_read() {
    let read = decode(
        r#"{
            "outputs": [
                {"parameters": {"binary_data": false, "classification": 3}, "name": "p", "shape": [7]},
                {"name": "q", "parameters": null}
            ],
            "parameters": {"binary_data_output": true, "timeout": 1500, "priority": 2, "sequence_id": 0, "mine": [{}]},
            "inputs": [{"name": "x", "shape": [1], "datatype": "BOOL", "data": [true], "note": {"a": [[]]}}],
            "id": "", "other": [[[1]]]
        }"#,
        None,
    )
    .expect("a good request");
    assert_eq!(read.id.as_deref(), Some(""));
    assert_eq!(
        (read.timeout, read.priority),
        (Some(Duration::from_micros(1500)), 2)
    );
    let output = |name: &str, binary, class_count| RequestedOutput {
        name: name.into(),
        binary,
        class_count,
    };
    assert_eq!(
        read.outputs,
        [output("p", Some(false), 3), output("q", None, 0)]
    );
    assert!(!read.wants_binary("p") && read.wants_binary("q"));
    let plain = r#"{"inputs": [{"name": "x", "shape": [], "datatype": "FP32", "data": [1]}], "parameters": {"timeout": 0}}"#;
    let read = decode(plain, None).expect("a good request");
    assert_eq!((read.id, read.timeout, read.priority), (None, None, 0));
}

#[test]
fn s04_a_request_that_says_too_little_or_too_much_is_refused_by_its_place() {
    let x = r#""name": "x", "shape": [1], "datatype": "FP32""#;
    for (inputs, problem) in [
        (vec![], "the request has no inputs"),
        (vec![""], "input 0 (from 0): it has no name"),
        (vec![r#""name": "x""#], "input \"x\": it has no datatype"),
        (
            vec![r#""name": "x", "datatype": "FP32""#],
            "input \"x\": it has no shape",
        ),
        (vec![x], "input \"x\": it has neither data nor"),
        (
            vec![r#""name": "x", "shape": [1], "datatype": "F32""#],
            "input \"x\": datatype \"F32\" is unknown; use one of BOOL,",
        ),
        (
            vec![r#""data": [1], "shape": [-1], "datatype": "FP32", "name": "x""#],
            "input \"x\": shape has the dimension -1;",
        ),
    ] {
        let error = refusal(&request(&inputs));
        assert!(error.starts_with(problem), "{error}");
    }
    for (more, problem) in [
        (
            r#""data": [1], "parameters": {"binary_data_size": 4}"#,
            "input \"x\": it has both data and binary_data_size",
        ),
        (
            r#""parameters": {"shared_memory_region": "r"}"#,
            "input \"x\": parameter shared_memory_region is not supported",
        ),
        (
            r#""data": [1], "data": [1]"#,
            "the JSON of the request cannot be read: duplicate field `data`",
        ),
        (
            r#""data": [1], "name": "y""#,
            "the JSON of the request cannot be read: duplicate field `name`",
        ),
        (
            r#""data": [1, 2, 3]"#,
            "input \"x\": data has 3 elements, shape [1] has 1; send one element for each",
        ),
    ] {
        let error = refusal(&request(&[&format!("{x}, {more}")]));
        assert!(error.starts_with(problem), "{error}");
    }
    let x = format!(r#"{x}, "data": [1]"#);
    let error = refusal(&request(&[&x, &x]));
    assert_eq!(error, "input \"x\" is given twice; give it once");
    for (more, problem) in [
        (
            r#""outputs": [{"name": "y"}, {"name": "y"}]"#,
            "output \"y\" is asked for twice",
        ),
        (r#""outputs": [{}]"#, "output 0 (from 0): it has no name"),
        (
            r#""outputs": [{"name": "y", "parameters": {"binary_data": 1}}]"#,
            "output \"y\": parameter binary_data is not",
        ),
        (
            r#""outputs": [{"name": "y", "parameters": {"shared_memory_region": ""}}]"#,
            "output \"y\": parameter shared_memory_region",
        ),
        (
            r#""parameters": {"sequence_id": 5}"#,
            "parameter sequence_id is not supported",
        ),
        (
            r#""id": 5"#,
            "the JSON of the request cannot be read: invalid type: integer `5`, expected a string",
        ),
    ] {
        let error = refusal(&format!(r#"{{{more}, "inputs": [{{{x}}}]}}"#));
        assert!(error.starts_with(problem), "{error}");
    }
}

#[test]
fn s04_what_is_no_json_is_told_with_its_place_and_without_its_length() {
    for (body, problem) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        (
            "[]",
            "invalid type: sequence, expected an object with `inputs` at line 1",
        ),
        (
            r#"{"inputs": {}}"#,
            "invalid type: map, expected a list at line 1",
        ),
        (
            r#"{"inputs": [5]}"#,
            "invalid type: integer `5`, expected an input",
        ),
        (
            r#"{"inputs": [{"data": [1e999]}]}"#,
            "number out of range at line 1 column",
        ),
        (
            r#"{"inputs": [{"data": [NaN]}]}"#,
            "expected value at line 1 column 23",
        ),
        (
            r#"{"inputs": []} x"#,
            "trailing characters at line 1 column 16",
        ),
    ] {
        assert!(refusal(body).contains(problem), "{}", refusal(body));
    }
    let error = refusal(&format!(r#"{{"inputs": "{}"}}"#, "x".repeat(1 << 20)));
    assert!(error.contains("... at line 1 column 1048"), "{error}");
}

#[test]
fn s04_limits_hold_while_a_request_is_read() {
    let limits = Limits {
        body_bytes: 200,
        inputs: 2,
        outputs: 1,
        dimensions: 2,
        elements: 3,
    };
    let input = |name: &str, shape: &str, data: &str| {
        format!(r#"{{"name": "{name}", "shape": {shape}, "datatype": "INT8", "data": {data}}}"#)
    };
    let decode = |inputs: &[String], more: &str| {
        let body = format!(r#"{{"inputs": [{}]{more}}}"#, inputs.join(","));
        decode_request(body.into(), None, None, &limits).map_err(|error| error.message)
    };
    let (a, b) = (input("a", "[2]", "[1,1]"), input("b", "[1]", "[1]"));
    assert!(decode(&[a.clone(), b.clone()], "").is_ok());
    for (inputs, more, problem) in [
        (vec!["{}".into(); 3], "", "the list has more than 2 entries"),
        (
            vec![a.clone()],
            r#","outputs":[{},{}]"#,
            "the list has more than 1 entries",
        ),
        (
            vec![a.clone(), input("b", "[2]", "[1,1]")],
            "",
            "input \"b\": the request has more than 3 elements",
        ),
        (
            vec![input("b", "[1,1,1]", "[1]")],
            "",
            "input \"b\": shape has more than 2 dimensions",
        ),
        (
            vec![input("b", "[1,1]", "[[[1]]]")],
            "",
            "input \"b\": data is nested more than 2 deep",
        ),
        (vec![a, b], &" ".repeat(99), "the body has 2"),
    ] {
        let error = decode(&inputs, more).expect_err(problem);
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn s04_nesting_of_any_depth_ends_without_overflow_of_the_stack() {
    let (open, close) = ("[".repeat(1 << 20), "]".repeat(1 << 20));
    for body in [
        open.clone(),
        format!(r#"{{"inputs": {open}{close}}}"#),
        format!(r#"{{"inputs": [{{"parameters": {{"timeout": {open}{close}}}}}]}}"#),
        request(&[&format!(
            r#""name": "x", "shape": [1], "datatype": "INT8", "data": {open}{close}"#
        )]),
    ] {
        assert!(decode(body, None).is_err());
    }
    let ignored = format!(r#"{{"other": {open}{close}, "inputs": []}}"#);
    assert!(refusal(&ignored).starts_with("the request has no inputs"));
}
