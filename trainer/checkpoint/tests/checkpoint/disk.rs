//! A disk in memory that can lose power within any write, fail, or pause at any operation.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};
use trainyard_checkpoint::disk::{DirEntry, Disk};

/// What a reboot makes of everything that was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Unsynced {
    Lost,
    Kept,
    /// Each name and each content by itself, drawn by this seed; contents may be torn.
    Drawn(u64),
}

#[derive(Clone, Default)]
struct Node {
    /// `Some` for a folder.
    names: Option<Names>,
    content: Vec<u8>,
    synced_content: Vec<u8>,
    open: bool,
}

#[derive(Clone, Default)]
struct Names {
    now: BTreeMap<String, usize>,
    synced: BTreeMap<String, usize>,
}

#[derive(Clone)]
struct State {
    nodes: Vec<Node>,
}

type Hook = Box<dyn FnOnce() + Send>;

/// One process's access: what it may still do.
#[derive(Default)]
struct Gate {
    used: u64,
    /// Operations and written bytes until the power fails.
    power: Option<u64>,
    /// Error number returned by operation `.0` and all after it.
    fault: Option<(u64, i32)>,
    hook: Option<(u64, Hook)>,
}

#[derive(Clone)]
pub struct TestDisk {
    state: Arc<Mutex<State>>,
    gate: Arc<Mutex<Gate>>,
}

pub struct TestFile {
    state: Arc<Mutex<State>>,
    node: usize,
}

impl Drop for TestFile {
    fn drop(&mut self) {
        self.state.lock().unwrap().nodes[self.node].open = false;
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl TestDisk {
    pub fn new() -> Self {
        let root = Node {
            names: Some(Names::default()),
            ..Node::default()
        };
        Self::of(State { nodes: vec![root] })
    }

    fn of(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            gate: Arc::default(),
        }
    }

    /// The same content on a disk of its own, with nothing planned.
    pub fn copy(&self) -> Self {
        Self::of(self.state().clone())
    }

    /// The same disk, as another process uses it.
    pub fn of_other_process(&self) -> Self {
        Self {
            state: self.state.clone(),
            gate: Arc::default(),
        }
    }

    pub fn lose_power_after(self, units: u64) -> Self {
        self.gate().power = Some(units);
        self
    }

    pub fn fail_from(self, operation: u64, errno: i32) -> Self {
        self.gate().fault = Some((operation, errno));
        self
    }

    pub fn pause_before(self, operation: u64, hook: impl FnOnce() + Send + 'static) -> Self {
        self.gate().hook = Some((operation, Box::new(hook)));
        self
    }

    pub fn is_out_of_power(&self) -> bool {
        self.gate().power == Some(0)
    }

    /// Whether the planned pause has not happened.
    pub fn never_paused(&self) -> bool {
        self.gate().hook.is_some()
    }

    /// What is found after the power comes back.
    pub fn reboot(&self, unsynced: Unsynced) -> Self {
        let mut state = self.state().clone();
        for (number, node) in state.nodes.iter_mut().enumerate() {
            node.open = false;
            if let Some(names) = &mut node.names {
                names.survive(number, unsynced);
            } else if node.content != node.synced_content {
                node.content = torn(node, number, unsynced);
            }
            node.synced_content = node.content.clone();
        }
        Self::of(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap()
    }

    /// Accounts for one operation; then the state to carry it out on.
    fn operation(&self) -> io::Result<MutexGuard<'_, State>> {
        let hook = {
            let mut gate = self.gate();
            let due = gate.hook.as_ref().is_some_and(|(at, _)| *at == gate.used);
            if due { gate.hook.take() } else { None }
        };
        if let Some((_, hook)) = hook {
            hook();
        }
        let mut gate = self.gate();
        let now = gate.used;
        gate.used += 1;
        if let Some(power) = &mut gate.power {
            *power = power.checked_sub(1).ok_or_else(no_power)?;
            if *power == 0 {
                return Err(no_power());
            }
        }
        match gate.fault {
            Some((from, errno)) if now >= from => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(self.state()),
        }
    }
}

impl Names {
    fn survive(&mut self, folder: usize, unsynced: Unsynced) {
        self.now = match unsynced {
            Unsynced::Lost => self.synced.clone(),
            Unsynced::Kept => self.now.clone(),
            Unsynced::Drawn(seed) => {
                let mut names = BTreeMap::new();
                for name in self.now.keys().chain(self.synced.keys()) {
                    let draw = mix(seed, folder as u64, name.len() as u64 ^ sum(name));
                    let from = [&self.now, &self.synced][draw as usize % 2];
                    if let Some(&node) = from.get(name) {
                        names.insert(name.clone(), node);
                    }
                }
                names
            }
        };
        self.synced = self.now.clone();
    }
}

/// Unsynced content after a crash: old, new, or a beginning of the new one followed by zeros.
fn torn(node: &Node, number: usize, unsynced: Unsynced) -> Vec<u8> {
    match unsynced {
        Unsynced::Lost => node.synced_content.clone(),
        Unsynced::Kept => node.content.clone(),
        Unsynced::Drawn(seed) => {
            let mut content = node.content.clone();
            let draw = mix(seed, number as u64, 0) as usize;
            let good = draw % (content.len() + 1);
            match draw / 7 % 2 {
                0 => content.truncate(good),
                _ => content[good..].fill(0),
            }
            content
        }
    }
}

fn sum(name: &str) -> u64 {
    name.bytes()
        .fold(7u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte))
        >> 3
}

