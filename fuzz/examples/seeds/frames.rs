//! Frames, and the beginnings of connections.

use trainyard_core::control::ToCoordinator;
use trainyard_core::round::Tally;
use trainyard_core::tree::Node;
use trainyard_core::wire::{Body, Header, as_bytes, encode_control};
use trainyard_runtime::net::{Channel, Hello, write_frame};

use super::{Out, Result};

fn header(body: Body) -> Header {
    Header {
        job: 1,
        generation: 1,
        incarnation: 1,
        payload: 0,
        body,
    }
}

fn frame(body: Body, payload: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &header(body).before(payload), payload)?;
    Ok(bytes)
}

fn push(step: u64, node: u32, rows: u64) -> Result<Vec<u8>> {
    let values = [0.5_f32; 32];
    let payload = as_bytes(&values);
    let node = Node::new(node).ok_or("no node")?;
    let tally = Tally { rows, loss: 0.5 };
    frame(
        Body::push(step, node, 0, payload.len() as u32, tally)?,
        payload,
    )
}

fn param(version: u64, chunk: u32) -> Result<Vec<u8>> {
    let values = [1.5_f32; 16];
    let payload = as_bytes(&values);
    let len = payload.len() as u32;
    frame(
        Body::Param {
            version,
            chunk,
            len,
        },
        payload,
    )
}

fn control(message: &ToCoordinator) -> Result<Vec<u8>> {
    Ok(encode_control(header(Body::Control { len: 0 }), message)?)
}

/// What opens a connection: who speaks, and a random number.
fn hello(hello: &Hello) -> Result<Vec<u8>> {
    let mut opening = serde_json::to_value(hello)?;
    opening["random"] = "05".repeat(16).into();
    Ok(encode_control(header(Body::Hello { len: 0 }), &opening)?)
}

fn challenge() -> Result<Vec<u8>> {
    let challenge = serde_json::json!({"random": "06".repeat(16), "code": "ab".repeat(32)});
    Ok(encode_control(
        header(Body::Challenge { len: 0 }),
        &challenge,
    )?)
}

fn proof() -> Result<Vec<u8>> {
    let proof = serde_json::json!({"code": "cd".repeat(32)});
    Ok(encode_control(header(Body::Proof { len: 0 }), &proof)?)
}

pub fn seeds(out: &Out) -> Result<()> {
    let bye = frame(Body::Bye, &[])?;
    let step = [push(0, 2, 1)?, push(0, 3, 1)?].concat();
    let job = [step.clone(), push(0, 2, 1)?, push(1, 1, 2)?, bye.clone()].concat();
    let messages = [
        control(&ToCoordinator::Heartbeat)?,
        control(&ToCoordinator::Applied { version: 1 })?,
        control(&ToCoordinator::Failed {
            message: "it is full".into(),
        })?,
    ];
    out.put("frames", "push", push(0, 2, 1)?)?;
    out.put("frames", "push-past-the-gate", push(2, 1, 2)?)?;
    out.put("frames", "step", step)?;
    out.put("frames", "steps-and-bye", job)?;
    out.put("frames", "param", param(0, 0)?)?;
    out.put("frames", "params", [param(0, 0)?, param(1, 0)?].concat())?;
    out.put("frames", "control", messages.concat())?;
    out.put("frames", "bye", bye)?;
    handshakes(out)
}

fn handshakes(out: &Out) -> Result<()> {
    use trainyard_core::control::Role;
    use trainyard_core::shard::Held;
    let held = Held::of([Some(4), Some(4), None, Some(5)]);
    let channels = [
        ("control", Channel::Control),
        ("push", Channel::Push),
        (
            "pull",
            Channel::Pull {
                index: 0,
                of: 2,
                held,
            },
        ),
    ];
    let roles = [
        ("worker", Role::Worker(3)),
        ("server", Role::Server(1)),
        ("observer", Role::Observer),
    ];
    for ((name, channel), (who, role)) in channels.into_iter().zip(roles) {
        let opening = hello(&Hello { channel, role })?;
        out.put("frames", &format!("hello-{who}"), &opening)?;
        let name = format!("{who}-for-{name}");
        out.put("handshake", &name, [opening, proof()?].concat())?;
    }
    out.put("frames", "challenge", challenge()?)?;
    out.put("frames", "proof", proof()?)?;
    out.put("handshake", "challenge", challenge()?)?;
    out.put("handshake", "proof-where-a-hello-is-due", proof()?)
}
