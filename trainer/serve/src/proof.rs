//! The proof that a model gives the answers that the trainer computed: before any port is open, through the server's own router.

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use trainyard_infer::golden::{self, Verdict};
use trainyard_runtime::artifact::{Answer, Expected, Golden, GoldenInputs, GoldenRow, GoldenRows};

use crate::model::{ARRAY, ServedModel};

/// Proves a model: the network on the normalized rows, and everything on the rows in the original columns.
///
/// # Errors
/// With the row that has another answer.
pub async fn prove(
    model: &ServedModel,
    router: &Router,
    normalized: &Golden,
    rows: &GoldenRows,
) -> Result<Verdict> {
    golden::check_network(&model.model, normalized).context("the normalized golden rows")?;
    let verdict = golden::check(&model.model, rows)?;
    let path = format!("/v2/models/{}/versions/{}/infer", model.name, model.version);
    let inputs = rows.inputs()?;
    let good: Vec<usize> = (0..rows.rows.len())
        .filter(|place| matches!(rows.rows[*place].expected, Expected::Predicted { .. }))
        .collect();
    ensure!(!good.is_empty(), "no golden row has a prediction");
    // Together, by threes, and each alone.
    for size in [good.len(), 3, 1] {
        for places in good.chunks(size) {
            let request = request(&inputs.rows(places));
            let (status, answer) = ask(router, &path, request).await?;
            ensure!(
                status == StatusCode::OK,
                "golden rows {places:?} (from 0) are answered with {status}: {answer}"
            );
            for (at, place) in places.iter().enumerate() {
                check(model, &answer, at, &rows.rows[*place], verdict)
                    .with_context(|| format!("golden row {place} (from 0), of {size} at once"))?;
            }
        }
    }
    for (place, row) in rows.rows.iter().enumerate() {
        let refused = match &row.expected {
            Expected::Predicted { .. } => continue,
            Expected::Refused { refused } => Some(refused),
            Expected::LeftOut { .. } => None,
        };
        let (status, answer) = ask(router, &path, request(&inputs.rows(&[place]))).await?;
        let message = answer["error"].as_str().unwrap_or_default();
        let is_named = refused.is_none_or(|column| message.contains(&format!("{column:?}")));
        ensure!(
            status == StatusCode::BAD_REQUEST && is_named,
            "golden row {place} (from 0) should be refused{}, and is answered with {status}: {answer}",
            refused.map_or(String::new(), |column| format!(" for column {column:?}"))
        );
    }
    Ok(verdict)
}

/// Rows as a request.
fn request(inputs: &GoldenInputs) -> Value {
    let tensors = match inputs {
        GoldenInputs::Cells(cells) => {
            let columns = cells.columns.iter().enumerate();
            let tensor = |(column, name): (usize, &String)| {
                let texts: Vec<&str> = cells.rows.iter().map(|row| &*row[column]).collect();
                json!({"name": name, "datatype": "BYTES", "shape": [texts.len()], "data": texts})
            };
            columns.map(tensor).collect()
        }
        GoldenInputs::Array(raw) => {
            let (datatype, data) = match raw.dtype.as_str() {
                "u1" => ("UINT8", json!(raw.bytes)),
                _ => {
                    let (numbers, _) = raw.bytes.as_chunks::<4>();
                    let numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    ("FP32", json!(numbers.collect::<Vec<_>>()))
                }
            };
            vec![json!({"name": ARRAY, "datatype": datatype, "shape": raw.shape, "data": data})]
        }
    };
    json!({"inputs": tensors})
}

async fn ask(router: &Router, path: &str, request: Value) -> Result<(StatusCode, Value)> {
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(request.to_string()))?;
    let response = router.clone().oneshot(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}

/// Compares the answer to a row with what must come of it.
fn check(
    model: &ServedModel,
    answer: &Value,
    at: usize,
    row: &GoldenRow,
    verdict: Verdict,
) -> Result<()> {
    let Expected::Predicted {
        outputs,
        prediction,
    } = &row.expected
    else {
        return Ok(());
    };
    let output = |name: &str| {
        let outputs = answer["outputs"].as_array();
        let found = outputs.and_then(|all| all.iter().find(|output| output["name"] == name));
        found.and_then(|output| output["data"].as_array())
    };
    let found = output("prediction").and_then(|data| data.get(at));
    let found = found.with_context(|| format!("there is no prediction: {answer}"))?;
    let is_exact = verdict == Verdict::Exact;
    let is_right = match (prediction, found) {
        (Answer::Class(expected), Value::String(found)) => expected == found || !is_exact,
        (Answer::Value(expected), Value::Number(found)) => found.as_f64().is_some_and(|found| {
            found == *expected || !is_exact && (found - expected).abs() <= 1e-4 * expected.abs()
        }),
        _ => false,
    };
    if !is_right {
        bail!("the prediction is {found}, expected {prediction:?}");
    }
    if model.classes().is_empty() || !is_exact {
        return Ok(());
    }
    let expected = match model.model.predict(outputs) {
        trainyard_core::prediction::Prediction::Class { probabilities, .. } => probabilities,
        trainyard_core::prediction::Prediction::Value(_) => Vec::new(),
    };
    let found = output("probabilities").with_context(|| "there are no probabilities")?;
    let width = expected.len();
    let found = found.get(at * width..(at + 1) * width).unwrap_or_default();
    let is_right = found.len() == width
        && found.iter().zip(&expected).all(|(found, expected)| {
            serde_json::from_value::<f32>(found.clone()).ok() == Some(*expected)
        });
    ensure!(
        is_right,
        "the probabilities are {found:?}, expected {expected:?}"
    );
    Ok(())
}
