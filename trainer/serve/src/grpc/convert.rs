//! Messages of gRPC, and what they are elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::messages::infer_parameter::ParameterChoice;
use super::messages::model_config::SchedulingChoice;
use super::messages::{
    self, DataType, InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    StatisticDuration, model_infer_request, model_infer_response, model_metadata_response,
};
use crate::http::EXTENSIONS;
use crate::model::ServedModel;
use crate::options;
use crate::protocol::{
    ByteStrings, Data, Datatype, InferRequest, InferResponse, Limits, ModelMetadata, ProtocolError,
    RequestedOutput, Tensor, TensorMetadata, quoted,
};
use crate::registry::Registry;
use crate::stats::Spent;

type Parameters = HashMap<String, InferParameter>;

/// What a client asks.
pub(super) fn request(
    message: ModelInferRequest,
    limits: &Limits,
) -> Result<InferRequest, ProtocolError> {
    check(&message.parameters)?;
    let (inputs, raw) = (message.inputs, message.raw_input_contents);
    if inputs.is_empty() {
        return Err(ProtocolError::invalid(
            "the request has no inputs; give those of the model",
        ));
    }
    if inputs.len() > limits.inputs || message.outputs.len() > limits.outputs {
        return Err(ProtocolError::invalid(format!(
            "the request has more than {} inputs or {} outputs",
            limits.inputs, limits.outputs
        )));
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(ProtocolError::invalid(format!(
            "raw_input_contents has {} entries for {} inputs; send one for each, or none and `contents`",
            raw.len(),
            inputs.len()
        )));
    }
    let mut raw = raw.into_iter();
    let tensor = |input: model_infer_request::InferInputTensor| {
        let name = quoted(&input.name);
        tensor(input, raw.next()).map_err(|error| error.at(format_args!("input {name}")))
    };
    let request = InferRequest {
        id: Some(message.id).filter(|id| !id.is_empty()),
        inputs: inputs.into_iter().map(tensor).collect::<Result<_, _>>()?,
        outputs: message
            .outputs
            .into_iter()
            .map(output)
            .collect::<Result<_, _>>()?,
        binary_output: true,
        timeout: number(&message.parameters, "timeout")?
            .filter(|timeout| *timeout > 0)
            .map(Duration::from_micros),
        priority: number(&message.parameters, "priority")?.unwrap_or(0),
    };
    request.check_names()?;
    Ok(request)
}

fn tensor(
    input: model_infer_request::InferInputTensor,
    raw: Option<Bytes>,
) -> Result<Tensor, ProtocolError> {
    check(&input.parameters)?;
    let datatype = Datatype::from_name(&input.datatype)?;
    let dimension = |dimension: &i64| {
        u64::try_from(*dimension).map_err(|_| {
            ProtocolError::invalid(format!(
                "shape has the dimension {dimension}; give whole numbers from 0, the number of rows too"
            ))
        })
    };
    let shape: Vec<u64> = input
        .shape
        .iter()
        .map(dimension)
        .collect::<Result<_, _>>()?;
    match (raw, input.contents) {
        (Some(_), Some(_)) => Err(ProtocolError::invalid(
            "it has `contents` and an entry in raw_input_contents; send one of them",
        )),
        (None, None) => Err(ProtocolError::invalid(
            "it has neither `contents` nor an entry in raw_input_contents; send one of them",
        )),
        (Some(bytes), None) => Tensor::from_binary(input.name, datatype, shape, bytes),
        (None, Some(contents)) => {
            let data = data(datatype, contents)?;
            let count = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
            if count != Some(data.len() as u64) {
                return Err(ProtocolError::invalid(format!(
                    "contents have {} elements, shape {shape:?} has another number; send one element for each",
                    data.len()
                )));
            }
            Ok(Tensor {
                name: input.name,
                datatype,
                shape,
                data,
            })
        }
    }
}

