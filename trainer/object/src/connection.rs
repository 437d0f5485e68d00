//! How a store is reached: the environment, and what a manifest says instead.

use std::sync::Once;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};

/// Where a store is. What is none comes from the environment: `AWS_ENDPOINT_URL`, `AWS_REGION`.
/// Credentials too: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or the identity that the platform
/// gives a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// URL of the store; AWS if the environment has none either.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Access key and secret key, instead of the environment's.
    pub credentials: Option<(String, String)>,
}

impl Connection {
    /// The environment that tells another process the same, credentials apart.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let endpoint = self.endpoint.clone().map(|url| ("AWS_ENDPOINT_URL", url));
        let region = self.region.clone().map(|region| ("AWS_REGION", region));
        endpoint.into_iter().chain(region).collect()
    }
}

/// Whether the environment has credentials, or says where they come from.
pub fn has_credentials() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let identities = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_SKIP_SIGNATURE",
    ];
    (set("AWS_ACCESS_KEY_ID") && set("AWS_SECRET_ACCESS_KEY")) || identities.into_iter().any(set)
}

/// How long an operation is tried before it fails.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Seconds: somebody waits for the answer.
    Short,
    /// Minutes: a store that is away for a while should not cost a job.
    Long,
}

impl Patience {
    fn retry(self) -> RetryConfig {
        let (max_retries, seconds, max_backoff) = match self {
            Patience::Short => (3, 10, 1),
            Patience::Long => (100, 180, 10),
        };
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(max_backoff),
                base: 2.0,
            },
            max_retries,
            retry_timeout: Duration::from_secs(seconds),
        }
    }
}

/// Has TLS done by ring. Clients cannot be built before.
pub(crate) fn choose_tls() {
    static PROVIDER: Once = Once::new();
    // An error says that the program has chosen one already.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// A client of a bucket, and the URL that it talks to.
pub(crate) fn client(
    bucket: &str,
    connection: &Connection,
    patience: Patience,
) -> Result<(AmazonS3, String), object_store::Error> {
    choose_tls();
    let client = AmazonS3ConfigKey::Client;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(patience.retry())
        .with_disable_bulk_delete(true)
        // A large object takes as long as it takes, as long as something comes.
        .with_config(client(ClientConfigKey::Timeout), "1 day")
        .with_config(client(ClientConfigKey::ReadTimeout), "60 seconds")
        .with_config(client(ClientConfigKey::ConnectTimeout), "5 seconds");
    if let Some(endpoint) = &connection.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &connection.region {
        builder = builder.with_region(region);
    }
    if let Some((access, secret)) = &connection.credentials {
        builder = builder
            .with_access_key_id(access)
            .with_secret_access_key(secret);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let plain = endpoint
        .as_ref()
        .is_some_and(|url| url.starts_with("http://"));
    let store = builder.with_allow_http(plain).build()?;
    Ok((store, endpoint.unwrap_or_else(|| "AWS".into())))
}
