//! What the program shows to the outside: exit codes, messages, ports, folders, memory, and what it
//! does with strangers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use crate::common::wire::{frame, identity, introduced, stranger};
use crate::common::{Random, Spec, example, folder, message, reference, resident, sha};
use rustix::process::Signal;
use serde_json::Value;
use trainyard_contract::{MemberArgs, ServerArgs};
use trainyard_core::layout::Layout;
use trainyard_core::tree::Node;
use trainyard_core::wire::{Body, MAX_CHUNK_BYTES, MAX_CONTROL_BYTES};
use trainyard_runtime::arch::Architecture;
use trainyard_runtime::memory::{self, Footprint, Model, Part};
use trainyard_runtime::net::Channel;

/// Frames that no peer of this job may send, one a connection.
fn garbage(random: &mut Random, ours: trainyard_runtime::net::Identity) -> Vec<Vec<u8>> {
    let noise =
        |random: &mut Random, n: u64| (0..n).map(|_| random.below(256) as u8).collect::<Vec<u8>>();
    let foreign = trainyard_runtime::net::Identity {
        job: ours.job ^ 1,
        ..ours
    };
    let hello = Body::Hello { len: 20 };
    let unknown = br#"{"channel":"push","role":{"kind":"worker","index":1}}"#;
    let mut version = frame(ours, hello, &[]);
    version[4] = 99;
    let mut checksum = frame(ours, hello, &[]);
    checksum[60] ^= 1;
    let mut cut = frame(ours, hello, &[]);
    cut.truncate(40);
    vec![
        noise(random, 68),
        noise(random, 10_000),
        b"GET / HTTP/1.1\r\nHost: trainyard and so on to the end of a header\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(8),
        version,
        checksum,
        cut,
        frame(
            ours,
            Body::Hello {
                len: MAX_CONTROL_BYTES,
            },
            &[],
        ),
        frame(
            ours,
            Body::Control {
                len: MAX_CONTROL_BYTES,
            },
            &[],
        ),
        frame(ours, Body::Bye, &[]),
        frame(ours, hello, b"{\"channel\":\"here\"}"),
        frame(ours, hello, &noise(random, 20)),
        [frame(ours, hello, &[]), noise(random, 20)].concat(),
        frame(foreign, Body::Hello { len: 53 }, unknown),
    ]
}

/// Pushes that cannot be true, on connections that were introduced well.
fn untrue_pushes(random: &mut Random, ours: trainyard_runtime::net::Identity) -> Vec<Vec<u8>> {
    let push = |step, node, chunk, len| {
        let node = Node::new(node).expect("not 0");
        let body = Body::Push {
            step,
            node,
            chunk,
            len,
            rows: 8,
            loss: 1.0,
        };
        frame(ours, body, &vec![0; len as usize])
    };
    let older = trainyard_runtime::net::Identity {
        generation: 0,
        ..ours
    };
    let first = Body::Push {
        step: 0,
        node: Node::ROOT,
        chunk: 0,
        len: 4,
        rows: 8,
        loss: 1.0,
    };
    let param = Body::Param {
        version: 1,
        chunk: 0,
        len: 4,
    };
    vec![
        push(u64::MAX, 4, 0, 58_368),
        push(0, 4, 4_000_000_000, 4),
        push(0, u32::MAX, 0, 58_368),
        push(0, 4, 0, MAX_CHUNK_BYTES),
        push(0, 4, 0, 4),
        frame(older, first, &[0; 4]),
        (0..68).map(|_| random.below(256) as u8).collect(),
        frame(ours, param, &[0; 4]),
    ]
}

