//! What the bits depend on beside the job: the libtorch build and the CPU kernels it picks.
//!
//! Told apart are: builds of libtorch, by the id that the linker gave the library that is loaded
//! (MKL, oneDNN and SLEEF are part of it, and stripping keeps the id); the architecture; the kernels
//! that libtorch, MKL and oneDNN pick; and the maker of the CPU, unless MKL uses its kernels for all makers.
//! Not told apart are builds of the C library, whose `libm` some kernels of libtorch call for single
//! elements, and steppings and microcode of one kind of CPU.
//!
//! MKL takes a pin for what it is only on CPUs of Intel. On those of others it ignores every pin but
//! `COMPATIBLE`, without a word, and picks by itself ("Specifying Code Branches" in Intel's guide to oneMKL):
//! under one and the same pin, CPUs of Intel, AMD and Hygon compute different bits.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;
use object::read::ReadCache;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};
use serde_json::Value;
use trainyard_contract::env::{THREAD_LIMITS, pinned_threads};
use trainyard_crds::training_job::CpuCapability;
use trainyard_runtime::{THIS_PROGRAM, output};

/// The libtorch that this version of tch is built against.
pub const LIBTORCH_VERSION: &str = "2.13.0";

/// The kernels of MKL that compute the same bits on CPUs of all makers.
const FOR_ALL_MAKERS: &str = "COMPATIBLE";

/// The environment that pins libtorch's, MKL's and oneDNN's kernels.
fn pins(capability: CpuCapability) -> [(&'static str, &'static str); 3] {
    let (aten, mkl, dnn) = match capability {
        CpuCapability::Default => ("default", FOR_ALL_MAKERS, "SSE41"),
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
pub fn pin(capability: Option<CpuCapability>, threads_per_leaf: u32) -> Result<()> {
    let mut wanted = pinned_threads(threads_per_leaf);
    let kernels = capability.map(pins).into_iter().flatten();
    wanted.extend(kernels.map(|(name, value)| (name, value.to_owned())));
    let pinned = wanted
        .iter()
        .all(|(name, value)| std::env::var(name).is_ok_and(|is| is == *value));
    let set = |name: &&str| std::env::var_os(name).is_some();
    if pinned && !THREAD_LIMITS.iter().any(set) {
        return Ok(());
    }
    let mut again = Command::new(THIS_PROGRAM);
    again
        .arg0("trainyard")
        .args(std::env::args_os().skip(1))
        .envs(wanted);
    for name in THREAD_LIMITS {
        again.env_remove(name);
    }
    Err(again.exec().into()) // returns only if it failed
}

/// The capability that a job's manifest asks for, if it asks for one.
pub fn of_spec(manifest: &Value) -> Option<CpuCapability> {
    let name = manifest.pointer("/spec/training/cpuCapability")?;
    serde_json::from_value(name.clone()).ok()
}

/// As [`pin`], for a command that only uses a model: on a CPU without the kernels that the job has
/// asked for it warns and goes on with its own, since no bits of the model depend on it.
///
/// # Errors
/// As [`pin`].
pub fn pin_if_supported(wanted: Option<CpuCapability>) -> Result<()> {
    match wanted {
        Some(wanted) if !is_supported(wanted) => {
            output::warn(
                "this CPU lacks the kernels that the job has asked for; the last digits may differ",
            );
            pin(None, 1)
        }
        wanted => pin(wanted, 1),
    }
}

fn is_supported(capability: CpuCapability) -> bool {
    #[cfg(target_arch = "x86_64")]
    return match capability {
        CpuCapability::Default => true,
        CpuCapability::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        CpuCapability::Avx512 => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
    };
    #[cfg(not(target_arch = "x86_64"))]
    return capability == CpuCapability::Default;
}

/// The capability of this process, in words: equal words compute equal bits.
pub fn describe(capability: Option<CpuCapability>, threads_per_leaf: u32) -> String {
    let set = |name: &str| std::env::var(name).ok();
    let kernels = set("ATEN_CPU_CAPABILITY").unwrap_or_else(|| detected().into());
    let mkl = match set("MKL_CBWR") {
        Some(pin) if pin == FOR_ALL_MAKERS => pin,
        Some(pin) => format!("{pin} on {}", maker()),
        None if capability.is_none() => format!("auto on {}", maker()),
        None => "unset".into(),
    };
    let dnn = set("ONEDNN_MAX_CPU_ISA").map_or(String::new(), |isa| format!(", oneDNN {isa}"));
    let threads = match threads_per_leaf {
        1 => String::new(),
        threads => format!(", {threads} threads a leaf"),
    };
    let arch = std::env::consts::ARCH;
    format!(
        "libtorch {LIBTORCH_VERSION} (build {}) on {arch}, {} kernels, MKL {mkl}{dnn}{threads}",
        loaded_build("libtorch_cpu.so").unwrap_or_else(|| "unknown".into()),
        kernels.to_lowercase()
    )
}

/// The build of a library that this process has loaded, if it says so.
fn loaded_build(library: &str) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let path = &line[line.find('/')?..];
        (path.rsplit_once('/')?.1 == library).then_some(path)
    })?;
    let id = build_id(File::open(path).ok()?).ok()??;
    let mut hex = base16ct::lower::encode_string(&id);
    hex.truncate(12);
    Some(hex)
}

