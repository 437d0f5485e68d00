//! Roles started as in pods: by themselves, with nobody to watch over them.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use trainyard_contract::pod::JOB_FILE;
use trainyard_contract::{
    ExportReport, FinisherArgs, MemberArgs, ServerArgs, Supervision, WorkerArgs,
};

use crate::common::{LIMIT, Spec, folder, get, send};

/// A job, and what its pods share.
pub struct Cluster {
    pub spec: Spec,
    pub folder: TempDir,
    /// Of server 0.
    port: Port,
    pub storage: String,
    servers: u32,
    /// Where pods look for the coordinator, if it is not at server 0's own address.
    pub coordinator: Option<String>,
    /// What every pod's program is wrapped in.
    pub wrapper: Vec<String>,
    /// The environment of every pod.
    pub env: Vec<(String, String)>,
}

/// A port of 127.0.0.1 that nobody else is given as long as this lives, and on which nobody listens yet.
///
/// A socket that is bound and does not listen refuses connections, as pods do that are not there.
/// It lets a server bind the same port, because both ask for the address to be reused, while the
/// system picks the port neither for another listener nor for the near end of a connection.
pub struct Port {
    number: u16,
    _bound: OwnedFd,
}

impl Port {
    pub fn reserve() -> Port {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket");
        sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = getsockname(&socket).expect("bound");
        let address = SocketAddr::try_from(address).expect("an address of the internet");
        Port {
            number: address.port(),
            _bound: socket,
        }
    }

    pub fn on(&self, host: &str) -> String {
        format!("{host}:{}", self.number)
    }
}