#[test]
fn t13_garbage_on_the_port_is_dropped_and_counted() {
    let mut random = Random::new("t13");
    let (spec, folder) = (example("breast-cancer/job.yaml").epochs(40), folder());
    let mut run = spec.clone().on(2, 1).start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    let server = roster.pid("server", 0).expect("a server");
    let ours = identity(&spec, &roster);
    let before = (
        run.until("a counter", |run| run.metric("peers_dropped_total")),
        resident(server).expect("it runs"),
    );
    let mut sent = 0;
    let (mut unknown, mut open) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        for bytes in garbage(&mut random, ours) {
            let mut stream = stranger(&roster).expect("a connection");
            // The server may close at the first wrong byte.
            let _ = stream.write_all(&bytes);
            unknown.push(stream);
        }
        for bytes in untrue_pushes(&mut random, ours) {
            let mut peer = introduced(&roster, ours, Channel::Push).expect("a connection");
            let _ = peer.writer.write_all(&bytes);
            open.push(peer);
            sent += 1;
        }
    }
    // At least everything that was introduced, and of the rest what was a whole frame.
    let wanted = before.0 + f64::from(sent + 4 * 8);
    run.until("the counter", |run| {
        run.metric("peers_dropped_total")
            .filter(|dropped| *dropped >= wanted)
    });
    let after = resident(server).expect("it runs");
    assert!(
        after < before.1 + 32 * 1024,
        "{} KiB before, {after} KiB after",
        before.1
    );
    drop((unknown, open));
    let ended = run.wait();
    assert_eq!(sha(&ended.summary()), reference::train(&spec).sha);
    assert!(ended.lost().is_empty(), "{ended}");
}

/// Garbage on the control stream of a peer that was let in.
#[test]
fn t13_garbage_on_a_control_stream_is_dropped() {
    let mut random = Random::new("t13_control");
    let (spec, folder) = (example("breast-cancer/job.yaml").epochs(100), folder());
    let mut run = spec.clone().on(1, 1).start(folder.path());
    run.reach(10);
    let roster = run.roster().expect("it has told who runs");
    let ours = identity(&spec, &roster);
    let bodies: [&[u8]; 5] = [
        b"{}",
        b"null",
        b"{\"type\":\"drain\"}",
        b"{\"type\":\"join\",\"role\":7}",
        &[0xff; 64],
    ];
    for body in bodies {
        let mut peer = introduced(&roster, ours, Channel::Control).expect("a connection");
        let len = body.len() as u32;
        let message = frame(ours, Body::Control { len }, body);
        let _ = peer.writer.write_all(&message);
        let _ = peer.reader.set_timeout(Some(crate::common::LIMIT));
        // It ends, whatever is said before.
        let mut said = Vec::new();
        if let Err(error) = peer.reader.read_to_end(&mut said) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    let mut peer = introduced(&roster, ours, Channel::Control).expect("a connection");
    let noise: Vec<u8> = (0..100_000).map(|_| random.below(256) as u8).collect();
    let _ = peer.writer.write_all(&noise);
    let ended = run.wait();
    assert_eq!(sha(&ended.summary()), reference::train(&spec).sha);
    assert!(ended.lost().is_empty(), "{ended}");
}

/// Writes a job beside a CSV of its own.
fn job_on(csv: &[u8], folder: &std::path::Path) -> Spec {
    fs::write(folder.join("data.csv"), csv).expect("writable");
    let manifest = "
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {name: own-data}
spec:
  task: {binaryClassification: {}}
  model: {mlp: {hidden: [4]}}
  data: {train: {csv: {uri: data.csv, label: kind}}}
  training: {epochs: 1, batchSize: 2, microBatches: 2, optimizer: {sgd: {learningRate: 0.1}}}
";
    fs::write(folder.join("job.yaml"), manifest).expect("writable");
    let mut spec = example("breast-cancer/job.yaml");
    spec.file = folder.join("job.yaml");
    spec
}

#[test]
fn t15_bad_data_ends_with_2_and_names_the_place() {
    let good = b"\xef\xbb\xbfx,kind\r\n1,a\r\n2,b\r\n\"3\",a\r\n";
    let bad: [(&[u8], &str); 5] = [
        (b"x,kind\n1,a\n2,b,7\n", "data.csv:3"),
        (b"x,kind\n1,a\nNaN,b\n", "data.csv:3"),
        (b"", "data.csv"),
        (b"x,z\n1,a\n", "kind"),
        (b"x,kind\n1,a\n2,b\n3,c\n", "c"),
    ];
    let (data, out) = (folder(), folder());
    let summary = job_on(good, data.path())
        .start(&out.path().join("good"))
        .finish();
    assert_eq!(summary["steps"], 2);
    for (at, (csv, place)) in bad.iter().enumerate() {
        let ended = job_on(csv, data.path())
            .start(&out.path().join(at.to_string()))
            .wait();
        assert_eq!(ended.code(), Some(2), "{ended}");
        let message = message(&ended);
        assert!(message.contains(place), "{place}: {message}");
        assert!(ended.stderr.contains("error"), "{ended}");
    }
}

/// The first checkpoints are good, then the loss explodes.
#[test]
fn t16_an_exploding_loss_ends_the_job_and_keeps_the_last_good_checkpoint() {
    let spec = example("diabetes/job.yaml")
        .epochs(400)
        .every(5)
        .set("training.optimizer", "{sgd: {learningRate: 50}}")
        .set("training.schedule", "{constant: {warmupSteps: 1000}}")
        .set("training.earlyStopping", "");
    let folder = folder();
    let ended = spec.start(folder.path()).wait();
    assert_eq!(ended.code(), Some(1), "{ended}");
    let message = message(&ended);
    let step = message
        .split("at step ")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .and_then(|step| step.parse::<u64>().ok());
    let step = step.unwrap_or_else(|| panic!("no step: {message}"));
    assert!(
        message.contains("leaf ") && message.contains("learning rate"),
        "{message}"
    );
    // Its step is before the one that failed, and all of it is finite.
    let newest = inspect(folder.path());
    assert!(
        newest > 0 && newest <= step,
        "checkpoint {newest}, failed at {step}"
    );
    let shard = fs::read_dir(folder.path().join("checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").path());
    for file in shard
        .flat_map(|folder| fs::read_dir(folder).expect("shards"))
        .map(|entry| entry.expect("an entry").path())
    {
        let bytes = fs::read(&file).expect("a shard");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let parameters = tensors.tensor("parameters").expect("parameters");
        let finite = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four")).is_finite();
        assert!(
            parameters.data().chunks_exact(4).all(finite),
            "{}",
            file.display()
        );
    }
}

/// Step of the newest checkpoint, as `trainyard inspect` tells.
fn inspect(folder: &std::path::Path) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_trainyard"))
        .arg("inspect")
        .arg(folder)
        .arg("--json")
        .output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let steps = value["checkpoints"].as_array().expect("checkpoints").iter();
    steps
        .filter_map(|checkpoint| checkpoint["step"].as_u64())
        .max()
        .unwrap_or(0)
}

