use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::*;

fn read(file: io::Result<File>) -> String {
    let mut text = String::new();
    let mut file = file.expect("it is opened");
    file.read_to_string(&mut text).expect("it is read");
    text
}

fn refusal(opened: io::Result<File>) -> String {
    let error = opened.expect_err("it is refused");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    error.to_string()
}

/// `file` and `inner/file`; `link` to the first, `way` to the folder, `loop` to itself, and what is no file.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("inner")).expect("writable");
    fs::write(path("file"), "one").expect("writable");
    fs::write(path("inner/file"), "two").expect("writable");
    for (to, name) in [
        ("file", "link"),
        ("inner", "way"),
        ("loop", "loop"),
        ("/dev/zero", "zero"),
    ] {
        symlink(to, path(name)).expect("writable");
    }
    let made = Command::new("mkfifo").arg(path("pipe")).status();
    assert!(made.expect("mkfifo is there").success());
    drop(UnixListener::bind(path("socket")).expect("a socket"));
    folder
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = folder();
    for name in ["pipe", "zero", "socket", "inner", "loop"] {
        let path = folder.path().join(name);
        for opened in [
            open(&path),
            open_regular(&path),
            open_lock(&path),
            open_below(folder.path(), Path::new(name)),
        ] {
            // A folder is refused by the system where it is to be written.
            let error = opened.expect_err("it is refused").to_string();
            assert!(
                error.contains("regular file") || error.contains("directory"),
                "{name}: {error}"
            );
        }
    }
}

#[test]
fn a_link_is_followed_only_where_that_is_asked_for() {
    let folder = folder();
    let path = folder.path().join("link");
    assert_eq!(read(open(&path)), "one");
    for opened in [
        open_regular(&path),
        open_lock(&path),
        open_below(folder.path(), Path::new("link")),
    ] {
        assert!(refusal(opened).contains("symbolic link"));
    }
    assert_eq!(read(open_regular(&folder.path().join("way/file"))), "two");
}

#[test]
fn below_a_folder_no_link_is_followed_but_the_folder_may_be_one() {
    let folder = folder();
    let below = |path: &str| open_below(folder.path(), Path::new(path));
    assert_eq!(read(below("inner/file")), "two");
    assert_eq!(
        read(open_below(&folder.path().join("way"), Path::new("file"))),
        "two"
    );
    let error = refusal(below("way/file"));
    assert!(
        error.contains("way on its way is a symbolic link"),
        "{error}"
    );
    for path in [
        "inner/../file",
        "../file",
        "/etc/passwd",
        "..",
        "",
        "inner/..",
    ] {
        refusal(below(path));
    }
    let kind = |path| below(path).expect_err("it is refused").kind();
    assert_eq!(kind("inner/none"), io::ErrorKind::NotFound);
    assert_eq!(kind("none/file"), io::ErrorKind::NotFound);
    assert_eq!(kind("file/file"), io::ErrorKind::NotADirectory);
}

#[test]
fn a_lock_is_made_once_and_keeps_what_is_in_it() {
    let folder = folder();
    open_lock(&folder.path().join("lock")).expect("it is made");
    assert_eq!(read(open_regular(&folder.path().join("lock"))), "");
    open_lock(&folder.path().join("file")).expect("it is there");
    assert_eq!(read(open_regular(&folder.path().join("file"))), "one");
}