impl Cluster {
    /// A job of this many servers, whose storage is a folder.
    pub fn new(spec: Spec, servers: u32) -> Self {
        let folder = folder();
        let job = trainyard::run::read_job(&spec.file, &spec.sets).expect("a good manifest");
        let mut job = job.to_json().expect("JSON");
        job["metadata"]["namespace"] = json!("default");
        job["metadata"]["uid"] = json!("0f0e0d0c-0000-4000-8000-000000000000");
        std::fs::write(folder.path().join(JOB_FILE), job.to_string()).expect("writable");
        let storage = folder.path().join("storage").display().to_string();
        Cluster {
            spec,
            port: Port::reserve(),
            storage,
            servers,
            folder,
            coordinator: None,
            wrapper: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Changes the job file.
    pub fn edit_job(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.path(JOB_FILE);
        let text = std::fs::read_to_string(&path).expect("the job file");
        let mut job = serde_json::from_str(&text).expect("JSON");
        edit(&mut job);
        std::fs::write(path, job.to_string()).expect("writable");
    }

    /// What every pod is told; `http` is its port for that.
    fn member(&self, name: &str, index: u32, http: &Port) -> MemberArgs {
        let own = self.coordinator.clone();
        MemberArgs {
            job: self.path(JOB_FILE),
            initial_model: None,
            index,
            coordinator: own.unwrap_or_else(|| self.port.on("localhost")),
            http: Some(http.on("127.0.0.1")),
            key_file: None,
            termination_message: Some(self.path(&format!("{name}.message"))),
            supervision: Supervision::default(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts a pod that was told the address of `ports[0]` for HTTP, if it has any.
    fn start(&self, name: &str, args: &[String], ports: Vec<Port>) -> Pod {
        let message = self.folder.path().join(format!("{name}.message"));
        std::fs::write(&message, "").expect("writable"); // as the container runtime does
        let log = self.folder.path().join(format!("{name}.log"));
        let program = env!("CARGO_BIN_EXE_trainyard").to_owned();
        let words: Vec<String> = self.wrapper.iter().cloned().chain([program]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args);
        command.envs(self.env.iter().cloned());
        let stderr = std::fs::File::create(&log).expect("writable");
        command.stdin(Stdio::null()).stderr(stderr);
        Pod {
            child: command.spawn().expect("the program starts"),
            http: ports
                .first()
                .map(|port| port.on("127.0.0.1"))
                .unwrap_or_default(),
            message,
            log,
            _ports: ports,
        }
    }

    pub fn server(&self, index: u32, generation: u32) -> Pod {
        self.server_behind(index, generation, |own| own)
    }

    /// Server 0's address for everything.
    pub fn address(&self) -> String {
        self.port.on("127.0.0.1")
    }

    /// A server that tells workers to find its bulk port where `advertised` says, given its own address.
    pub fn server_behind(
        &self,
        index: u32,
        generation: u32,
        advertised: impl FnOnce(String) -> String,
    ) -> Pod {
        let own = (index > 0).then(Port::reserve);
        let address = own.as_ref().unwrap_or(&self.port).on("127.0.0.1");
        let name = format!("server-{index}-{generation}");
        let http = Port::reserve();
        let args = ServerArgs {
            member: self.member(&name, index, &http),
            servers: self.servers,
            generation,
            storage: self.storage.clone(),
            advertise: Some(advertised(address.clone())),
            listen: Some(address),
            ..ServerArgs::default()
        };
        let ports = [http].into_iter().chain(own).collect();
        self.start(&name, &args.to_args(), ports)
    }

    pub fn worker(&self, index: u32) -> Pod {
        let data = self.spec.file.parent().expect("a folder");
        let name = format!("worker-{index}");
        let http = Port::reserve();
        let args = WorkerArgs {
            member: self.member(&name, index, &http),
            data: data.display().to_string(),
            ..WorkerArgs::default()
        };
        self.start(&name, &args.to_args(), vec![http])
    }

    /// The finisher of a complete job.
    pub fn finisher(&self) -> Pod {
        let name = "finisher-0";
        let args = FinisherArgs {
            job: self.path(JOB_FILE),
            storage: self.storage.clone(),
            termination_message: Some(self.path(&format!("{name}.message"))),
            supervision: Supervision::default(),
        };
        self.start(name, &args.to_args(), Vec::new())
    }

    /// Has the artifact of a complete job exported; returns where it is.
    pub fn export(&self) -> String {
        let mut finisher = self.finisher();
        assert_eq!(finisher.code(), Some(0), "{}", finisher.log());
        let report = ExportReport::from_message(&finisher.message()).expect("a report");
        assert_eq!(report.artifact, format!("{}/artifact", self.storage));
        report.artifact
    }

    /// The checkpoint log, read by `trainyard inspect`.
    pub fn inspect(&self) -> Value {
        inspect(&self.storage, &self.env)
    }
}

/// What `trainyard inspect` says of a place.
pub fn inspect(path: &str, env: &[(String, String)]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .args(["inspect", "--json", "--verify", path])
        .envs(env.iter().cloned())
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A process of a role; killed when dropped.
pub struct Pod {
    child: Child,
    pub http: String,
    message: PathBuf,
    log: PathBuf,
    _ports: Vec<Port>,
}

impl Pod {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its termination message.
    pub fn message(&self) -> String {
        std::fs::read_to_string(&self.message).expect("text")
    }

    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `look` finds something.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let over = self.child.try_wait().expect("a child can be waited for");
            assert!(over.is_none(), "{over:?} before {what}: {}", self.log());
            assert!(begin.elapsed() < LIMIT, "no {what}: {}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// A value of `/metrics`.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = get(&self.http, "/metrics")?;
        let prefix = format!("trainyard_{name} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    }

    /// Waits until server 0 has applied `step` steps; returns the status.
    pub fn reach(&mut self, step: u64) -> Value {
        self.until(&format!("step {step}"), |pod| {
            let status: Value = serde_json::from_str(&get(&pod.http, "/status")?).ok()?;
            (status["step"].as_u64() >= Some(step)).then_some(status)
        })
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(begin.elapsed() < LIMIT, "it does not end: {}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Its exit code, once it has ended.
    pub fn code(&mut self) -> Option<i32> {
        self.wait().code()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
