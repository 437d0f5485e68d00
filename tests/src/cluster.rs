//! A cluster as its users see it: kubectl, helm, manifests. Any cluster that KUBECONFIG names will do.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

/// Namespace and release of the operator under test.
pub const OPERATOR: &str = "trainyard-system";
/// Longest wait for anything: a few minutes' work on a machine that has much else to do.
pub const LIMIT: Duration = Duration::from_secs(600);
/// Longest wait for an answer of the API server.
const PATIENCE: &str = "--request-timeout=60s";

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The target folder, in which this program was built.
///
/// # Errors
/// If it is somewhere else.
pub fn target() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.ancestors().nth(3).context("a target folder")?;
    Ok(target.to_owned())
}

/// Runs kubectl; the error holds what it said.
///
/// # Errors
/// If it cannot be run or fails.
pub fn kubectl(arguments: &[&str]) -> Result<String> {
    run(Command::new("kubectl").args(arguments), None)
}

/// `kubectl apply -f -` in a namespace.
///
/// # Errors
/// What the API server says to the manifest.
pub fn apply(namespace: &str, manifest: &str) -> Result<String> {
    run(
        Command::new("kubectl").args(["apply", PATIENCE, "-n", namespace, "-f", "-"]),
        Some(manifest),
    )
}

/// Asks the API server for its verdict on a manifest, and changes nothing.
///
/// # Errors
/// What the API server says to the manifest.
pub fn dry_run(namespace: &str, manifest: &str) -> Result<String> {
    let place = ["-n", namespace, "-f", "-"];
    let arguments = [&["apply", "--dry-run=server", PATIENCE][..], &place].concat();
    run(Command::new("kubectl").args(arguments), Some(manifest))
}

/// Runs helm.
///
/// # Errors
/// If it cannot be run or fails.
pub fn helm(arguments: &[&str]) -> Result<String> {
    run(Command::new("helm").args(arguments), None)
}

fn run(command: &mut Command, input: Option<&str>) -> Result<String> {
    let output = output(command, input)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        said.trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn output(command: &mut Command, input: Option<&str>) -> Result<Output> {
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| {
        format!(
            "{:?} cannot be run: make kind-up puts it on PATH",
            command.get_program()
        )
    })?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes())?;
    }
    Ok(child.wait_with_output()?)
}

/// An object as JSON, or none.
///
/// # Errors
/// If the API server cannot be asked.
pub fn get(namespace: &str, kind: &str, name: &str) -> Result<Option<Value>> {
    let text = kubectl(&[
        "get",
        kind,
        name,
        "-n",
        namespace,
        "-o",
        "json",
        "--ignore-not-found",
        PATIENCE,
    ])?;
    match text.trim() {
        "" => Ok(None),
        text => Ok(Some(serde_json::from_str(text)?)),
    }
}

/// The objects of a kind, by an optional label selector.
///
/// # Errors
/// If the API server cannot be asked.
pub fn list(namespace: &str, kind: &str, selector: &str) -> Result<Vec<Value>> {
    let what = ["get", kind, "-n", namespace, "-l", selector, "-o", "json"];
    let text = kubectl(&[&what[..], &[PATIENCE]].concat())?;
    let list: Value = serde_json::from_str(&text)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Waits for a condition with a limit. A check that fails is made again: an API server may be too busy to answer once. The
/// error shows what was there at last.
///
/// # Errors
/// If the limit passes.
pub fn until<T>(what: &str, check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    poll(what, Duration::from_millis(250), check)
}

/// As [`until`], with a pause of another length between two checks.
///
/// # Errors
/// As [`until`].
pub fn poll<T>(
    what: &str,
    pause: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        let checked = check();
        if let Ok(Some(found)) = checked {
            return Ok(found);
        }
        if begin.elapsed() > LIMIT {
            let late = format!("{what}: not within {} s", LIMIT.as_secs());
            return Err(match checked {
                Err(error) => error.context(late),
                Ok(_) => anyhow!(late),
            });
        }
        std::thread::sleep(pause);
    }
}

/// Installs the chart once for all tests of this process, with the images that `make images` has made. What an interrupted
/// run has left of its tests goes first.
///
/// # Errors
/// If there is no cluster, or the chart cannot be installed.
pub fn operator() -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| prepare().map_err(|error| format!("{error:#}")));
    installed.clone().map_err(anyhow::Error::msg)
}

fn prepare() -> Result<()> {
    let ours = ["-l", "trainyard.dev/test=true", "--wait=false"];
    for kind in ["namespaces", "persistentvolumes"] {
        let delete = ["delete", kind, "--ignore-not-found"];
        kubectl(&[&delete[..], &ours].concat())?;
    }
    install(OPERATOR, &[])
}

