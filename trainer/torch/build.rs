//! Lets this package's tests find libtorch without `LD_LIBRARY_PATH`, as `trainer/build.rs` does for
//! programs.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") {
        let lib = Path::new(&lib);
        let lib = lib.canonicalize().unwrap_or_else(|_| lib.to_path_buf());
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
