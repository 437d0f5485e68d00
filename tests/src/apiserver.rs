//! A real API server with its etcd and nothing else: pods stay pending, which is all that some tests and benches want.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{AuthInfo, Cluster, Context as ConfigContext, KubeConfigOptions, Kubeconfig};
use kube::config::{NamedAuthInfo, NamedCluster, NamedContext};
use kube::{Client, Config, ResourceExt};
use tempfile::TempDir;

use crate::process::Process;

/// How long the server may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// Its only user, who may do everything.
const TOKEN: &str = "trainyard-test";

/// A running API server. Dropping it ends it and deletes its data.
pub struct ApiServer {
    _apiserver: Process,
    _etcd: Process,
    folder: TempDir,
    config: Kubeconfig,
}

impl ApiServer {
    /// Starts a server on loopback, with free ports, and waits until it is ready.
    ///
    /// # Errors
    /// If etcd or kube-apiserver is not on PATH, or does not get ready in time.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let [client_port, peer_port, port] = free_ports()?;
        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(path.join("etcd"));
        etcd.args([
            "--listen-client-urls",
            &etcd_url,
            "--advertise-client-urls",
            &etcd_url,
        ]);
        etcd.args([
            "--listen-peer-urls",
            &peer_url,
            "--initial-advertise-peer-urls",
            &peer_url,
        ]);
        etcd.args([
            "--initial-cluster",
            &format!("default={peer_url}"),
            "--unsafe-no-fsync",
        ]);
        let etcd = Process::start(&mut etcd, &path.join("etcd.log"))?;

        let key = rcgen::KeyPair::generate()?;
        std::fs::write(path.join("key.pem"), key.serialize_pem())?;
        std::fs::write(path.join("public.pem"), key.public_key_pem())?;
        std::fs::write(
            path.join("tokens.csv"),
            format!("{TOKEN},admin,admin,system:masters\n"),
        )?;
        let mut apiserver = Command::new("kube-apiserver");
        apiserver.args(["--etcd-servers", &etcd_url, "--bind-address", "127.0.0.1"]);
        apiserver.args([
            "--secure-port",
            &port.to_string(),
            "--advertise-address",
            "127.0.0.1",
        ]);
        apiserver.args([
            "--authorization-mode",
            "RBAC",
            "--service-cluster-ip-range",
            "10.0.0.0/16",
        ]);
        apiserver.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
        // Nobody makes the default ServiceAccounts that the plugin would ask for.
        apiserver.args(["--disable-admission-plugins", "ServiceAccount"]);
        for (flag, file) in [
            ("--cert-dir", "certificates"),
            ("--token-auth-file", "tokens.csv"),
            ("--service-account-key-file", "public.pem"),
            ("--service-account-signing-key-file", "key.pem"),
        ] {
            apiserver.arg(flag).arg(path.join(file));
        }
        let mut apiserver = Process::start(&mut apiserver, &path.join("apiserver.log"))?;
        let config = kubeconfig(port);
        let begin = Instant::now();
        let client = client(&config).await?;
        loop {
            let request = http_get("/readyz")?;
            if client
                .request_text(request)
                .await
                .is_ok_and(|answer| answer == "ok")
            {
                break;
            }
            ensure!(
                !apiserver.has_ended(),
                "kube-apiserver has ended: {}",
                tail(&path.join("apiserver.log"))
            );
            ensure!(
                begin.elapsed() < READY,
                "kube-apiserver is not ready: {}",
                tail(&path.join("apiserver.log"))
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(ApiServer {
            _apiserver: apiserver,
            _etcd: etcd,
            folder,
            config,
        })
    }

    /// Folder for files of the test, deleted with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client that may do everything.
    ///
    /// # Errors
    /// Never for this server's own configuration.
    pub async fn client(&self) -> Result<Client> {
        client(&self.config).await
    }

    /// Writes a kubeconfig for other programs.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, serde_json::to_vec(&self.config)?)?)
    }

    /// Installs the project's CRDs and waits until they are served.
    ///
    /// # Errors
    /// If the server refuses them.
    pub async fn install_crds(&self) -> Result<()> {
        install_crds(&self.client().await?).await
    }

    /// Requests that changed something since the server started, by verb and resource, without the Lease's.
    ///
    /// # Errors
    /// If the server's metrics cannot be read.
    pub async fn writes(&self) -> Result<Vec<(String, String, u64)>> {
        let client = self.client().await?;
        let metrics = client.request_text(http_get("/metrics")?).await?;
        Ok(metrics.lines().filter_map(write_count).collect())
    }
}

/// Installs the project's CRDs and waits until they are served.
///
/// # Errors
/// If the server refuses them.
pub async fn install_crds(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in trainyard_crds::schema::crds() {
        let name = crd.name_any();
        api.patch(
            &name,
            &PatchParams::apply("tests").force(),
            &Patch::Apply(&crd),
        )
        .await?;
        let begin = Instant::now();
        loop {
            let conditions = api
                .get(&name)
                .await?
                .status
                .and_then(|status| status.conditions);
            let established = |c: &&_| condition_is_true(c, "Established");
            if conditions.iter().flatten().any(|c| established(&c)) {
                break;
            }
            ensure!(begin.elapsed() < READY, "{name} is not established");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

fn condition_is_true(
    condition: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition,
    type_: &str,
) -> bool {
    condition.type_ == type_ && condition.status == "True"
}

/// `apiserver_request_total{...verb="POST",...resource="pods",...} 7`
fn write_count(line: &str) -> Option<(String, String, u64)> {
    let labels = line.strip_prefix("apiserver_request_total{")?;
    let (labels, value) = labels.split_once("} ")?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let verb = label("verb")?;
    let resource = label("resource")?;
    let is_write = matches!(
        verb,
        "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE" | "DELETECOLLECTION"
    );
    (is_write && label("code").is_some_and(|code| code.starts_with('2'))).then_some(())?;
    Some((
        verb.into(),
        resource.into(),
        value.parse::<f64>().ok()? as u64,
    ))
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held at once, so that none is given twice.
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn kubeconfig(port: u16) -> Kubeconfig {
    let name = "test".to_owned();
    Kubeconfig {
        current_context: Some(name.clone()),
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(format!("https://127.0.0.1:{port}")),
                // Its certificate is one that it made for itself a second ago.
                insecure_skip_tls_verify: Some(true),
                ..Cluster::default()
            }),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(AuthInfo {
                token: Some(TOKEN.to_owned().into()),
                ..AuthInfo::default()
            }),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(ConfigContext {
                cluster: name.clone(),
                user: Some(name),
                ..ConfigContext::default()
            }),
            ..NamedContext::default()
        }],
        ..Kubeconfig::default()
    }
}

async fn client(config: &Kubeconfig) -> Result<Client> {
    let config =
        Config::from_custom_kubeconfig(config.clone(), &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path)
        .body(Vec::new())
        .context("a request")
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