/// Helm refuses for ever to go on from where it was killed: what it noted of the release goes.
fn forget_broken_release(namespace: &str) -> Result<()> {
    let release = "owner=helm,name=trainyard";
    let broken = ["pending-install", "pending-upgrade", "uninstalling"];
    let selector = format!("{release},status in ({})", broken.join(","));
    let delete = ["delete", "secrets", "-n", namespace, "-l", &selector];
    kubectl(&[&delete[..], &["--ignore-not-found", PATIENCE]].concat()).map(drop)
}

/// `helm upgrade --install` of the chart.
///
/// # Errors
/// If helm fails.
pub fn install(namespace: &str, settings: &[&str]) -> Result<()> {
    install_chart(&root().join("charts/trainyard"), namespace, settings)
}

/// As [`install`], of a chart in another folder.
///
/// # Errors
/// As [`install`].
pub fn install_chart(chart: &Path, namespace: &str, settings: &[&str]) -> Result<()> {
    forget_broken_release(namespace)?;
    let chart = chart.to_str().context("a path in UTF-8")?;
    let mut arguments = vec![
        "upgrade",
        "--install",
        "trainyard",
        chart,
        "--namespace",
        namespace,
    ];
    arguments.extend(["--create-namespace", "--wait", "--timeout", "3m"]);
    // The tag says nothing of what is in an image; pods of another one must go.
    let image = image_version()?.map(|version| format!("podAnnotations.test-image={version}"));
    if let Some(image) = &image {
        arguments.extend(["--set-string", image]);
    }
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    helm(&arguments).map(drop)
}

/// What tells the operator's image that was last built here from others, if one was.
fn image_version() -> Result<Option<String>> {
    let Ok(image) = std::fs::metadata(target()?.join("images/operator.tar")) else {
        return Ok(None);
    };
    let built = image.modified()?.duration_since(std::time::UNIX_EPOCH)?;
    Ok(Some(format!("{}-{}", built.as_millis(), image.len())))
}

