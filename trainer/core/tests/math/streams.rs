//! What is drawn from random streams equals what a second implementation of their documentation draws
//! (`fixtures/generate.py`). A difference here means that every model changes.

use serde_json::Value;
use trainyard_core::layout::{Init, Layout, Param};
use trainyard_core::philox::{Purpose, Stream};
use trainyard_core::sampling::{Parts, Shares, SplitBy, permutation, split};

fn fixture() -> Value {
    serde_json::from_str(include_str!("../fixtures/streams.json")).unwrap()
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn draws_agree() {
    let draws = &fixture()["draws"];
    let [seed, a, b, c] = ["seed", "a", "b", "c"].map(|name| draws[name].as_u64().unwrap());
    let mut stream = Stream::new(seed, Purpose::Dropout, a, b as u32, c as u32);
    for word in list::<u32>(&draws["words"]) {
        assert_eq!(stream.next_u32(), word);
    }
    for (a, expected) in list::<u64>(&fixture()["below"]).into_iter().enumerate() {
        let mut stream = Stream::new(7, Purpose::Shuffle, a as u64, 0, 0);
        assert_eq!(stream.below((1 << 63) + 1), expected);
    }
}

#[test]
fn orders_and_splits_agree() {
    let fixture = fixture();
    for epoch in 0..3 {
        let expected: Vec<u32> = list(&fixture["permutation"][epoch.to_string()]);
        assert_eq!(permutation(7, epoch, 40).unwrap(), expected);
    }
    let shares = Shares {
        validation: Some(0.2),
        test: None,
    };
    let Parts {
        train, validation, ..
    } = split(7, shares, SplitBy::Random(40)).unwrap();
    assert_eq!(train, list::<u32>(&fixture["split"]["train"]));
    assert_eq!(validation, list::<u32>(&fixture["split"]["validation"]));
}

#[test]
fn masks_and_initial_values_agree() {
    let fixture = fixture();
    let kept: Vec<u32> = list(&fixture["kept"]);
    let mut mask = vec![0.0; kept.len()];
    Stream::new(7, Purpose::Dropout, 12, 3, 1).dropout_mask(&mut mask, 0.25);
    assert_eq!(
        mask.iter()
            .map(|&factor| u32::from(factor != 0.0))
            .collect::<Vec<_>>(),
        kept
    );

    // The second parameter in name order draws from stream 1.
    let uniform = |name: &str, n| Param {
        name: name.to_owned(),
        shape: vec![n],
        init: Init::Uniform { bound: 0.5 },
    };
    let layout = Layout::new(vec![uniform("b", 20), uniform("a", 3)]).unwrap();
    let mut values = vec![0.0; 20];
    layout.initialize(7, 16..36, &mut values).unwrap();
    assert_eq!(values, list::<f32>(&fixture["uniform"]));
}
