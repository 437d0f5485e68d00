//! From a request to its answer, whatever carried it.

use std::time::Instant;

use crate::protocol::{InferRequest, InferResponse, ProtocolError};
use crate::registry::Registry;

/// A request whose tensors became inputs.
pub struct Read {
    request: InferRequest,
    encoded: crate::model::Encoded,
}

impl Registry {
    /// Counts a request to the model at `place` by how it ends, and how long that takes.
    ///
    /// # Errors
    /// Those of the request.
    pub async fn counted<T>(
        &self,
        place: usize,
        answer: impl Future<Output = Result<T, ProtocolError>>,
    ) -> Result<T, ProtocolError> {
        let begin = Instant::now();
        let answered = answer.await;
        self.stats[place].finished(answered.is_ok(), begin.elapsed());
        answered
    }

    /// Encodes the tensors of a request for the model at `place`. They are not held any longer.
    ///
    /// # Errors
    /// If an input is missing, unknown, or of a wrong type or shape: with its name.
    pub fn read(&self, place: usize, mut request: InferRequest) -> Result<Read, ProtocolError> {
        let encoded = self.models[place].encode(&request.inputs, self.limits.rows)?;
        request.inputs.clear();
        Ok(Read { request, encoded })
    }

    /// Computes the answer.
    ///
    /// # Errors
    /// If there is too much to do, an output is no finite number, or the request asks for an output that the model does not have.
    pub async fn infer(&self, place: usize, read: Read) -> Result<InferResponse, ProtocolError> {
        let (model, Read { request, encoded }) = (&self.models[place], read);
        let timeout = request.timeout;
        let outputs = self.batcher.run(place, encoded, timeout).await?;
        let begin = Instant::now();
        let predictions = model.predictions(&outputs)?;
        let response = InferResponse {
            model_name: model.name.clone(),
            model_version: model.version.clone(),
            outputs: model.answer(&request, &predictions)?,
            id: request.id,
        };
        self.stats[place].written(begin.elapsed());
        Ok(response)
    }
}