/// SplitMix64 over three words.
fn mix(a: u64, b: u64, c: u64) -> u64 {
    let mut z = a
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(b.wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add(c);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 8
}

impl State {
    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = 0;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let names = self.names(node)?;
                let name = name.to_str().unwrap();
                node = *names.now.get(name).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(node)
    }

    fn names(&self, node: usize) -> io::Result<&Names> {
        let names = self.nodes[node].names.as_ref();
        names.ok_or_else(|| io::ErrorKind::NotADirectory.into())
    }

    /// The names of the folder that holds `path`, and the path's own.
    fn place(&mut self, path: &Path) -> io::Result<(&mut BTreeMap<String, usize>, String)> {
        let parent = self.find(path.parent().unwrap())?;
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let names = self.nodes[parent].names.as_mut();
        let names = names.ok_or(io::ErrorKind::NotADirectory)?;
        Ok((&mut names.now, name))
    }

    fn add(&mut self, path: &Path, node: usize) -> io::Result<()> {
        let (names, name) = self.place(path)?;
        if names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name, node);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<usize> {
        let (names, name) = self.place(path)?;
        names
            .remove(&name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let number = self.nodes.len();
        self.add(path, number)?;
        self.nodes.push(node);
        Ok(number)
    }
}

impl Disk for TestDisk {
    type File = TestFile;

    fn create_new(&self, path: &Path) -> io::Result<TestFile> {
        let node = Node {
            open: true,
            ..Node::default()
        };
        let node = self.operation()?.make(path, node)?;
        Ok(TestFile {
            state: self.state.clone(),
            node,
        })
    }

    fn write(&self, file: &mut TestFile, bytes: &[u8]) -> io::Result<()> {
        drop(self.operation()?);
        let mut gate = self.gate();
        let mut written = bytes.len();
        if let Some(power) = &mut gate.power {
            written = written.min(usize::try_from(*power - 1).unwrap());
            *power -= written as u64;
        }
        let content = &mut self.state().nodes[file.node].content;
        content.extend_from_slice(&bytes[..written]);
        if written < bytes.len() {
            gate.power = Some(0);
            return Err(no_power());
        }
        Ok(())
    }

    fn fsync(&self, file: &mut TestFile) -> io::Result<()> {
        let mut state = self.operation()?;
        let node = &mut state.nodes[file.node];
        node.synced_content = node.content.clone();
        Ok(())
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let node = state.find(path)?;
        let names = state.nodes[node].names.as_mut().unwrap();
        names.synced = names.now.clone();
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let node = state.find(from)?;
        state.add(to, node)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        // A missing target folder must not cost the source its name.
        state.place(to)?;
        let node = state.remove(from)?;
        let (names, name) = state.place(to)?;
        names.insert(name, node);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.operation()?.remove(path).map(drop)
    }

    fn mkdir(&self, path: &Path) -> io::Result<()> {
        let node = Node {
            names: Some(Names::default()),
            ..Node::default()
        };
        self.operation()?.make(path, node).map(drop)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operation()?;
        let node = state.find(path)?;
        if !state.names(node)?.now.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.remove(path).map(drop)
    }

    fn read(&self, path: &Path, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()> {
        let content = {
            let state = self.operation()?;
            state.nodes[state.find(path)?].content.clone()
        };
        // Pieces that fit no float, so that readers meet every kind of boundary.
        let _ = content.chunks(13).try_for_each(sink);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.operation()?;
        let names = &state.names(state.find(path)?)?.now;
        let entry = |(name, &node): (&String, &usize)| {
            let node = &state.nodes[node];
            let file_bytes = node.names.is_none().then_some(node.content.len() as u64);
            let name = name.clone();
            DirEntry { name, file_bytes }
        };
        Ok(names.iter().map(entry).collect())
    }

    fn is_abandoned(&self, path: &Path) -> io::Result<bool> {
        let state = self.operation()?;
        Ok(!state.nodes[state.find(path)?].open)
    }
}
