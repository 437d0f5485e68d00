//! The wire format under good and bad bytes.

use proptest::prelude::*;
use serde_json::{Value, json};
use trainyard_core::round::Tally;
use trainyard_core::tree::Node;
use trainyard_core::wire::{
    Body, ControlDecoder, Fence, HEADER_LEN, Header, Kind, Limits, MAX_CHUNK_BYTES,
    MAX_CONTROL_BYTES, WireError, as_bytes, as_bytes_mut, checksum, encode_control,
};

const LIMITS: Limits = Limits { control: 1000 };

fn body() -> impl Strategy<Value = Body> {
    let json_len = 1..=LIMITS.control;
    let floats_len = (1..=MAX_CHUNK_BYTES / 4).prop_map(|floats| 4 * floats);
    let node = (1..=u32::MAX).prop_map(|n| Node::new(n).expect("not 0"));
    prop_oneof![
        json_len.clone().prop_map(|len| Body::Hello { len }),
        json_len.clone().prop_map(|len| Body::Control { len }),
        json_len.clone().prop_map(|len| Body::Challenge { len }),
        json_len.prop_map(|len| Body::Proof { len }),
        (
            any::<u64>(),
            node,
            any::<u32>(),
            floats_len.clone(),
            any::<u32>(),
            any::<u64>()
        )
            .prop_map(|(step, node, chunk, len, rows, loss)| Body::Push {
                step,
                node,
                chunk,
                len,
                rows,
                loss: f64::from_bits(loss),
            }),
        (any::<u64>(), any::<u32>(), floats_len).prop_map(|(version, chunk, len)| Body::Param {
            version,
            chunk,
            len
        }),
        Just(Body::Bye),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    let header = (
        any::<u64>(),
        any::<u32>(),
        any::<u64>(),
        any::<u32>(),
        body(),
    );
    header.prop_map(|(job, generation, incarnation, payload, body)| Header {
        job,
        generation,
        incarnation,
        payload: if body == Body::Bye { 0 } else { payload },
        body,
    })
}

/// Puts the right checksum on a header that was tampered with.
fn sealed(mut bytes: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    let checksum = checksum(&bytes[..64]);
    bytes[64..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A header with `patch` written at `at`, sealed; and what decoding it says.
fn refused(body: Body, at: usize, patch: &[u8]) -> String {
    let mut bytes = control(body).encode();
    bytes[at..at + patch.len()].copy_from_slice(patch);
    match Header::decode(&sealed(bytes), &LIMITS) {
        Ok(header) => panic!("accepted as {header:?}"),
        Err(error) => error.to_string(),
    }
}

fn control(body: Body) -> Header {
    Header {
        job: 1,
        generation: 2,
        incarnation: 3,
        payload: 0,
        body,
    }
}

const PUSH: Body = Body::Push {
    step: 9,
    node: Node::ROOT,
    chunk: 5,
    len: 8,
    rows: 32,
    loss: 0.5,
};

#[test]
fn the_layout_is_as_written_down() {
    let header = Header {
        job: 0x0102_0304_0506_0708,
        generation: 0x1112_1314,
        incarnation: 0x2122_2324_2526_2728,
        payload: checksum(b"123456789"),
        body: Body::Push {
            step: 0x3132_3334_3536_3738,
            node: Node::new(0x4142_4344).expect("not 0"),
            chunk: 0x5152_5354,
            len: 0x0003_fffc,
            rows: 0x6162_6364,
            loss: 1.0,
        },
    };
    let hex: String = header
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let fields = [
        "54525944",
        "02",
        "02",
        "00",
        "00",
        "0807060504030201",
        "14131211",
        "fcff0300",
        "2827262524232221",
        "3837363534333231",
        "44434241",
        "54535251",
        "000000000000f03f",
        "64636261",
        // The check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms: cbf43926.
        "2639f4cb",
    ];
    assert_eq!(hex[..128], fields.concat());
    // CRC-32 of IEEE 802.3 as zlib and Python's binascii.crc32 compute it.
    assert_eq!(&hex[128..], "34ed3480");
}

#[test]
fn t13_every_refused_field_is_named() {
    let hello = Body::Hello { len: 10 };
    let long = (LIMITS.control + 1).to_le_bytes();
    let chunk = (MAX_CHUNK_BYTES + 4).to_le_bytes();
    let param = Body::Param {
        version: 1,
        chunk: 0,
        len: 4,
    };
    for (body, at, patch, name) in [
        (hello, 0, b"HTTP".as_slice(), "magic"),
        (hello, 4, &[1], "version is 1"),
        (hello, 5, &[0], "kind is 0"),
        (hello, 5, &[8], "kind is 8"),
        (PUSH, 6, &[1], "encoding is 1"),
        (PUSH, 7, &[0x80], "flags are 0x80"),
        (
            hello,
            20,
            &long,
            "payload length is 1001 in a Hello frame, allowed is 1 to 1000",
        ),
        (hello, 20, &[0], "payload length is 0"),
        (
            PUSH,
            20,
            &chunk,
            "payload length is 262148 in a Push frame, allowed is 4 to 262144",
        ),
        (PUSH, 20, &[6], "in multiples of 4"),
        (PUSH, 20, &[0], "payload length is 0"),
        (
            param,
            20,
            &[0xff; 4],
            "payload length is 4294967295 in a Param frame",
        ),
        (Body::Bye, 20, &[4], "payload length is 4 in a Bye frame"),
        (PUSH, 40, &[0], "node is 0"),
        (param, 40, &[1], "node is not 0 in a Param frame"),
        (param, 48, &[1], "loss is not 0 in a Param frame"),
        (param, 59, &[1], "rows is not 0 in a Param frame"),
        (hello, 39, &[1], "step is not 0 in a Hello frame"),
        (Body::Bye, 44, &[1], "chunk is not 0 in a Bye frame"),
        (
            Body::Bye,
            60,
            &[1],
            "payload checksum is not 0 in a Bye frame",
        ),
    ] {
        let message = refused(body, at, patch);
        assert!(message.contains(name), "{message:?} should name {name:?}");
    }
    let mut damaged = control(PUSH).encode();
    damaged[33] ^= 1;
    let message = Header::decode(&damaged, &LIMITS).unwrap_err().to_string();
    assert!(message.contains("checksum"), "{message}");
}

#[test]
fn limits_cannot_be_raised_above_the_format() {
    let mut bytes = control(Body::Control { len: 1 }).encode();
    bytes[20..24].copy_from_slice(&(MAX_CONTROL_BYTES + 1).to_le_bytes());
    let limits = Limits { control: u32::MAX };
    let refused = Header::decode(&sealed(bytes), &limits);
    assert!(matches!(
        refused,
        Err(WireError::Length {
            kind: Kind::Control,
            ..
        })
    ));
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let tally = Tally {
        rows: 1 << 32,
        loss: 0.0,
    };
    let refused = Body::push(0, Node::ROOT, 0, 4, tally);
    assert!(matches!(refused, Err(WireError::Rows(4_294_967_296))));
}

#[test]
fn the_fence_tells_older_newer_and_foreign() {
    let header = control(Body::Bye); // job 1, generation 2
    assert_eq!(header.fence(1, 2), Fence::Current);
    assert_eq!(header.fence(1, 3), Fence::Older);
    assert_eq!(header.fence(1, 1), Fence::Newer);
    assert_eq!(header.fence(2, 2), Fence::Foreign);
}

#[test]
fn control_frames_that_cannot_be_sent_are_refused() {
    let refused = encode_control(control(PUSH), "text");
    assert!(matches!(refused, Err(WireError::NotControl(Kind::Push))));
    let long = "x".repeat(MAX_CONTROL_BYTES as usize);
    let refused = encode_control(control(Body::Hello { len: 0 }), &long);
    assert!(matches!(
        refused,
        Err(WireError::Length {
            kind: Kind::Hello,
            len: 4_194_306,
            ..
        })
    ));
    let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
    let refused = encode_control(control(Body::Control { len: 0 }), &no_json);
    assert!(matches!(
        refused,
        Err(WireError::Json {
            kind: Kind::Control,
            ..
        })
    ));
}

#[test]
fn t13_bad_control_streams_are_refused_and_stay_so() {
    let mut wrong_json = encode_control(control(Body::Control { len: 0 }), "text").expect("short");
    wrong_json[HEADER_LEN] = b'{';
    let damaged = wrong_json.clone();
    let payload = wrong_json.split_off(HEADER_LEN);
    let len = payload.len() as u32;
    let header = control(Body::Control { len }).before(&payload);
    let wrong_json = [&header.encode()[..], &payload].concat();
    let deep = "[".repeat(900);
    let header = control(Body::Control { len: 900 }).before(deep.as_bytes());
    let deep_frame = [&header.encode()[..], deep.as_bytes()].concat();
    let push = control(PUSH).encode().to_vec();
    let bye = control(Body::Bye).encode().to_vec();
    for (bytes, name) in [
        (damaged, "payload checksum"),
        (wrong_json, "payload of a Control frame"),
        (deep_frame, "recursion limit"),
        (push, "a Push frame where messages"),
        (bye, "a Bye frame where messages"),
        (b"GET / HTTP/1.1\r\n".repeat(5), "magic"),
    ] {
        let mut decoder = ControlDecoder::new(LIMITS);
        decoder.push(&bytes).expect("there is room");
        for _ in 0..2 {
            let message = decoder.pop::<Value>().unwrap_err().to_string();
            assert!(message.contains(name), "{message:?} should name {name:?}");
        }
    }
}

#[test]
fn t13_a_control_stream_nobody_reads_is_bounded() {
    let frame = encode_control(control(Body::Control { len: 0 }), "text").expect("short");
    let mut decoder = ControlDecoder::new(LIMITS);
    let refused = (0..1000).find_map(|_| decoder.push(&frame).err());
    assert!(matches!(refused, Some(WireError::Backlog(_))));
    let largest = HEADER_LEN + LIMITS.control as usize;
    assert!(decoder.waiting() < largest + frame.len());
    // Whoever takes the messages can go on.
    while decoder.pop::<String>().expect("whole messages").is_some() {}
    assert_eq!(decoder.waiting(), 0);
    decoder.push(&frame).expect("there is room again");
}

/// One message after another over all sizes that matter, split at every byte.
#[test]
fn a_stream_may_be_cut_anywhere() {
    let mut stream = Vec::new();
    let messages = [
        json!({"join": {"rank": 3}}),
        json!(null),
        json!("x".repeat(300)),
    ];
    for message in &messages {
        let header = control(Body::Hello { len: 0 });
        stream.extend(encode_control(header, message).expect("short"));
    }
    for cut in 0..=stream.len() {
        let mut decoder = ControlDecoder::new(LIMITS);
        let mut seen = Vec::new();
        for part in [&stream[..cut], &stream[cut..]] {
            decoder.push(part).expect("there is room");
            while let Some((header, message)) = decoder.pop::<Value>().expect("good bytes") {
                assert_eq!((header.job, header.body.kind()), (1, Kind::Hello));
                seen.push(message);
            }
        }
        assert_eq!((seen, decoder.waiting()), (messages.to_vec(), 0));
    }
}

#[test]
fn floats_are_viewed_as_little_endian_bytes_in_place() {
    let mut floats = [1.0, -2.5, f32::NAN];
    let bytes = as_bytes(&floats).to_vec();
    assert_eq!(bytes[..8], [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
    as_bytes_mut(&mut floats)[4..8].copy_from_slice(&bytes[..4]);
    assert_eq!(floats[1], 1.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_encoded_is_decoded(header in header()) {
        let bytes = header.encode();
        let decoded = Header::decode(&bytes, &LIMITS).expect("a good header");
        // By bits: a loss may be NaN.
        prop_assert_eq!(decoded.encode(), bytes);
        prop_assert_eq!(decoded.body.kind(), header.body.kind());
        prop_assert_eq!(decoded.body.payload_len(), header.body.payload_len());
    }

    #[test]
    fn t13_any_flipped_bits_are_noticed(header in header(), at in 0..HEADER_LEN, flip in 1..=u8::MAX) {
        let mut bytes = header.encode();
        bytes[at] ^= flip;
        prop_assert!(Header::decode(&bytes, &LIMITS).is_err());
    }

    #[test]
    fn t13_any_flipped_bits_of_a_payload_are_noticed(
        payload in prop::collection::vec(any::<u8>(), 1..5000),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let header = control(Body::Hello { len: payload.len() as u32 }).before(&payload);
        header.check(&payload).expect("as it was sent");
        let mut damaged = payload.clone();
        damaged[at.index(payload.len())] ^= flip;
        let noticed = matches!(header.check(&damaged), Err(WireError::Payload { .. }));
        prop_assert!(noticed);
    }

    /// Whatever passes has one encoding and a payload within its bounds: no tampered header,
    /// though its checksum is right, makes a receiver allocate more.
    #[test]
    fn t13_tampered_headers_are_refused_or_within_bounds(
        header in header(),
        patches in prop::collection::vec((4..64_usize, any::<u8>()), 1..4),
    ) {
        let mut bytes = header.encode();
        for (at, byte) in patches {
            bytes[at] = byte;
        }
        let bytes = sealed(bytes);
        if let Ok(header) = Header::decode(&bytes, &LIMITS) {
            prop_assert_eq!(header.encode(), bytes);
            let most = match header.body.kind() {
                Kind::Hello | Kind::Control | Kind::Challenge | Kind::Proof => LIMITS.control,
                Kind::Push | Kind::Param => MAX_CHUNK_BYTES,
                Kind::Bye => 0,
            };
            prop_assert!(header.body.payload_len() <= most);
        }
    }

    #[test]
    fn t13_random_bytes_are_no_header(bytes in prop::collection::vec(any::<u8>(), HEADER_LEN), start in any::<bool>()) {
        let mut bytes: [u8; HEADER_LEN] = bytes.try_into().expect("as many");
        if start {
            bytes[..5].copy_from_slice(b"TRYD\x02");
        }
        prop_assert!(Header::decode(&bytes, &LIMITS).is_err());
    }

    /// Good frames, then damage, in reads of any size: every message before the damage comes
    /// out, memory stays bounded, nothing panics, and a truncated stream just waits.
    #[test]
    fn t13_damaged_control_streams(
        messages in prop::collection::vec("[a-z]{0,200}", 0..8),
        damage in prop::collection::vec(any::<u8>(), 0..200),
        truncate in 0..64_usize,
        reads in prop::collection::vec(1..400_usize, 1..20),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            let header = control(Body::Control { len: 0 });
            stream.extend(encode_control(header, message).expect("short"));
        }
        let whole = stream.len();
        stream.extend(&damage);
        stream.truncate((whole + damage.len()).saturating_sub(truncate).max(1));
        let mut decoder = ControlDecoder::new(LIMITS);
        let mut seen = Vec::new();
        let mut failed = false;
        let mut rest = stream.as_slice();
        for read in reads.iter().cycle() {
            if rest.is_empty() || failed {
                break;
            }
            let (now, later) = rest.split_at((*read).min(rest.len()));
            rest = later;
            decoder.push(now).expect("messages are popped");
            prop_assert!(decoder.waiting() <= HEADER_LEN + LIMITS.control as usize + now.len());
            loop {
                match decoder.pop::<String>() {
                    Ok(Some((_, message))) => seen.push(message),
                    Ok(None) => break,
                    Err(_) => {
                        failed = true;
                        break;
                    }
                }
            }
        }
        prop_assert!(seen.len() <= messages.len());
        prop_assert_eq!(&seen[..], &messages[..seen.len()]);
        if stream.len() >= whole {
            prop_assert_eq!(seen.len(), messages.len());
            // Damage shows as soon as a header's worth of it is there.
            prop_assert_eq!(failed, stream.len() - whole >= HEADER_LEN);
        }
    }
}