/// The elements of a message, which has a field for several types each.
fn data(datatype: Datatype, contents: InferTensorContents) -> Result<Data, ProtocolError> {
    fn narrow<S: Copy + ToString, T: TryFrom<S>>(
        values: &[S],
        datatype: Datatype,
    ) -> Result<Vec<T>, ProtocolError> {
        let one = |value: &S| {
            T::try_from(*value).map_err(|_| {
                ProtocolError::invalid(format!(
                    "{} is out of the range of {}",
                    value.to_string(),
                    datatype.name()
                ))
            })
        };
        values.iter().map(one).collect()
    }
    Ok(match datatype {
        Datatype::Bool => Data::Bool(contents.bool_contents),
        Datatype::Uint8 => Data::Uint8(narrow::<_, u8>(&contents.uint_contents, datatype)?.into()),
        Datatype::Uint16 => Data::Uint16(narrow(&contents.uint_contents, datatype)?),
        Datatype::Uint32 => Data::Uint32(contents.uint_contents),
        Datatype::Uint64 => Data::Uint64(contents.uint64_contents),
        Datatype::Int8 => Data::Int8(narrow(&contents.int_contents, datatype)?),
        Datatype::Int16 => Data::Int16(narrow(&contents.int_contents, datatype)?),
        Datatype::Int32 => Data::Int32(contents.int_contents),
        Datatype::Int64 => Data::Int64(contents.int64_contents),
        Datatype::Fp32 => Data::Fp32(contents.fp32_contents),
        Datatype::Fp64 => Data::Fp64(contents.fp64_contents),
        Datatype::Bytes => Data::Bytes(ByteStrings::from_iter(contents.bytes_contents)),
        Datatype::Fp16 | Datatype::Bf16 => {
            return Err(ProtocolError::invalid(format!(
                "{} has no form in `contents`; send it in raw_input_contents, or as FP32",
                datatype.name()
            )));
        }
    })
}

fn output(
    output: model_infer_request::InferRequestedOutputTensor,
) -> Result<RequestedOutput, ProtocolError> {
    let about = |error: ProtocolError| error.at(format_args!("output {}", quoted(&output.name)));
    check(&output.parameters).map_err(about)?;
    let classes = number(&output.parameters, "classification").map_err(about)?;
    Ok(RequestedOutput {
        class_count: classes.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        name: output.name,
        binary: None,
    })
}

/// Refuses what is not served.
fn check(parameters: &Parameters) -> Result<(), ProtocolError> {
    const REFUSED: [(&str, &str); 4] = [
        (
            "shared_memory_region",
            "there is no shared memory; send the tensor in the request",
        ),
        (
            "sequence_id",
            "the model keeps no state between requests; leave it out",
        ),
        (
            "sequence_start",
            "the model keeps no state between requests; leave it out",
        ),
        (
            "sequence_end",
            "the model keeps no state between requests; leave it out",
        ),
    ];
    for (name, why) in REFUSED {
        let choice = parameters
            .get(name)
            .and_then(|p| p.parameter_choice.as_ref());
        let is_nothing = match choice {
            None => true,
            Some(ParameterChoice::BoolParam(value)) => !value,
            Some(ParameterChoice::Int64Param(value)) => *value == 0,
            Some(ParameterChoice::Uint64Param(value)) => *value == 0,
            Some(ParameterChoice::StringParam(value)) => value.is_empty(),
            Some(ParameterChoice::DoubleParam(value)) => *value == 0.0,
        };
        if !is_nothing {
            return Err(ProtocolError::unsupported(format!(
                "parameter {name} is not supported: {why}"
            )));
        }
    }
    Ok(())
}

fn number(parameters: &Parameters, name: &str) -> Result<Option<u64>, ProtocolError> {
    let choice = parameters
        .get(name)
        .and_then(|p| p.parameter_choice.as_ref());
    let number = match choice {
        None => return Ok(None),
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(*value).ok(),
        Some(ParameterChoice::Uint64Param(value)) => Some(*value),
        Some(_) => None,
    };
    number.map(Some).ok_or_else(|| {
        ProtocolError::invalid(format!(
            "parameter {name} is no whole number from 0; give one as int64_param"
        ))
    })
}

/// The answer, with its outputs in binary: not all clients read any other form.
pub(super) fn response(response: InferResponse) -> ModelInferResponse {
    let (mut outputs, mut raw) = (Vec::new(), Vec::new());
    for output in response.outputs {
        let mut bytes = Vec::with_capacity(output.data.binary_len());
        output.data.put_binary(&mut bytes);
        raw.push(bytes.into());
        outputs.push(model_infer_response::InferOutputTensor {
            name: output.name,
            datatype: output.data.datatype().name().into(),
            shape: output.shape.iter().map(|d| *d as i64).collect(),
        });
    }
    ModelInferResponse {
        model_name: response.model_name,
        model_version: response.model_version,
        id: response.id.unwrap_or_default(),
        outputs,
        raw_output_contents: raw,
    }
}

