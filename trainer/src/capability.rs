//! What the bits depend on beside the job: the libtorch build and the CPU kernels it picks.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;
use trainyard_crds::training_job::CpuCapability;

/// The libtorch that this version of tch is built against.
pub const LIBTORCH_VERSION: &str = "2.13.0";

/// The environment that pins libtorch's, MKL's and oneDNN's kernels.
fn pins(capability: CpuCapability) -> [(&'static str, &'static str); 3] {
    let (aten, mkl, dnn) = match capability {
        CpuCapability::Default => ("default", "COMPATIBLE", "SSE41"),
        CpuCapability::Avx2 => ("avx2", "AVX2,STRICT", "AVX2"),
        CpuCapability::Avx512 => ("avx512", "AVX512,STRICT", "AVX512_CORE"),
    };
    [
        ("ATEN_CPU_CAPABILITY", aten),
        ("MKL_CBWR", mkl),
        ("ONEDNN_MAX_CPU_ISA", dnn),
    ]
}

/// Starts this program again with the pins in its environment, unless they are there. Must be
/// called before libtorch is used: it reads them once.
///
/// # Errors
/// If the program cannot be started again.
pub fn pin(capability: Option<CpuCapability>) -> Result<()> {
    let mut wanted = vec![("OMP_NUM_THREADS", "1"), ("MKL_NUM_THREADS", "1")];
    wanted.extend(capability.map(pins).into_iter().flatten());
    if wanted
        .iter()
        .all(|(name, value)| std::env::var(name).is_ok_and(|is| is == *value))
    {
        return Ok(());
    }
    let mut again = Command::new(crate::THIS_PROGRAM);
    again
        .arg0("trainyard")
        .args(std::env::args_os().skip(1))
        .envs(wanted);
    Err(again.exec().into()) // returns only if it failed
}

/// The capability of this process, in words: equal words compute equal bits.
pub fn describe(capability: Option<CpuCapability>) -> String {
    let set = |name: &str| std::env::var(name).ok();
    let kernels = set("ATEN_CPU_CAPABILITY").unwrap_or_else(|| detected().into());
    let mkl = set("MKL_CBWR").unwrap_or_else(|| match capability {
        // MKL picks its kernels by the maker of the CPU too.
        None => format!("auto on {}", vendor()),
        Some(_) => "unset".into(),
    });
    let dnn = set("ONEDNN_MAX_CPU_ISA").map_or(String::new(), |isa| format!(", oneDNN {isa}"));
    let arch = std::env::consts::ARCH;
    format!(
        "libtorch {LIBTORCH_VERSION} on {arch}, {} kernels, MKL {mkl}{dnn}",
        kernels.to_lowercase()
    )
}

/// What libtorch picks by itself, by its own rule.
#[cfg(target_arch = "x86_64")]
fn detected() -> &'static str {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma");
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match (avx512, avx2) {
        (true, _) => "avx512",
        (_, true) => "avx2",
        _ => "default",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> &'static str {
    "default"
}

fn vendor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info
        .lines()
        .find(|line| line.starts_with("vendor_id") || line.starts_with("CPU implementer"));
    let value = line
        .and_then(|line| line.split(':').nth(1))
        .unwrap_or("unknown");
    value.trim().to_owned()
}
