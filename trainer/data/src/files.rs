//! Where bytes come from.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{DataError, ErrorKind};
use crate::kind;

/// Opens the files that a job names, in a [`Folder`] or an object store.
pub trait Files: Sync {
    /// Opens `uri` for reading from its first byte. An error's text should say what to do.
    fn open(&self, uri: &str) -> io::Result<Box<dyn Read + Send>>;

    /// Opens `uri` to be read here and there, for formats that need it.
    fn open_anywhere(&self, uri: &str) -> io::Result<Opened> {
        self.open(uri).map(Opened::Stream)
    }

    /// The files that a [`Pattern`] names, in the order of their bytes.
    fn list(&self, pattern: &Pattern) -> io::Result<Vec<String>>;
}

/// What can be read here and there.
pub enum Opened {
    /// A file of this machine.
    File(File),
    /// Bytes that come one after the other, and must be fetched whole.
    Stream(Box<dyn Read + Send>),
}

/// A URI that names several files: `*` stands for any characters of a name, `?` for one, and `**` for any number of folders.
/// Names that begin with a point are not meant by them, as in a shell.
#[derive(Clone, Debug)]
pub struct Pattern {
    uri: String,
    compiled: glob::Pattern,
}

impl Pattern {
    /// The most files that a pattern may name.
    pub const MOST: usize = 1_000_000;

    /// The pattern that a URI is, if it is one.
    ///
    /// # Errors
    /// If `**` is part of a name.
    pub fn of(uri: &str) -> Option<Result<Self, DataError>> {
        uri.contains(['*', '?']).then(|| Self::new(uri))
    }

    /// The pattern that a URI is, whether it has wildcards or not.
    pub(crate) fn new(uri: &str) -> Result<Self, DataError> {
        let compiled = glob::Pattern::new(&literal_brackets(uri)).map_err(|error| {
            let remedy = "`*` and `?` stand for characters of a name, and `**` for folders";
            DataError::options(format!("not a pattern: {}", error.msg), remedy).in_file(uri)
        })?;
        Ok(Self {
            uri: uri.to_owned(),
            compiled,
        })
    }

    /// The URI that it is.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The part of the URI before the first name that is not whole, without the slash at its end.
    pub fn folder(&self) -> &str {
        let fixed = self.uri.split(['*', '?']).next().unwrap_or_default();
        fixed.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it names the file at `uri`.
    pub fn matches(&self, uri: &str) -> bool {
        self.compiled.matches_with(uri, SHELL)
    }
}

/// Patterns are matched as in a shell.
const SHELL: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A pattern in which brackets stand for themselves, as they do in the names of many files.
fn literal_brackets(pattern: &str) -> String {
    pattern.replace('[', "[[]")
}

/// The files that `uris` name, those of a pattern in the order of their bytes.
///
/// # Errors
/// If a pattern names none, or a file is named twice.
pub fn expand(files: &dyn Files, uris: &[String]) -> Result<Vec<String>, DataError> {
    let mut all = Vec::new();
    for uri in uris {
        let Some(pattern) = Pattern::of(uri) else {
            all.push(uri.clone());
            continue;
        };
        let listed = files.list(&pattern?);
        let listed = listed.map_err(|e| cannot("list", &e).in_file(uri))?;
        if listed.is_empty() {
            let remedy = "check the path; `*` stands for characters of one name";
            return Err(DataError::options("no file matches it", remedy).in_file(uri));
        }
        all.extend(listed);
    }
    let mut seen = HashSet::new();
    match all.iter().find(|uri| !seen.insert(uri.as_str())) {
        None => Ok(all),
        Some(twice) => {
            let remedy = "its rows would count twice: name it once";
            Err(DataError::options("the file is named twice", remedy).in_file(twice))
        }
    }
}

/// Files by path: relative ones below a folder (the mount of a volume, or the folder of a
/// manifest), absolute ones as they are.
///
/// A relative path that climbs with `..` is refused: it would name another file wherever the
/// folder is mounted elsewhere. Symbolic links are followed, since whoever owns the folder made
/// them (a ConfigMap's mount consists of them).
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    /// Whether relative paths may climb.
    may_climb: bool,
}

impl Folder {
    /// The folder at `root`; it is looked at when a file is opened.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            may_climb: false,
        }
    }

    /// The folder that the process works in, for paths of its arguments: they may climb.
    pub fn working() -> Self {
        Self {
            root: PathBuf::new(),
            may_climb: true,
        }
    }

    fn resolve(&self, uri: &str) -> io::Result<PathBuf> {
        let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why.to_owned()));
        if uri.is_empty() {
            return refuse("the URI is empty; name a file");
        }
        // Readers of an object store take what begins with s3:// before it comes here.
        if uri.contains("://") {
            return refuse(
                "only paths of files and s3:// URIs are supported; give a path relative to the data volume (in a local run, to the manifest's folder)",
            );
        }
        let path = Path::new(uri);
        if !self.may_climb && path.components().any(|part| part == Component::ParentDir) {
            return refuse(
                "the path must not contain \"..\"; put the file below the data volume (in a local run, beside the \
                 manifest), or in a local run give its absolute path",
            );
        }
        // An absolute path replaces the folder.
        Ok(self.root.join(path))
    }
}

impl Folder {
    fn file(&self, uri: &str) -> io::Result<File> {
        let path = self.resolve(uri)?;
        trainyard_files::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                let why = format!("there is no file {}", path.display());
                io::Error::new(io::ErrorKind::InvalidInput, why)
            }
            _ => e,
        })
    }
}