pub(super) fn server() -> messages::ServerMetadataResponse {
    messages::ServerMetadataResponse {
        name: "trainyard".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        extensions: EXTENSIONS.map(String::from).into(),
    }
}

pub(super) fn metadata(model: ModelMetadata) -> messages::ModelMetadataResponse {
    let tensor = |tensor: TensorMetadata| model_metadata_response::TensorMetadata {
        name: tensor.name,
        datatype: tensor.datatype.name().into(),
        shape: tensor.shape,
    };
    messages::ModelMetadataResponse {
        name: model.name,
        versions: model.versions,
        platform: model.platform,
        inputs: model.inputs.into_iter().map(tensor).collect(),
        outputs: model.outputs.into_iter().map(tensor).collect(),
    }
}

fn data_type(datatype: Datatype) -> i32 {
    let found = match datatype {
        Datatype::Bool => DataType::TypeBool,
        Datatype::Uint8 => DataType::TypeUint8,
        Datatype::Uint16 => DataType::TypeUint16,
        Datatype::Uint32 => DataType::TypeUint32,
        Datatype::Uint64 => DataType::TypeUint64,
        Datatype::Int8 => DataType::TypeInt8,
        Datatype::Int16 => DataType::TypeInt16,
        Datatype::Int32 => DataType::TypeInt32,
        Datatype::Int64 => DataType::TypeInt64,
        Datatype::Fp16 => DataType::TypeFp16,
        Datatype::Bf16 => DataType::TypeBf16,
        Datatype::Fp32 => DataType::TypeFp32,
        Datatype::Fp64 => DataType::TypeFp64,
        Datatype::Bytes => DataType::TypeString,
    };
    found.into()
}

pub(super) fn config(model: &ServedModel, limits: &options::Limits) -> messages::ModelConfig {
    let description = model.describe(Vec::new());
    // The first dimension is that of the batch.
    let dims = |tensor: &TensorMetadata| match &tensor.shape[1..] {
        [] => vec![1],
        row => row.to_vec(),
    };
    let batching = messages::ModelDynamicBatching {
        preferred_batch_size: vec![limits.batch_rows as i32],
        max_queue_delay_microseconds: limits.batch_delay.as_micros() as u64,
    };
    messages::ModelConfig {
        name: description.name,
        platform: description.platform.clone(),
        backend: description.platform,
        max_batch_size: i32::try_from(limits.rows).unwrap_or(i32::MAX),
        input: description
            .inputs
            .iter()
            .map(|tensor| messages::ModelInput {
                name: tensor.name.clone(),
                data_type: data_type(tensor.datatype),
                dims: dims(tensor),
            })
            .collect(),
        output: description
            .outputs
            .iter()
            .map(|tensor| messages::ModelOutput {
                name: tensor.name.clone(),
                data_type: data_type(tensor.datatype),
                dims: dims(tensor),
            })
            .collect(),
        scheduling_choice: Some(SchedulingChoice::DynamicBatching(batching)),
    }
}

pub(super) fn statistics(registry: &Registry, place: usize) -> messages::ModelStatistics {
    let (model, stats) = (&registry.models[place], &registry.stats[place]);
    let spent = |spent: &Spent| {
        let (count, ns) = spent.get();
        Some(StatisticDuration { count, ns })
    };
    let batches = stats.batches();
    let nothing = || Some(StatisticDuration::default());
    let batch = |(size, (count, ns)): (&usize, &(u64, u64))| messages::InferBatchStatistics {
        batch_size: *size as u64,
        compute_input: nothing(),
        compute_infer: Some(StatisticDuration {
            count: *count,
            ns: *ns,
        }),
        compute_output: nothing(),
    };
    messages::ModelStatistics {
        name: model.name.clone(),
        version: model.version.clone(),
        last_inference: stats.last(),
        inference_count: stats.rows(),
        execution_count: batches.values().map(|(count, _)| count).sum(),
        inference_stats: Some(messages::InferStatistics {
            success: spent(&stats.success),
            fail: spent(&stats.fail),
            queue: spent(&stats.queue),
            compute_input: spent(&stats.input),
            compute_infer: spent(&stats.infer),
            compute_output: spent(&stats.output),
        }),
        batch_stats: batches.iter().map(batch).collect(),
    }
}
