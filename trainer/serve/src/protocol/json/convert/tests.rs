//! What becomes of elements in each datatype.

use std::cell::Cell;

use serde::de::DeserializeSeed;

use super::super::Bounds;
use super::super::collect::DataSeed;
use super::*;
use crate::protocol::limits::Limits;

/// The elements of a flat array.
fn data(json: &str, datatype: Datatype) -> Result<Data, ProtocolError> {
    let (limits, left) = (Limits::default(), Cell::new(0));
    let bounds = Bounds::new(&limits, &left);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let collected = DataSeed { bounds }.deserialize(&mut deserializer);
    let collected = collected.expect(json).expect(json);
    let count = collected.elements.len() as u64;
    collected.into_data(datatype, &[count], count)
}

#[test]
fn s04_integers_keep_every_digit() {
    let long = "[9007199254740993, 9223372036854775807, -9223372036854775808]";
    let expected = vec![9_007_199_254_740_993, i64::MAX, i64::MIN];
    assert_eq!(data(long, Datatype::Int64), Ok(Data::Int64(expected)));
    let long = "[9007199254740993, 18446744073709551615, 3]";
    let expected = vec![9_007_199_254_740_993, u64::MAX, 3];
    assert_eq!(data(long, Datatype::Uint64), Ok(Data::Uint64(expected)));
    let expected = Data::Int8(vec![1, -2, 30, 0]);
    assert_eq!(data("[1, -2.0, 3e1, -0]", Datatype::Int8), Ok(expected));
    let error = data("[9007199254740993, 1.0]", Datatype::Int64).expect_err("rounded");
    assert!(
        error.message.contains("digits of it may be lost"),
        "{error}"
    );
}

#[test]
fn s04_a_number_is_the_same_whatever_stands_beside_it() {
    // As an integer it would be rounded once, to 2^63 + 2^40.
    let number = "9223372586610589697";
    let singles = |json: &str| match data(json, Datatype::Fp32) {
        Ok(Data::Fp32(values)) => values,
        other => panic!("{other:?}"),
    };
    let [alone, beside] = [format!("[{number}]"), format!("[{number}, 0.5]")];
    assert_eq!(singles(&alone)[0], singles(&beside)[0]);
    assert_eq!(singles("[0.1, 1e-46, 16777217]"), [0.1, 0.0, 16_777_216.0]);
}

#[test]
fn s04_null_is_missing_where_a_type_has_missing_values() {
    for json in ["[null, null]", "[1, null]", "[null, 1]", "[1.0, null]"] {
        let Ok(Data::Fp64(values)) = data(json, Datatype::Fp64) else {
            panic!("{json}");
        };
        assert!(values.iter().any(|value| value.is_nan()));
        let error = data(json, Datatype::Int32).expect_err(json);
        assert!(
            error.message.contains("of data is null, INT32 has no"),
            "{error}"
        );
    }
    for (json, strings) in [
        ("[null]", vec![""]),
        ("[null, \"a\", null]", vec!["", "a", ""]),
    ] {
        let expected = Data::Bytes(strings.into_iter().collect());
        assert_eq!(data(json, Datatype::Bytes), Ok(expected));
    }
    assert!(data("[null]", Datatype::Bool).is_err());
}

#[test]
fn s04_booleans_are_true_and_false_or_0_and_1() {
    let expected = Data::Bool(vec![true, false]);
    for json in ["[true, false]", "[1, 0]", "[1.0, 0]"] {
        assert_eq!(data(json, Datatype::Bool), Ok(expected.clone()));
    }
    for json in ["[2]", "[-1]", "[0.5]", "[\"true\"]"] {
        assert!(data(json, Datatype::Bool).is_err(), "{json}");
    }
}

#[test]
fn s04_elements_that_a_type_cannot_hold_are_refused_by_their_place() {
    for (json, datatype, problem) in [
        (
            "[0, 256]",
            Datatype::Uint8,
            "element 1 of data is 256, which UINT8 cannot hold",
        ),
        (
            "[-1]",
            Datatype::Uint64,
            "element 0 of data is -1, which UINT64",
        ),
        (
            "[-129]",
            Datatype::Int8,
            "element 0 of data is -129, which INT8",
        ),
        (
            "[3000000000]",
            Datatype::Int32,
            "element 0 of data is 3000000000, which INT32",
        ),
        (
            "[9223372036854775808]",
            Datatype::Int64,
            "element 0 of data is 9223372036854775808",
        ),
        (
            "[1, 1.5]",
            Datatype::Int32,
            "element 1 of data is 1.5, INT32 takes whole numbers",
        ),
        (
            "[1e300]",
            Datatype::Int32,
            "element 0 of data is about 1e300: digits",
        ),
        ("[1, 1e39]", Datatype::Fp32, "element 1 of data is 1"),
        (
            "[true]",
            Datatype::Fp32,
            "data has booleans, FP32 takes numbers",
        ),
        (
            "[\"1\"]",
            Datatype::Fp64,
            "data has strings, FP64 takes numbers",
        ),
        (
            "[\"1\"]",
            Datatype::Int8,
            "data has strings, INT8 takes whole numbers",
        ),
        (
            "[1]",
            Datatype::Bytes,
            "data has numbers, BYTES takes strings",
        ),
        (
            "[1]",
            Datatype::Fp16,
            "FP16 has no form in JSON; send it in binary",
        ),
        (
            "[]",
            Datatype::Bf16,
            "BF16 has no form in JSON; send it in binary",
        ),
    ] {
        let error = data(json, datatype).expect_err(problem);
        assert!(error.message.starts_with(problem), "{error}");
        assert!(error.message.len() < 300, "{error}");
    }
    for datatype in Datatype::ALL {
        let is_half = matches!(datatype, Datatype::Fp16 | Datatype::Bf16);
        assert_eq!(data("[]", datatype).is_err(), is_half);
    }
}