/// Most resident kibibytes of (server, worker) from one step on until another.
fn resident_between(run: &mut crate::common::Run, from: u64, to: u64) -> (u64, u64) {
    run.reach(from);
    let roster = run.roster().expect("it has told who runs");
    let (server, worker) = (
        roster.pid("server", 0).expect("a server"),
        roster.pid("worker", 0).expect("a worker"),
    );
    let mut most = (0, 0);
    run.until("the step", |run| {
        most.0 = most.0.max(resident(server).unwrap_or(0));
        most.1 = most.1.max(resident(worker).unwrap_or(0));
        run.status()
            .filter(|status| status["step"].as_u64() >= Some(to))
    });
    most
}

/// Above what a tiny model needs, a process takes what [`memory::footprint`] says: no more than its most, with which a
/// warning is given, and no less than its least, with which a job is refused.
///
/// By default glibc's allocator keeps freed blocks of up to 32 MiB, and how many of them depends on how
/// the threads meet: up to 4 P more in a worker. Here it returns every large block at once, so that what
/// is measured is what the programs hold.
#[test]
fn t20_memory_is_a_multiple_of_the_parameters() {
    let spec = |hidden: &str, epochs| {
        // One checkpoint while it is measured: where storage is slower than training, a second one waits
        // in memory, and a third is held by the step that cannot go on.
        let spec = example("digits/mlp.yaml")
            .epochs(epochs)
            .every(25)
            .set("model.mlp.hidden", hidden);
        spec.on(1, 1)
            .args(["--threads", "2"])
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
    };
    let measure = |hidden, epochs, until| {
        let folder = folder();
        let mut run = spec(hidden, epochs).start(folder.path());
        let most = resident_between(&mut run, 12, until);
        run.finish();
        assert!(most.0 > 0 && most.1 > 0, "it ended before it was measured");
        most
    };
    // The tiny model's steps are so short that one epoch of them may be over before the first look.
    let tiny = measure("[8]", 60, 1800);
    let large = measure("[2048, 2048]", 1, 40);
    let spec = spec("[2048, 2048]", 1);
    let job = trainyard::run::read_job(&spec.file, &spec.sets).expect("a job");
    let architecture = Architecture::new(&job.manifest.spec.model, &[64], 10).expect("it fits");
    let layout = Layout::new(architecture.params).expect("a layout");
    let model = Model::of(&job, &layout, 40);
    println!("tiny {tiny:?} KiB, large {large:?} KiB, {model:?}");
    assert!(tiny.0 <= 30 * 1024, "a server without libtorch: {tiny:?}");
    let (range, slack) = (model.parameters, 16 * 1024);
    let server = Part::Server { range, workers: 1 };
    let worker = Part::Worker {
        threads: 2,
        data: 0,
    };
    for (part, tiny, large) in [(server, tiny.0, large.0), (worker, tiny.1, large.1)] {
        let Footprint { least, most } = memory::footprint(&model, part);
        let (least, most) = (tiny + least / 1024, tiny + most / 1024);
        assert!(
            large <= most + slack,
            "{part:?}: {large} KiB, at most {most}"
        );
        assert!(
            large + slack >= least,
            "{part:?}: {large} KiB, at least {least}"
        );
    }
}

