//! A table of the extension `binary_tensor_data`: sizes and headers, good and bad.

use super::client::{Form, body};
use super::{decode, refusal, request};
use crate::protocol::*;

fn floats(name: &str, values: &[f32]) -> Tensor {
    Tensor {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape: vec![values.len() as u64],
        data: Data::Fp32(values.to_vec()),
    }
}

#[test]
fn s04_binary_inputs_are_read_in_the_order_of_the_inputs() {
    let sent = [
        (floats("b", &[1.0, 2.0]), Form::Binary),
        (floats("c", &[3.0]), Form::Flat),
        (floats("a", &[4.0]), Form::Binary),
    ];
    let (body, header) = body(&sent, false);
    let read = decode(body, header.as_deref()).expect("a good request");
    let sent: Vec<Tensor> = sent.into_iter().map(|(tensor, _)| tensor).collect();
    assert_eq!(read.inputs, sent);
    assert!(!read.binary_output);
}

#[test]
fn s04_a_body_whose_json_length_is_wrong_is_refused() {
    let (body, header) = body(&[(floats("x", &[1.0, 2.0]), Form::Binary)], false);
    let length: usize = header.expect("binary").parse().expect("our own number");
    let (short, long, outside) = (length - 1, length + 1, body.len() + 1);
    for (header, problem) in [
        (None, "trailing characters"),
        (Some(short.to_string()), "EOF while parsing"),
        (
            Some("1".into()),
            "the first 1 bytes, which Inference-Header-Content-Length counts",
        ),
        (Some(long.to_string()), "trailing characters"),
        (Some(body.len().to_string()), "trailing characters"),
        (Some(outside.to_string()), "the body has 119 bytes"),
        (Some("-1".into()), "is \"-1\", expected a whole number"),
        (Some("".into()), "is \"\", expected a whole number"),
        (Some("ten".into()), "is \"ten\", expected a whole number"),
        (
            Some("18446744073709551616".into()),
            "the body has 119 bytes",
        ),
        (
            Some("0".into()),
            "is 0, so that the body would be the one input of the model",
        ),
    ] {
        let error = decode(body.clone(), header.as_deref()).expect_err(problem);
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.message.contains(problem), "{header:?}: {error}");
    }
    assert!(decode(body, Some(&length.to_string())).is_ok());
}

#[test]
fn s04_sizes_in_binary_that_disagree_are_refused() {
    let json = |shape: &str, size: &str| {
        request(&[&format!(
            r#""name": "x", "datatype": "FP32", "shape": {shape}, "parameters": {{"binary_data_size": {size}}}"#
        )])
    };
    for (shape, size, tail, problem) in [
        ("[2]", "8", 8, ""),
        ("[0]", "0", 0, ""),
        (
            "[2]",
            "8",
            7,
            "its binary_data_size is 8, and 7 bytes are left",
        ),
        ("[2]", "8", 9, "1 bytes are left after the inputs in binary"),
        (
            "[2]",
            "4",
            8,
            "its binary data has 4 bytes, 2 elements of FP32 have 8",
        ),
        (
            "[3]",
            "8",
            8,
            "its binary data has 8 bytes, 3 elements of FP32 have 12",
        ),
        (
            "[2]",
            "-8",
            8,
            "parameter binary_data_size is not a whole number",
        ),
        (
            "[2]",
            "8.0",
            8,
            "parameter binary_data_size is not a whole number",
        ),
        (
            "[2]",
            "\"8\"",
            8,
            "parameter binary_data_size is not a whole number",
        ),
        (
            "[2]",
            "18446744073709551615",
            8,
            "its binary_data_size is 18446744073709551615",
        ),
        (
            "[4611686018427387904]",
            "0",
            0,
            "the request has more than 67108864 elements",
        ),
        (
            "[4294967296, 4294967296]",
            "0",
            0,
            "more elements than 64 bits can count",
        ),
    ] {
        let json = json(shape, size);
        let body = [json.as_bytes(), &vec![0; tail]].concat();
        let read = decode(body, Some(&json.len().to_string()));
        match problem {
            "" => assert!(read.is_ok(), "{read:?}"),
            _ => {
                let error = read.expect_err(problem);
                assert!(error.message.contains(problem), "{error}");
            }
        }
    }
    let error = refusal(&json("[2]", "8"));
    assert!(
        error.starts_with("input \"x\": it is in binary, and the header"),
        "{error}"
    );
}

#[test]
fn s04_a_raw_body_is_the_one_input_of_the_model() {
    let decode = |body: &[u8], datatype, row_shape: &[u64]| {
        let raw = RawInput {
            name: "x",
            datatype,
            row_shape,
        };
        let body = body.to_vec().into();
        decode_request(body, Some(b"0"), Some(raw), &Limits::default())
    };
    let read = decode(&[0; 24], Datatype::Fp32, &[3]).expect("two rows");
    assert!(read.binary_output);
    assert_eq!(read.inputs[0].shape, [2, 3]);
    assert_eq!(read.inputs[0].data, Data::Fp32(vec![0.0; 6]));
    let read = decode(b"427", Datatype::Bytes, &[1]).expect("a string");
    assert_eq!(read.inputs[0].shape, [1, 1]);
    assert_eq!(
        read.inputs[0].data,
        Data::Bytes(["427"].into_iter().collect())
    );
    for (body, datatype, row_shape, problem) in [
        (
            &b""[..],
            Datatype::Fp32,
            &[3][..],
            "has 0 bytes, a row has 12",
        ),
        (b"1234", Datatype::Fp32, &[3], "has 4 bytes, a row has 12"),
        (b"1234", Datatype::Fp32, &[0], "has 4 bytes, a row has 0"),
        (
            b"1234",
            Datatype::Fp32,
            &[1 << 63],
            "has 4 bytes, a row has 18446744073709551615",
        ),
        (
            b"1234",
            Datatype::Fp32,
            &[1 << 32, 1 << 32],
            "more elements than 64 bits",
        ),
        (
            b"1234",
            Datatype::Bytes,
            &[2],
            "a raw body is one BYTES element, a row has 2",
        ),
        (b"\x02", Datatype::Bool, &[], "element 0 is the byte 2"),
    ] {
        let error = decode(body, datatype, row_shape).expect_err(problem);
        assert!(error.message.starts_with("input \"x\": "), "{error}");
        assert!(error.message.contains(problem), "{error}");
    }
}
