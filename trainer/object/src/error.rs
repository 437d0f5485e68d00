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
        let code = code(&said);
        let status = |code: &str| said.contains(&format!("status code: {code}"));
        let bucket = &place.bucket;
        let (kind, problem, remedy) = match error {
            _ if code == Some("NoSuchBucket") => (
                Kind::NoBucket,
                format!("there is no bucket {bucket} at {endpoint}"),
                "create it, or correct the bucket's name or the endpoint".to_owned(),
            ),
            _ if said.contains("169.254.") => (
                Kind::Denied,
                "there are no credentials".into(),
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into(),
            ),
            _ if code.is_some_and(|code| BAD_CREDENTIALS.contains(&code)) => (
                Kind::Denied,
                format!("the credentials are refused ({})", code.unwrap_or_default()),
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into(),
            ),
            _ if code.is_some_and(|code| WRONG_REGION.contains(&code)) => (
                Kind::Other,
                format!("the bucket is in another region ({said})"),
                "set its region".into(),
            ),
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
            _ if code == Some("NotImplemented") || status("501") => (
                Kind::Unsupported,
                format!("the store at {endpoint} does not support this operation"),
                "use a store that does".into(),
            ),
            _ if is_connection(error) || status("5") || status("429") || status("408") => (
                Kind::Unreachable,
                format!("the store at {endpoint} cannot be reached or is overloaded: {said}"),
                "check the endpoint, and that the store runs".into(),
            ),
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

const BAD_CREDENTIALS: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
];
const WRONG_REGION: [&str; 3] = [
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "IllegalLocationConstraintException",
];

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn is_connection(error: &object_store::Error) -> bool {
    chain(error).any(|cause| cause.is::<HttpError>() || cause.is::<io::Error>())
}

/// The end of the chain of causes, in which a server's answer stands.
fn innermost(error: &object_store::Error) -> String {
    let texts: Vec<String> = chain(error).map(|cause| cause.to_string()).collect();
    let answer = texts.iter().rev().find(|text| text.contains("status code"));
    let text = answer.or(texts.last()).cloned().unwrap_or_default();
    // The client tells first what it did, which is known.
    match text.rsplit_once("  - ") {
        Some((_, text)) => text.to_owned(),
        None => text,
    }
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
            _ => io::ErrorKind::InvalidInput, // the user's to mend
        };
        io::Error::new(kind, error)
    }
}