#[test]
fn t20_nothing_grows_over_ten_thousand_steps() {
    let spec = example("breast-cancer/job.yaml")
        .set("training.epochs", 1600)
        .set("training.batchSize", 64)
        .set("training.microBatches", 1)
        .set("workers.replicas", 1)
        .set("model.mlp.hidden", "[4]")
        .every(500)
        .on(1, 1);
    let folder = folder();
    let mut run = spec.start(folder.path());
    // 512 epochs of history, the most that is kept, are there after 4,096 steps.
    let first = resident_between(&mut run, 1_000, 1_500);
    let early = resident_between(&mut run, 4_500, 5_500);
    let late = resident_between(&mut run, 10_000, 11_000);
    println!("first {first:?} KiB, early {early:?} KiB, late {late:?} KiB");
    let grown = |from: (u64, u64), by: u64| late.0 <= from.0 + by && late.1 <= from.1 + by;
    assert!(grown(first, 6 * 1024), "{first:?} {late:?}");
    assert!(grown(early, 2 * 1024), "{early:?} {late:?}");
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130));
}

/// Nothing but JSON on standard output; the last line is the result, with exactly these fields.
#[test]
fn t23_json_lines_and_nothing_else() {
    let folder = folder();
    let ended = example("breast-cancer/job.yaml")
        .epochs(2)
        .start(folder.path())
        .wait();
    let events = ended.events();
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/events.md"));
    let documented = documented.expect("the page of events");
    for event in &events {
        let name = event["event"].as_str().expect("a name");
        let page = documented
            .split("\n### ")
            .find(|page| page.starts_with(&format!("`{name}`")));
        let page = page.unwrap_or_else(|| panic!("docs/events.md has no event {name}"));
        for field in event.as_object().expect("an object").keys() {
            let common = field == "event" || field == "time";
            assert!(
                common || page.contains(&format!("`{field}`")),
                "{name}: {field}"
            );
        }
        assert!(
            event["event"].is_string() && event["time"].is_string(),
            "{event}"
        );
    }
    assert_eq!(events[0]["event"], "started");
    let last = events.last().expect("lines");
    assert_eq!(last["event"], "finished");
    let fields: Vec<&str> = last
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "artifact",
        "checkpoint",
        "elapsedSeconds",
        "epochs",
        "event",
        "job",
        "metrics",
        "modelEpoch",
        "modelSha256",
        "positive",
        "steps",
        "stoppedEarly",
        "time",
    ];
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(last["job"], "breast-cancer");
    assert!(folder.path().join("artifact/model.safetensors").exists());
}

#[test]
fn t25_two_runs_side_by_side_do_not_meet() {
    let one = example("breast-cancer/job.yaml").epochs(4);
    let two = one.clone().set("training.seed", 8);
    let (left, right) = (folder(), folder());
    let first = one.clone().on(2, 2).start(left.path());
    let second = two.clone().on(2, 2).start(right.path());
    assert_eq!(sha(&first.finish()), reference::train(&one).sha);
    assert_eq!(sha(&second.finish()), reference::train(&two).sha);
}

#[test]
fn t25_a_folder_takes_one_run_at_a_time() {
    let (spec, folder) = (example("breast-cancer/job.yaml").epochs(400), folder());
    let mut run = spec.start(folder.path());
    run.reach(5);
    // Started by hand, so that it does not touch the first one's run.json.
    for more in [&[][..], &["--resume".to_owned()]] {
        let output = spec
            .command(folder.path())
            .args(more)
            .output()
            .expect("the program starts");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            told.contains("another run is using") && told.contains("--out"),
            "{told}"
        );
    }
    run.signal(Signal::INT);
    assert_eq!(run.wait().code(), Some(130));
}

