//! They pin what [`Error::explain`] takes from the texts of object_store.

use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, RetryConfig};
use tempfile::TempDir;
use trainyard_s3_server::{Server, StatusCode};

use super::*;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// A server, and the folder that it serves.
fn server() -> (Server, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path()).expect("a server");
    (server, folder)
}

/// A client that asks once and has no credentials of its own.
fn client(endpoint: &str) -> AmazonS3Builder {
    crate::connection::choose_tls();
    let once = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    AmazonS3Builder::new()
        .with_bucket_name("runs")
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_retry(once)
}

/// What a client makes of a copy that fails. A copy is like the end of an upload in parts: the answer may be an error though
/// its status is 200.
fn failed_copy(client: AmazonS3Builder) -> object_store::Error {
    let store = client.build().expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let copied = runtime.block_on(store.copy(&"from".into(), &"to".into()));
    copied.expect_err("an error")
}

/// What a client makes of an answer.
fn answered(server: &Server, status: u16, code: &str) -> object_store::Error {
    // This text must not decide anything.
    let message = "<Message>status code: 503</Message>";
    let body = format!("<Error><Code>{code}</Code>{message}</Error>");
    let status = StatusCode::from_u16(status).expect("a status");
    server.answer("", status, &body);
    let client = client(&server.endpoint())
        .with_access_key_id("key")
        .with_secret_access_key("secret");
    failed_copy(client)
}

fn explain(error: &object_store::Error) -> Error {
    let place = "s3://runs/to".parse().expect("an address");
    Error::explain(error, &place, "the-store")
}

#[test]
fn t09_an_answer_is_told_by_its_status_and_code() {
    let (server, _folder) = server();
    for (status, code, kind, problem) in [
        (404, "NoSuchBucket", Kind::NoBucket, "no bucket runs"),
        (404, "NoSuchKey", Kind::NotFound, "no such object"),
        (409, "", Kind::AlreadyExists, "exists already"),
        (403, "SignatureDoesNotMatch", Kind::Denied, "refused"),
        (400, "ExpiredToken", Kind::Denied, "refused"),
        (403, "AccessDenied", Kind::Denied, "(AccessDenied)"),
        (401, "", Kind::Denied, "access is denied"),
        (400, "AuthorizationHeaderMalformed", Kind::Other, "region"),
        (301, "PermanentRedirect", Kind::Other, "another region"),
        (501, "", Kind::Unsupported, "does not support"),
        (400, "NotImplemented", Kind::Unsupported, "does not support"),
        (500, "", Kind::Unreachable, "overloaded"),
        (503, "SlowDown", Kind::Unreachable, "overloaded"),
        (429, "", Kind::Unreachable, "overloaded"),
        (408, "RequestTimeout", Kind::Unreachable, "overloaded"),
        (200, "InternalError", Kind::Unreachable, "overloaded"),
        (200, "SlowDown", Kind::Unreachable, "overloaded"),
        (400, "InvalidRequest", Kind::Other, "InvalidRequest"),
    ] {
        let said = explain(&answered(&server, status, code));
        assert_eq!(said.kind, kind, "{status} {code}: {said}");
        assert!(said.problem.contains(problem), "{status} {code}: {said}");
    }
}

#[test]
fn a_conflict_of_writes_is_told_from_an_object_that_exists() {
    let (server, _folder) = server();
    for (code, conflict) in [("ConditionalRequestConflict", true), ("Other", false)] {
        let error = answered(&server, 409, code);
        assert_eq!(is_conflict(&error), conflict, "{code}");
    }
}

/// Without credentials the client asks the platform for some, which may have nobody who answers, no such page, or no role
/// for this machine.
#[test]
fn t09_a_platform_that_gives_no_credentials_is_no_store_that_is_away() {
    let (no_page, _folder) = server();
    no_page.answer("", StatusCode::NOT_FOUND, "");
    let (no_role, _folder) = server();
    no_role.answer("", StatusCode::NOT_FOUND, "");
    no_role.answer("latest/api/token", StatusCode::OK, "token");
    for platform in [NOWHERE, &no_page.endpoint(), &no_role.endpoint()] {
        let client = client(NOWHERE).with_metadata_endpoint(platform);
        let said = explain(&failed_copy(client));
        assert_eq!(said.kind, Kind::Denied, "{platform}: {said}");
        assert_eq!(said.problem, "there are no credentials");
        assert!(said.remedy.contains("AWS_ACCESS_KEY_ID"), "{said}");
    }
}
