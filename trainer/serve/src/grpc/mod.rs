//! Requests over gRPC: the Open Inference Protocol, and `grpc.health.v1`.

mod convert;
mod metered;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use tokio::sync::Semaphore;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::server::HealthReporter;

use crate::protocol::{ErrorKind, ProtocolError};
use crate::registry::Registry;

/// The messages of `proto/inference.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod messages {
    tonic::include_proto!("inference");
}

use messages::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};

/// The name of the service, as `grpc.health.v1` has it.
pub const SERVICE: &str = "inference.GRPCInferenceService";

struct Service(Arc<Registry>);

/// The services of a server, and what says whether they are ready.
pub async fn router(registry: Arc<Registry>) -> (Router, HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let bodies = Arc::new(Semaphore::new(registry.limits.bodies_bytes >> 10));
    let most = registry.limits.body_bytes;
    let service = GrpcInferenceServiceServer::new(Service(registry))
        .max_decoding_message_size(most)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
        .send_compressed(CompressionEncoding::Gzip);
    let routes = Routes::new(service).add_service(health);
    let router = routes.into_axum_router();
    (router.layer(metered::layer(bodies)), reporter)
}

impl From<ProtocolError> for Status {
    fn from(error: ProtocolError) -> Self {
        let ProtocolError { kind, message } = error;
        match kind {
            ErrorKind::InvalidArgument => Status::invalid_argument(message),
            ErrorKind::NotFound => Status::not_found(message),
            ErrorKind::TooLarge => Status::resource_exhausted(message),
            ErrorKind::Unsupported => Status::unimplemented(message),
            ErrorKind::Unavailable => Status::unavailable(message),
            ErrorKind::Overloaded => {
                let mut status = Status::resource_exhausted(message);
                let wait = tonic::metadata::MetadataValue::from_static("1");
                status.metadata_mut().insert("retry-after", wait);
                status
            }
        }
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(
        &self,
        _: Request<messages::ServerLiveRequest>,
    ) -> Result<Response<messages::ServerLiveResponse>, Status> {
        Ok(Response::new(messages::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<messages::ServerReadyRequest>,
    ) -> Result<Response<messages::ServerReadyResponse>, Status> {
        let ready = self.0.is_ready();
        Ok(Response::new(messages::ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<messages::ModelReadyRequest>,
    ) -> Result<Response<messages::ModelReadyResponse>, Status> {
        let messages::ModelReadyRequest { name, version } = request.into_inner();
        self.0.find(&name, Some(&version))?;
        let ready = self.0.is_ready();
        Ok(Response::new(messages::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<messages::ServerMetadataRequest>,
    ) -> Result<Response<messages::ServerMetadataResponse>, Status> {
        Ok(Response::new(convert::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<messages::ModelMetadataRequest>,
    ) -> Result<Response<messages::ModelMetadataResponse>, Status> {
        let messages::ModelMetadataRequest { name, version } = request.into_inner();
        let model = &self.0.models[self.0.find(&name, Some(&version))?];
        let versions = match version.is_empty() {
            true => self.0.versions(&name),
            false => vec![version],
        };
        Ok(Response::new(convert::metadata(model.describe(versions))))
    }

    async fn model_infer(
        &self,
        request: Request<messages::ModelInferRequest>,
    ) -> Result<Response<messages::ModelInferResponse>, Status> {
        let (registry, request) = (&self.0, request.into_inner());
        let version = Some(&*request.model_version);
        let place = registry.find(&request.model_name, version)?;
        let answer = async {
            let begin = Instant::now();
            let read = convert::request(request, &registry.limits.protocol())
                .and_then(|request| registry.read(place, request))?;
            registry.stats[place].read(begin.elapsed());
            registry.infer(place, read).await
        };
        let response = registry.counted(place, answer).await?;
        Ok(Response::new(convert::response(response)))
    }

    async fn model_config(
        &self,
        request: Request<messages::ModelConfigRequest>,
    ) -> Result<Response<messages::ModelConfigResponse>, Status> {
        let messages::ModelConfigRequest { name, version } = request.into_inner();
        let model = &self.0.models[self.0.find(&name, Some(&version))?];
        let config = Some(convert::config(model, &self.0.limits));
        Ok(Response::new(messages::ModelConfigResponse { config }))
    }

    async fn model_statistics(
        &self,
        request: Request<messages::ModelStatisticsRequest>,
    ) -> Result<Response<messages::ModelStatisticsResponse>, Status> {
        let messages::ModelStatisticsRequest { name, version } = request.into_inner();
        let places = self.0.select(&name, &version)?;
        let model_stats = places.map(|place| convert::statistics(&self.0, place));
        Ok(Response::new(messages::ModelStatisticsResponse {
            model_stats: model_stats.collect(),
        }))
    }
}