#[test]
fn t25_a_used_folder_wants_resume_and_another_job_is_refused_with_the_difference() {
    let (spec, folder) = (example("breast-cancer/job.yaml").epochs(1), folder());
    let first = spec.start(folder.path()).finish();
    let again = spec.start(folder.path()).wait();
    assert_eq!(again.code(), Some(2), "{again}");
    assert!(message(&again).contains("which is complete"), "{again}");
    for other in [
        spec.clone().set("training.seed", 8),
        example("diabetes/job.yaml"),
    ] {
        let ended = other.resume().start(folder.path()).wait();
        assert_eq!(ended.code(), Some(2), "{ended}");
        let message = message(&ended);
        assert!(
            message.contains("holds another run") && message.contains("--out"),
            "{message}"
        );
    }
    let seed = spec
        .clone()
        .set("training.seed", 8)
        .resume()
        .start(folder.path())
        .wait();
    assert!(
        message(&seed).contains("training.seed is 7 there, 8 here"),
        "the difference is named: {seed}"
    );
    // A finished run that is resumed is finished.
    let resumed = spec.clone().resume().start(folder.path()).finish();
    assert_eq!(
        (sha(&resumed), &resumed["metrics"]),
        (sha(&first), &first["metrics"])
    );
}

#[test]
fn t25_a_busy_port_is_a_clear_error() {
    let (spec, folder) = (example("breast-cancer/job.yaml").epochs(1), folder());
    spec.start(folder.path()).finish();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for which in ["--listen", "--http"] {
        let address_of = |name| (name == which).then(|| address.clone());
        let args = ServerArgs {
            member: MemberArgs {
                job: folder.path().join("job.json").display().to_string(),
                coordinator: address.clone(),
                http: address_of("--http"),
                ..MemberArgs::default()
            },
            servers: 1,
            generation: 1,
            storage: folder.path().display().to_string(),
            listen: address_of("--listen"),
            ..ServerArgs::default()
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
        let output = command
            .args(args.to_args())
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(&address) && said.contains("choose another address"),
            "{said}"
        );
    }
}

#[test]
fn exit_codes_of_bad_usage_and_bad_manifests() {
    let folder = folder();
    let trainyard = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_trainyard"))
            .args(args)
            .current_dir(folder.path())
            .output();
        let output = output.expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let good = example("breast-cancer/job.yaml").file;
    let good = good.to_str().expect("text");
    for (args, names) in [
        (&["run"][..], "FILE"),
        (&["run", "missing.yaml"], "missing.yaml"),
        (&["run", good, "--workers", "0"], "--workers"),
        (&["run", good, "--set", "spec.training.epoch=3"], "epochs"),
        (
            &["run", good, "--set", "spec.training.microBatches=3"],
            "microBatches",
        ),
        (&["frobnicate"], "frobnicate"),
    ] {
        let (code, said) = trainyard(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains(names), "{args:?}: {said}");
    }
    for fine in [&["--version"][..], &["--help"], &["run", "--help"]] {
        assert_eq!(trainyard(fine).0, Some(0));
    }
    assert!(
        fs::read_dir(folder.path())
            .expect("a folder")
            .next()
            .is_none(),
        "nothing is left behind"
    );
}

/// Nobody to be found: a worker gives up with the code that asks for another try, or is told to.
#[test]
fn a_worker_that_is_told_to_leave_while_it_looks_for_a_coordinator_leaves() {
    let (spec, folder) = (example("breast-cancer/job.yaml").epochs(1), folder());
    spec.start(folder.path()).finish();
    let nobody = "127.0.0.1:1";
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command.args(["worker", "--index", "0", "--coordinator", nobody]);
    command.arg("--job").arg(folder.path().join("job.json"));
    command
        .arg("--data")
        .arg(spec.file.parent().expect("a folder"));
    command
        .env("TRAINYARD_LOG", "debug")
        .stderr(std::process::Stdio::piped());
    let mut worker = command.spawn().expect("the program starts");
    let mut said = std::io::BufReader::new(worker.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("looking for the coordinator") {
        line.clear();
        assert!(
            std::io::BufRead::read_line(&mut said, &mut line).expect("text") > 0,
            "it ended"
        );
    }
    crate::common::send(worker.id(), Signal::TERM);
    let rest = std::thread::spawn(move || said.bytes().count());
    assert_eq!(worker.wait().expect("a child").code(), Some(0));
    rest.join().expect("no panic");
}
