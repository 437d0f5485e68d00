//! Property tests: what clients send comes out as it went in, and nothing that they send ends in a panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::client::{Form, body};
use crate::protocol::*;

/// The elements that random bits stand for. In JSON there is no infinity, and `null` is NaN.
fn data(datatype: Datatype, bits: &[u64], form: Form) -> Data {
    fn all<T>(bits: &[u64], value: impl Fn(u64) -> T) -> Vec<T> {
        bits.iter().map(|bits| value(*bits)).collect()
    }
    let is_json = form != Form::Binary;
    let double = |value: f64| match is_json && value.is_infinite() {
        true => f64::NAN,
        false => value,
    };
    let single = |value: f32| double(value.into()) as f32;
    let string = |bits: &u64| {
        let bytes = &bits.to_le_bytes()[..*bits as usize % 9];
        match is_json {
            true => String::from_utf8_lossy(bytes).into_owned().into_bytes(),
            false => bytes.to_vec(),
        }
    };
    match datatype {
        Datatype::Bool => Data::Bool(all(bits, |bits| bits % 2 == 1)),
        Datatype::Uint8 => Data::Uint8(all(bits, |bits| bits as u8).into()),
        Datatype::Uint16 => Data::Uint16(all(bits, |bits| bits as u16)),
        Datatype::Uint32 => Data::Uint32(all(bits, |bits| bits as u32)),
        Datatype::Uint64 => Data::Uint64(all(bits, |bits| bits)),
        Datatype::Int8 => Data::Int8(all(bits, |bits| bits as i8)),
        Datatype::Int16 => Data::Int16(all(bits, |bits| bits as i16)),
        Datatype::Int32 => Data::Int32(all(bits, |bits| bits as i32)),
        Datatype::Int64 => Data::Int64(all(bits, |bits| bits as i64)),
        Datatype::Bf16 | Datatype::Fp16 => {
            Data::Fp32(all(bits, |bits| f32::from_bits((bits as u32) << 16)))
        }
        Datatype::Fp32 => Data::Fp32(all(bits, |bits| single(f32::from_bits(bits as u32)))),
        Datatype::Fp64 => Data::Fp64(all(bits, |bits| double(f64::from_bits(bits)))),
        Datatype::Bytes => Data::Bytes(bits.iter().map(string).collect()),
    }
}

/// Bits of which many are small, or at the ends of a range.
fn bits() -> impl Strategy<Value = u64> {
    let ends = select(vec![
        0,
        1,
        u64::MAX,
        1 << 63,
        i64::MAX as u64,
        (1 << 53) + 1,
    ]);
    prop_oneof![any::<u64>(), 0_u64..300, ends]
}

fn tensors() -> impl Strategy<Value = Vec<(Tensor, Form)>> {
    // FP16 has no writer here; all its numbers are tried where it is read.
    let datatypes: Vec<Datatype> = Datatype::ALL
        .into_iter()
        .filter(|datatype| *datatype != Datatype::Fp16)
        .collect();
    let tensor = (
        select(datatypes),
        vec(0_u64..4, 0..4),
        select(vec![Form::Flat, Form::Nested, Form::Binary]),
    );
    let tensor = tensor.prop_flat_map(|(datatype, shape, form)| {
        let count = shape.iter().product::<u64>() as usize;
        let form = match datatype {
            Datatype::Bf16 => Form::Binary,
            _ => form,
        };
        (vec(bits(), count), Just((datatype, shape, form)))
    });
    vec(tensor, 1..5).prop_map(|tensors| {
        let tensor = |(index, (bits, (datatype, shape, form))): (usize, (Vec<u64>, _))| {
            let tensor = Tensor {
                name: format!("input \"{index}\""),
                datatype,
                shape,
                data: data(datatype, &bits, form),
            };
            (tensor, form)
        };
        tensors.into_iter().enumerate().map(tensor).collect()
    })
}

/// The elements with NaN as a text that equals itself.
fn shown(data: &Data) -> String {
    match data {
        Data::Bytes(strings) => format!("{:?}", strings.iter().collect::<Vec<_>>()),
        data => format!("{data:?}"),
    }
}

