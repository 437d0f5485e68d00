//! What went wrong, where, and what to do about it.

use std::error::Error as StdError;
use std::io;

use object_store::client::HttpError;
use trainyard_checkpoint::StorageError;

use crate::address::Address;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is no such object.
    NotFound,
    /// The key is taken.
    AlreadyExists,
    /// There is no such bucket.
    NoBucket,
    /// There are no credentials, wrong ones, or ones that may not do this.
    Denied,
    /// The store cannot be reached, or is overloaded: another attempt may succeed.
    Unreachable,
    /// The store cannot do what is needed.
    Unsupported,
    /// Anything else.
    Other,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}; {remedy}")]
pub struct Error {
    /// What kind of thing went wrong.
    pub kind: Kind,
    /// The bucket or object.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Error {
    pub(crate) fn new(
        kind: Kind,
        place: &Address,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Error {
            kind,
            place: place.to_string(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// Names an error of the client that talks to `endpoint`.
    pub(crate) fn explain(error: &object_store::Error, place: &Address, endpoint: &str) -> Self {
        let said = innermost(error);
        let (code, status) = (code(&said), status(&said));
        let bucket = &place.bucket;
        let (kind, problem, remedy) = match error {
            _ if code == Some("NoSuchBucket") => (
                Kind::NoBucket,
                format!("there is no bucket {bucket} at {endpoint}"),
                "create it, or correct the bucket's name or the endpoint".to_owned(),
            ),
            _ if is_of_instance_metadata(error) => (
                Kind::Denied,
                "there are no credentials".into(),
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into(),
            ),
            _ if code.is_some_and(|code| BAD_CREDENTIALS.contains(&code)) => (
                Kind::Denied,
                format!("the credentials are refused ({})", code.unwrap_or_default()),
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into(),
            ),
            _ if code.is_some_and(|code| WRONG_REGION.contains(&code))
                || said.starts_with(BARE_REDIRECT) =>
            {
                (
                    Kind::Other,
                    format!("the bucket is in another region ({said})"),
                    "set its region".into(),
                )
            }
            object_store::Error::NotFound { .. } => (
                Kind::NotFound,
                format!("there is no such object at {endpoint}"),
                "check bucket and key".into(),
            ),
            object_store::Error::AlreadyExists { .. } => (
                Kind::AlreadyExists,
                "it exists already".into(),
                "choose another key".into(),
            ),
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => (
                Kind::Denied,
                format!(
                    "access is denied ({})",
                    code.unwrap_or("no reason is given")
                ),
                "give these credentials the right to read, write, list and delete there".into(),
            ),
            _ if code == Some("NotImplemented") || status == Some(501) => (
                Kind::Unsupported,
                format!("the store at {endpoint} does not support this operation"),
                "use a store that does".into(),
            ),
            _ if is_connection(error)
                || code.is_some_and(|code| OVERLOADED.contains(&code))
                || matches!(status, Some(408 | 429 | 500..)) =>
            {
                (
                    Kind::Unreachable,
                    format!("the store at {endpoint} cannot be reached or is overloaded: {said}"),
                    "check the endpoint, and that the store runs".into(),
                )
            }
            _ => (
                Kind::Other,
                said.clone(),
                format!("check the store at {endpoint}"),
            ),
        };
        Error::new(kind, place, problem, remedy)
    }

    /// Whether another attempt may succeed.
    pub fn may_pass(&self) -> bool {
        self.kind == Kind::Unreachable
    }
}

/// Whether a conditional write met another one on its way, so that it is not known which was first.
pub(crate) fn is_conflict(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::AlreadyExists { .. })
        && code(&innermost(error)) == Some("ConditionalRequestConflict")
}

const BAD_CREDENTIALS: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
];
const WRONG_REGION: [&str; 2] = [
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
];
/// Also in answers with the status 200: a store that completes a multipart upload begins its answer early.
const OVERLOADED: [&str; 3] = ["InternalError", "ServiceUnavailable", "SlowDown"];

// The client's errors of requests, `RetryError` and `RequestError`, are private to object_store, so what they know is
// read from their texts (https://github.com/apache/arrow-rs-object-store/issues/737). The tests below see to it that a new
// release keeps them.

/// Stands before the status of an answer.
const STATUS: &str = "Server returned non-2xx status code: ";
/// Stores redirect so to the region of a bucket; the client does not keep the code in the answer.
const BARE_REDIRECT: &str = "Received redirect without LOCATION";
/// In the URLs of the instance metadata service of EC2, which the client asks for credentials where none are set.
const INSTANCE_METADATA: [&str; 2] = [
    "/latest/api/token",
    "/latest/meta-data/iam/security-credentials",
];

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn is_connection(error: &object_store::Error) -> bool {
    chain(error).any(|cause| cause.is::<HttpError>() || cause.is::<io::Error>())
}

/// The end of the chain of causes, which is a server's answer if there was one.
fn innermost(error: &object_store::Error) -> String {
    let cause = chain(error).last();
    cause.map(ToString::to_string).unwrap_or_default()
}

fn is_of_instance_metadata(error: &object_store::Error) -> bool {
    chain(error).any(|cause| {
        let text = cause.to_string();
        INSTANCE_METADATA.iter().any(|url| text.contains(url))
    })
}

/// The status of a server's answer.
fn status(said: &str) -> Option<u16> {
    said.strip_prefix(STATUS)?.get(..3)?.parse().ok()
}

/// `CODE` of the XML in a server's answer.
fn code(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0)
}

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let again = error.may_pass();
        let Error {
            kind,
            place: path,
            problem,
            remedy,
        } = error;
        match kind {
            Kind::NotFound => StorageError::NotFound { path },
            Kind::AlreadyExists => StorageError::AlreadyExists { path },
            _ => StorageError::Store {
                path,
                problem,
                remedy,
                again,
            },
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            Kind::Unreachable | Kind::Other => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidInput, // for the user to correct
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests;