/// The id that the linker left in a program or library: the note `NT_GNU_BUILD_ID` (`elf(5)`). It is
/// looked for in the segments, not in the sections: these may be gone, or moved without their table
/// being told. Only the tables and notes are read of the file, which may have hundreds of megabytes.
fn build_id(file: impl Read + Seek) -> object::Result<Option<Vec<u8>>> {
    let file = ReadCache::new(file);
    let header = elf::FileHeader64::<Endianness>::parse(&file)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, &file)? {
        let Some(mut notes) = segment.notes(endian, &file)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                return Ok(Some(note.desc().to_vec()));
            }
        }
    }
    Ok(None)
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

/// The maker of the CPU in the words of the instruction `cpuid`, by which MKL picks its kernels:
/// `GenuineIntel`, `AuthenticAMD`, `HygonGenuine`, `CentaurHauls`, ....
#[cfg(target_arch = "x86_64")]
pub fn maker() -> String {
    let leaf = std::arch::x86_64::__cpuid(0);
    let bytes = [leaf.ebx, leaf.edx, leaf.ecx]
        .map(u32::to_le_bytes)
        .concat();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The maker of the CPU, by its number.
#[cfg(not(target_arch = "x86_64"))]
pub fn maker() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info
        .lines()
        .find(|line| line.starts_with("CPU implementer"));
    let value = line
        .and_then(|line| line.split(':').nth(1))
        .unwrap_or("unknown");
    value.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_build_of_the_loaded_libtorch_is_named_and_the_same_again() {
        // The linker leaves out what no test calls.
        crate::engine::use_threads(1);
        let words = describe(None, 1);
        let (_, rest) = words.split_once("(build ").expect("a build");
        let (build, _) = rest.split_once(')').expect("its end");
        assert!(
            build.len() == 12 && build.bytes().all(|b| b.is_ascii_hexdigit()),
            "{words}"
        );
        assert_eq!(describe(None, 1), words);
        assert_eq!(describe(None, 2), format!("{words}, 2 threads a leaf"));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_maker_is_the_one_that_the_kernel_names() {
        let info = std::fs::read_to_string("/proc/cpuinfo").expect("this is Linux");
        let line = info.lines().find(|line| line.starts_with("vendor_id"));
        let (_, named) = line
            .and_then(|line| line.split_once(": "))
            .expect("a maker");
        assert_eq!(maker(), named);
        assert_eq!(describe(None, 1).matches(&maker()).count(), 1);
    }

    /// A file with one segment of notes: `notes` are (name, kind, value).
    fn elf(notes: &[(&[u8], u32, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, kind, value) in notes {
            let lengths = [name.len() as u32, value.len() as u32, *kind];
            body.extend(lengths.iter().flat_map(|n| n.to_le_bytes()));
            for part in [name, value] {
                body.extend(*part);
                body.resize(body.len().next_multiple_of(4), 0);
            }
        }
        let mut file = vec![0; 64 + 56];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[32] = 64; // where the segments are told
        file[54] = 56;
        file[56] = 1;
        file[64] = 4;
        file[64 + 8] = 64 + 56;
        file[64 + 32] = body.len() as u8;
        file.extend(body);
        file
    }

    #[test]
    fn a_build_id_is_found_among_notes_and_nothing_else_is_taken_for_one() {
        let id = |file: Vec<u8>| build_id(Cursor::new(file));
        let other = (b"GNU\0".as_slice(), 1, b"12345".as_slice());
        let ours = (b"GNU\0".as_slice(), 3, b"\x01\xab".as_slice());
        assert_eq!(id(elf(&[other, ours])).expect("whole"), Some(vec![1, 0xab]));
        assert_eq!(id(elf(&[other])).expect("whole"), None);
        assert!(id(vec![7; 100]).is_err(), "another kind of file");
        // Cut or damaged anywhere, it neither panics nor goes on for ever.
        let whole = elf(&[other, ours]);
        for cut in 0..whole.len() {
            let _ = id(whole[..cut].to_vec());
            let mut damaged = whole.clone();
            damaged[cut] ^= 0xff;
            let _ = id(damaged);
        }
    }
}
