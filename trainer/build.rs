//! Lets the program that links libtorch, and the tests, find it without `LD_LIBRARY_PATH`.
//!
//! torch-sys links libtorch, but a linker flag of a dependency does not reach
//! the final binary; one of this package does. torch-sys hands on where it
//! found the libraries (`links = "tch"`, key `libtorch_lib`), to packages that
//! depend on it directly: hence the otherwise unused dependency.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_TORCH").is_none() {
        return; // the first program alone
    }
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        println!(
            "cargo::warning=torch-sys is not a direct dependency, so trainyard-torch \
             finds libtorch only through LD_LIBRARY_PATH"
        );
        return;
    };
    // LIBTORCH may be a link; what it names is likelier to stay.
    let lib = Path::new(&lib);
    let lib = lib.canonicalize().unwrap_or_else(|_| lib.to_path_buf());
    for target in ["bin=trainyard-torch", "tests", "benches"] {
        println!(
            "cargo::rustc-link-arg-{target}=-Wl,-rpath,{}",
            lib.display()
        );
    }
}