impl Files for Folder {
    fn open(&self, uri: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.file(uri)?))
    }

    fn open_anywhere(&self, uri: &str) -> io::Result<Opened> {
        self.file(uri).map(Opened::File)
    }

    fn list(&self, pattern: &Pattern) -> io::Result<Vec<String>> {
        self.resolve(pattern.uri())?;
        let folder = pattern.folder();
        // `/*.csv` begins in the root.
        let above = match (folder, pattern.uri().starts_with('/')) {
            ("", true) => "/".to_owned(),
            ("", false) => String::new(),
            (folder, _) => format!("{folder}/"),
        };
        // An absolute path replaces the folder; an empty one is none.
        let place = self.root.join(Path::new(".").join(&above));
        let mut walk = Walk {
            pattern,
            deepest: match pattern.uri().contains("**") {
                true => usize::MAX,
                false => pattern.uri()[folder.len()..]
                    .trim_start_matches('/')
                    .split('/')
                    .count(),
            },
            inside: Vec::new(),
            uris: Vec::new(),
        };
        walk.folder(&place, &above)?;
        walk.uris.sort_unstable();
        Ok(walk.uris)
    }
}

/// A walk through a folder for the files that a pattern names.
struct Walk<'a> {
    pattern: &'a Pattern,
    /// Levels of folders that are looked at.
    deepest: usize,
    /// Device and number of each folder that the walk is in. A link that leads to one of them leads round and round, and is passed over.
    inside: Vec<(u64, u64)>,
    uris: Vec<String>,
}

impl Walk<'_> {
    /// Walks through the folder at `place`; `above` is its URI with a slash at its end, or nothing.
    fn folder(&mut self, place: &Path, above: &str) -> io::Result<()> {
        let entries = match std::fs::read_dir(place) {
            Err(error) if is_no_folder(&error) && self.inside.is_empty() => return Ok(()),
            entries => entries.map_err(|error| named(place, error))?,
        };
        let meta = std::fs::metadata(place).map_err(|error| named(place, error))?;
        let own = (meta.dev(), meta.ino());
        if self.inside.contains(&own) {
            return Ok(());
        }
        self.inside.push(own);
        for entry in entries {
            let entry = entry.map_err(|error| named(place, error))?;
            let name = entry.file_name();
            let shown = name.to_string_lossy();
            let uri = format!("{above}{shown}");
            // A link that leads nowhere is no folder.
            let is_folder = std::fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir());
            // A wildcard means no name that begins with a point, unless the pattern has one.
            let is_hidden = shown.starts_with('.') && !self.pattern.uri().contains("/.");
            let is_meant = match is_folder {
                true => self.inside.len() < self.deepest && !is_hidden,
                false => self.pattern.matches(&uri),
            };
            if !is_meant {
                continue;
            }
            if name.to_str().is_none() {
                let why = format!("the name {uri:?} is not UTF-8: rename it");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            if is_folder {
                self.folder(&entry.path(), &format!("{uri}/"))?;
                continue;
            }
            self.uris.push(uri);
            if self.uris.len() > Pattern::MOST {
                return Err(too_many());
            }
        }
        self.inside.pop();
        Ok(())
    }
}

/// Whether a path leads to no folder.
fn is_no_folder(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// An error with the path that it is about.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// More files than a pattern may name.
pub fn too_many() -> io::Error {
    let why = format!(
        "it names more than {} files; join them, or name fewer",
        Pattern::MOST
    );
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

/// Opens a source, decompresses it if it starts as gzip or zstd does, and bounds its length.
pub(crate) fn open(
    files: &dyn Files,
    uri: &str,
    limit: u64,
) -> Result<Box<dyn Read + Send>, DataError> {
    let reader = files
        .open(uri)
        .map_err(|e| cannot("open", &e).in_file(uri))?;
    plain(reader, limit).map_err(|e| e.in_file(uri))
}

/// The decompressed bytes of `reader`, at most `limit` of them.
///
/// # Errors
/// Of the reader; also if the bytes begin as those of some other kind of file do.
pub(crate) fn plain<'a>(
    reader: impl Read + Send + 'a,
    limit: u64,
) -> Result<Box<dyn Read + Send + 'a>, DataError> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let head = fill(&mut reader).map_err(|e| cannot("read", &e))?;
    let inner: Box<dyn Read + Send + 'a> = match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        // Frames that take more than 128 MiB to decompress are refused, as by the `zstd` program.
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(
            zstd::stream::read::Decoder::with_buffer(reader).map_err(|e| cannot("read", &e))?,
        ),
        _ => Box::new(reader),
    };
    let mut bounded = Bounded { inner, left: limit };
    let mut head = Vec::with_capacity(kind::HEAD);
    let first = bounded
        .by_ref()
        .take(kind::HEAD as u64)
        .read_to_end(&mut head);
    first.map_err(|e| cannot("read", &e))?;
    kind::refuse(&head)?;
    Ok(Box::new(Cursor::new(head).chain(bounded)))
}

fn fill<R: Read>(reader: &mut BufReader<R>) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    reader.fill_buf()
}

/// A read error in the words of this crate; `verb` is `open` or `read`.
pub(crate) fn cannot(verb: &str, error: &io::Error) -> DataError {
    let kind = match error.kind() {
        io::ErrorKind::InvalidInput => ErrorKind::Options,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Data,
        io::ErrorKind::FileTooLarge => ErrorKind::Limit,
        _ => ErrorKind::Io,
    };
    DataError::new(kind, format!("cannot {verb} it: {error}"), "")
}

/// A reader that fails, rather than ends, past its bound: a cut file must not look whole.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(out)?;
        match self.left.checked_sub(got as u64) {
            Some(left) => self.left = left,
            None => {
                let why = "the file is longer than the limit; split it";
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
            }
        }
        Ok(got)
    }
}