/// A namespace of its own, under the restricted Pod Security Standard, with the examples' data and a volume for
/// checkpoints that all nodes can write to. Dropping it deletes it.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes it.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn new(test: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{count}", test.replace('_', "-"), std::process::id());
        let manifest = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {
                "trainyard.dev/test": "true",
                "pod-security.kubernetes.io/enforce": "restricted",
            }},
        });
        let namespace = Namespace { name };
        apply("default", &manifest.to_string())?;
        namespace.data("breast-cancer-data", &["breast-cancer/breast-cancer.csv"])?;
        namespace.data(
            "digits-data",
            &["digits/digits-features.npy", "digits/digits-labels.npy"],
        )?;
        namespace.claim()?;
        Ok(namespace)
    }

    fn data(&self, name: &str, files: &[&str]) -> Result<()> {
        let mut arguments = vec!["create", "configmap", name, "-n", &self.name];
        let files: Vec<String> = files
            .iter()
            .map(|file| {
                format!(
                    "--from-file={}",
                    root().join("examples").join(file).display()
                )
            })
            .collect();
        arguments.extend(files.iter().map(String::as_str));
        kubectl(&arguments).map(drop)
    }

    /// A claim named `runs`: of the class in TRAINYARD_TEST_STORAGE_CLASS, which must offer ReadWriteMany, or else on a
    /// folder that every node of the kind cluster mounts.
    fn claim(&self) -> Result<()> {
        let class = std::env::var("TRAINYARD_TEST_STORAGE_CLASS").ok();
        let size = json!({"storage": "1Gi"});
        if class.is_none() {
            let volume = json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": self.name, "labels": {"trainyard.dev/test": "true"}},
                "spec": {
                    "accessModes": ["ReadWriteMany"], "capacity": size, "storageClassName": "",
                    "persistentVolumeReclaimPolicy": "Retain",
                    "claimRef": {"namespace": self.name, "name": "runs"},
                    "hostPath": {"path": self.shared_folder(), "type": "DirectoryOrCreate"},
                },
            });
            apply(&self.name, &volume.to_string())?;
            // A claim that comes while the volume is still being looked at waits for the controller's next round: 15 s.
            let available = "--for=jsonpath={.status.phase}=Available";
            kubectl(&["wait", "pv", &self.name, available, "--timeout=60s"])?;
            self.open_shared_folder()?;
        }
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "runs", "namespace": self.name},
            "spec": {
                "accessModes": ["ReadWriteMany"], "resources": {"requests": size},
                "storageClassName": class.clone().unwrap_or_default(),
                "volumeName": class.is_none().then(|| self.name.clone()),
            },
        });
        apply(&self.name, &claim.to_string()).map(drop)
    }

    fn shared_folder(&self) -> String {
        format!("/trainyard-shared/{}", self.name)
    }

    /// The folder of the claim `runs` on this machine, if the nodes mount one of it.
    pub fn host_folder(&self) -> Option<PathBuf> {
        let shared = std::env::var_os("TRAINYARD_CLUSTER_SHARED")?;
        Some(Path::new(&shared).join(&self.name))
    }

    /// The nodes mount a folder of this machine; containers write to it as an ordinary user.
    fn open_shared_folder(&self) -> Result<()> {
        let folder = self.host_folder().context(
            "TRAINYARD_CLUSTER_SHARED is not set: source tests/cluster/env.sh, or name a class with ReadWriteMany in \
             TRAINYARD_TEST_STORAGE_CLASS",
        )?;
        make_open_folder(&folder)
    }

    /// Applies a job.
    ///
    /// # Errors
    /// What the API server says.
    pub fn submit(&self, job: &Value) -> Result<()> {
        apply(&self.name, &job.to_string()).map(drop)
    }

    /// The job's status.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub fn status(&self, job: &str) -> Result<Value> {
        let object = get(&self.name, "trainingjob", job)?;
        Ok(object.map_or(Value::Null, |object| object["status"].clone()))
    }

    /// Waits until the job's phase is one of these; returns its status.
    ///
    /// # Errors
    /// If it does not get there, with the job, its pods and the events.
    pub fn wait_for_phase(&self, job: &str, phases: &[&str]) -> Result<Value> {
        let reached = || {
            let status = self.status(job)?;
            let phase = status["phase"].as_str().unwrap_or_default();
            Ok(phases.contains(&phase).then(|| status.clone()))
        };
        until(&format!("{job} is {phases:?}"), reached)
            .map_err(|error| error.context(self.describe(job)))
    }

    /// What is to be seen of a job.
    pub fn describe(&self, job: &str) -> String {
        let show =
            |arguments: &[&str]| kubectl(arguments).unwrap_or_else(|error| error.to_string());
        let status = show(&[
            "get",
            "trainingjob",
            job,
            "-n",
            &self.name,
            "-o",
            "jsonpath={.status}",
        ]);
        let pods = show(&["get", "pods", "-n", &self.name, "-o", "wide"]);
        let events = show(&[
            "get",
            "events",
            "-n",
            &self.name,
            "--sort-by=.lastTimestamp",
        ]);
        let logs = show(&[
            "logs",
            "-n",
            &self.name,
            "-l",
            &format!("trainyard.dev/job={job}"),
            "--tail=5",
            "--prefix",
        ]);
        format!("status: {status}\n{pods}\n{events}\n{logs}")
    }

    /// The job's pods.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub fn pods(&self, job: &str) -> Result<Vec<Value>> {
        list(&self.name, "pods", &format!("trainyard.dev/job={job}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        let _ = kubectl(&[
            "delete",
            "persistentvolume",
            &self.name,
            "--wait=false",
            "--ignore-not-found",
        ]);
        if let Some(folder) = self.host_folder() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Makes a folder that any user can write to.
///
/// # Errors
/// If it cannot be made.
pub fn make_open_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    Ok(std::fs::set_permissions(folder, open)?)
}

/// The breast-cancer example under another name, with so many epochs.
///
/// # Errors
/// If it is not valid.
pub fn breast_cancer(name: &str, epochs: u32) -> Result<Value> {
    let mut job = example("breast-cancer/job.yaml")?;
    job["metadata"] = json!({"name": name});
    job["spec"]["training"]["epochs"] = json!(epochs);
    Ok(job)
}

/// An example's manifest, as JSON with defaults.
///
/// # Errors
/// If it is not valid.
pub fn example(file: &str) -> Result<Value> {
    let path = root().join("examples").join(file);
    let text = std::fs::read_to_string(&path)?;
    let job = trainyard_crds::manifest::read(file, &text)
        .map_err(|errors| anyhow::anyhow!("{errors}"))?;
    Ok(serde_json::to_value(job)?)
}

/// Trains a manifest on this machine with `trainyard run`; returns the line that it ends with.
///
/// # Errors
/// If the run fails.
pub fn run_locally(manifest: &str, settings: &[&str]) -> Result<Value> {
    let this = std::env::current_exe()?;
    let target = this
        .parent()
        .and_then(Path::parent)
        .context("a target directory")?;
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(target.join("trainyard"));
    command
        .arg("run")
        .arg(root().join("examples").join(manifest))
        .arg("--json");
    command.arg("--out").arg(folder.path().join("run"));
    for setting in settings {
        command.args(["--set", setting]);
    }
    let text = run(&mut command, None).context("is it built? cargo build -p trainyard")?;
    let last = text.lines().last().context("the run printed nothing")?;
    Ok(serde_json::from_str(last)?)
}