fn decode(body: Vec<u8>, header: Option<&[u8]>) -> Result<InferRequest, ProtocolError> {
    let raw = RawInput {
        name: "x",
        datatype: Datatype::Fp32,
        row_shape: &[2],
    };
    decode_request(body.into(), header, Some(raw), &Limits::default())
}

proptest! {
    #[test]
    fn s04_tensors_come_out_as_clients_sent_them(sent in tensors(), is_reversed: bool) {
        let (body, header) = body(&sent, is_reversed);
        let has_empty_binary = header.is_none() && sent.iter().any(|(_, form)| *form == Form::Binary);
        let header = match has_empty_binary {
            true => Some(body.len().to_string()),
            false => header,
        };
        let request = decode(body, header.as_deref().map(str::as_bytes)).expect("a good request");
        prop_assert_eq!(request.id.as_deref(), Some("7"));
        prop_assert_eq!(request.inputs.len(), sent.len());
        for (read, (sent, _)) in request.inputs.iter().zip(&sent) {
            prop_assert_eq!(&read.name, &sent.name);
            prop_assert_eq!(read.datatype, sent.datatype);
            prop_assert_eq!(&read.shape, &sent.shape);
            prop_assert_eq!(shown(&read.data), shown(&sent.data));
        }
    }

    #[test]
    fn s04_answers_are_read_back_as_they_were(sent in tensors(), id: Option<String>) {
        let output = |(tensor, form): &(Tensor, Form)| OutputTensor {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            data: tensor.data.clone(),
            binary: *form == Form::Binary,
        };
        let response = InferResponse {
            model_name: "m".into(),
            model_version: "1".into(),
            id,
            outputs: sent.iter().map(output).collect(),
        };
        let encoded = encode_response(&response);
        // The outputs of an answer have the form of the inputs of a request.
        let length = encoded.header_length.unwrap_or(encoded.body.len());
        let json = String::from_utf8(encoded.body[..length].to_vec()).expect("UTF-8");
        let json = json.replacen("\"outputs\":", "\"inputs\":", 1);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(value.get("id").and_then(|id| id.as_str()), response.id.as_deref());
        let header = encoded.header_length.map(|_| json.len().to_string());
        let body = [json.as_bytes(), &encoded.body[length..]].concat();
        let read = decode(body, header.as_deref().map(str::as_bytes)).expect("a good answer");
        for (read, sent) in read.inputs.iter().zip(&response.outputs) {
            prop_assert_eq!(read.datatype, sent.data.datatype());
            prop_assert_eq!(&read.shape, &sent.shape);
            prop_assert_eq!(shown(&read.data), shown(&sent.data));
        }
    }

    #[test]
    fn s04_no_bytes_end_in_a_panic(body: Vec<u8>, header: Option<Vec<u8>>, length in 0_usize..40) {
        let _ = decode(body.clone(), None);
        let _ = decode(body.clone(), header.as_deref());
        let _ = decode(body.clone(), Some(length.to_string().as_bytes()));
        for datatype in Datatype::ALL {
            let _ = Data::from_binary(datatype, length as u64, Bytes::from(body.clone()));
        }
    }

    #[test]
    fn s04_no_damaged_request_ends_in_a_panic(
        sent in tensors(),
        damage in vec((any::<prop::sample::Index>(), 0..4, any::<u8>()), 1..4),
        shift in -2_i64..3,
    ) {
        let (mut body, header) = body(&sent, false);
        for (place, how, byte) in damage {
            let place = place.index(body.len());
            // Bytes of JSON are likelier to be read on than others.
            let byte = *b"[]{}\",:-0e".get(usize::from(byte)).unwrap_or(&byte);
            match how {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                2 => body.truncate(place.max(1)),
                _ => body.extend(body[place..].to_vec()),
            }
        }
        let header = header.map(|header| {
            let length: i64 = header.parse().expect("our own number");
            (length + shift).to_string()
        });
        if let Ok(request) = decode(body, header.as_deref().map(str::as_bytes)) {
            for tensor in request.inputs {
                prop_assert_eq!(tensor.shape.iter().product::<u64>(), tensor.data.len() as u64);
            }
        }
    }
}
