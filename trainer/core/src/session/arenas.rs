//! The two arenas that parameters are received into: even versions into one, odd ones into the other.

/// What to do with an arriving chunk.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Receive it into the arena of this parity; nobody else touches it until it is received, or its
    /// connection breaks.
    Write(usize),
    /// It is old, or held: read and forget it.
    Discard,
    /// Its arena is being computed on: ask again when that is over.
    Wait,
    /// The session is over, or there is no such chunk.
    Over,
}

#[derive(Debug)]
struct Side {
    version: Option<u64>,
    /// Which version of each chunk is here.
    tags: Vec<Option<u64>>,
    whole: u32,
}

#[derive(Debug)]
pub(super) struct Arenas {
    sides: [Side; 2],
    computing: Option<u64>,
}

impl Arenas {
    pub fn new(chunks: u32) -> Self {
        let side = || Side {
            version: None,
            tags: vec![None; chunks as usize],
            whole: 0,
        };
        Arenas {
            sides: [side(), side()],
            computing: None,
        }
    }

    /// Chunks of the model.
    pub fn chunks(&self) -> u32 {
        self.sides[0].tags.len() as u32
    }

    /// The newest version that is whole.
    pub fn newest(&self) -> Option<u64> {
        let whole = |side: &Side| {
            side.version
                .filter(|_| side.whole as usize == side.tags.len())
        };
        self.sides.iter().filter_map(whole).max()
    }

    pub fn compute(&mut self, version: u64) {
        self.computing = Some(version);
    }

    pub fn computed(&mut self) {
        self.computing = None;
    }

    pub fn admit(&mut self, version: u64, chunk: u32) -> Admission {
        let parity = (version % 2) as usize;
        let side = &mut self.sides[parity];
        let Some(tag) = side.tags.get_mut(chunk as usize) else {
            return Admission::Over;
        };
        // A version two ahead means that the step being computed is over elsewhere.
        let busy = |computing: u64| computing % 2 == version % 2 && computing < version;
        if self.computing.is_some_and(busy) {
            return Admission::Wait;
        }
        if side.version > Some(version) || *tag >= Some(version) {
            return Admission::Discard;
        }
        *tag = None;
        if side.version != Some(version) {
            side.version = Some(version);
            side.whole = 0;
        }
        Admission::Write(parity)
    }

    pub fn received(&mut self, version: u64, chunk: u32) -> bool {
        let side = &mut self.sides[(version % 2) as usize];
        if side.version != Some(version) {
            return false;
        }
        side.tags[chunk as usize] = Some(version);
        side.whole += 1;
        side.whole as usize == side.tags.len()
    }

    pub fn held(&self, chunk: u32) -> Option<u64> {
        let tag = |side: &Side| side.tags.get(chunk as usize).copied().flatten();
        self.sides.iter().filter_map(tag).max()
    }
}
