//! What a worker's threads know together: which versions are here, what may be begun, and who
//! may touch which memory.

use std::collections::VecDeque;
use std::ops::Range;

use parking_lot::{Condvar, Mutex, MutexGuard};
use trainyard_core::assignment::leaf_range;
use trainyard_core::control::{Block, FromCoordinator, Release, View};
use trainyard_core::tree::Tree;

/// How a session ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// The coordinator let us go.
    Released(Release),
    /// A connection broke: join again.
    Lost(String),
}

/// What the computing thread does next.
#[derive(Debug)]
pub enum Next {
    /// Tell the coordinator that a whole version is here.
    Ready(u64),
    /// Connect to the servers.
    Connect(Vec<String>),
    /// Compute these leaves of a step (index: leaf), and push them.
    Compute {
        /// The step, which is the version to compute on.
        step: u64,
        /// Leaves to compute.
        leaves: Vec<bool>,
    },
    /// Evaluate blocks.
    Evaluate {
        /// Id of the pass.
        id: u64,
        /// The version.
        version: u64,
        /// The blocks.
        blocks: Vec<Block>,
    },
    /// The session is over.
    End(Ending),
}

/// What to do with an arriving chunk.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Receive it into the arena of this parity; nobody else touches it until `received`.
    Write(usize),
    /// It is old: read and forget it.
    Discard,
}

#[derive(Debug, Default)]
struct Side {
    version: Option<u64>,
    tags: Vec<Option<u64>>,
    whole: u32,
}

#[derive(Debug)]
struct State {
    view: Option<View>,
    servers: Option<Vec<String>>,
    sides: [Side; 2],
    computing: Option<u64>,
    begun: u64,
    reported: bool,
    pushed: (u64, Vec<bool>),
    evaluations: VecDeque<(u64, u64, Vec<Block>)>,
    ended: Option<Ending>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Board {
    tree: Tree,
    chunks: u32,
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    /// A board for a model of `chunks` chunks.
    pub fn new(tree: Tree, chunks: u32) -> Self {
        let side = || Side {
            tags: vec![None; chunks as usize],
            ..Side::default()
        };
        Board {
            tree,
            chunks,
            state: Mutex::new(State {
                view: None,
                servers: None,
                sides: [side(), side()],
                computing: None,
                begun: 0,
                reported: false,
                pushed: (0, Vec::new()),
                evaluations: VecDeque::new(),
                ended: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Ends the session; the first reason stands.
    pub fn end(&self, ending: Ending) {
        self.lock().ended.get_or_insert(ending);
        self.changed.notify_all();
    }

    /// Waits for the session's end.
    pub fn wait_for_end(&self) {
        let mut state = self.lock();
        while state.ended.is_none() {
            self.changed.wait(&mut state);
        }
    }

    /// Takes a message. The answer to a halt, `(id, first step not begun)`, is to be sent.
    pub fn take(&self, message: FromCoordinator) -> Option<(u64, u64)> {
        let mut state = self.lock();
        let mut answer = None;
        match message {
            FromCoordinator::View(view) => {
                if state
                    .servers
                    .as_ref()
                    .is_some_and(|servers| *servers != view.servers)
                {
                    state
                        .ended
                        .get_or_insert(Ending::Lost("the servers have moved".into()));
                }
                state.view = Some(view);
            }
            FromCoordinator::Evaluate {
                id,
                version,
                blocks,
            } => {
                // Only the pass in progress counts.
                state.evaluations.retain(|(other, _, _)| *other == id);
                state.evaluations.push_back((id, version, blocks));
            }
            FromCoordinator::Halt { id } => {
                if let Some(view) = &mut state.view {
                    view.limit = 0;
                }
                answer = Some((id, state.begun));
            }
            FromCoordinator::Release(release) => {
                state.ended.get_or_insert(Ending::Released(release));
            }
            _ => {}
        }
        drop(state);
        self.changed.notify_all();
        answer
    }

    /// Waits for something to do.
    pub fn next(&self) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(next) = self.due(&mut state) {
                return next;
            }
            self.changed.wait(&mut state);
        }
    }

    fn due(&self, state: &mut State) -> Option<Next> {
        if let Some(ending) = &state.ended {
            return Some(Next::End(ending.clone()));
        }
        let view = state.view.as_ref()?;
        if state.servers.is_none() {
            state.servers = Some(view.servers.clone());
            return Some(Next::Connect(view.servers.clone()));
        }
        let (rank, members, limit) = (view.rank, view.members, view.limit);
        let version = self.whole(state)?;
        if !std::mem::replace(&mut state.reported, true) {
            return Some(Next::Ready(version));
        }
        state
            .evaluations
            .retain(|(_, wanted, _)| *wanted >= version);
        if let Some(at) = state
            .evaluations
            .iter()
            .position(|(_, wanted, _)| *wanted == version)
        {
            let (id, version, blocks) = state.evaluations.remove(at)?;
            state.computing = Some(version);
            return Some(Next::Evaluate {
                id,
                version,
                blocks,
            });
        }
        let leaves = self.open_leaves(
            state,
            version,
            leaf_range(self.tree.leaves(), members as usize, rank? as usize),
        );
        if version >= limit || !leaves.contains(&true) {
            return None;
        }
        state.computing = Some(version);
        state.begun = state.begun.max(version + 1);
        Some(Next::Compute {
            step: version,
            leaves,
        })
    }

    /// The newest version that is whole.
    fn whole(&self, state: &State) -> Option<u64> {
        let whole = |side: &Side| side.version.filter(|_| side.whole == self.chunks);
        state.sides.iter().filter_map(whole).max()
    }

    /// Our leaves of `step` that we have not pushed; they count as pushed from now on.
    fn open_leaves(&self, state: &mut State, step: u64, ours: Range<u32>) -> Vec<bool> {
        let leaves = self.tree.leaves() as usize;
        if state.pushed.0 != step || state.pushed.1.len() != leaves {
            state.pushed = (step, vec![false; leaves]);
        }
        let open = |(leaf, pushed): (usize, &bool)| ours.contains(&(leaf as u32)) && !pushed;
        state.pushed.1.iter().enumerate().map(open).collect()
    }

    /// The computation that `next` has begun is over; its arena may be received into. `leaves`
    /// (index: leaf) were computed and are being pushed.
    pub fn computed(&self, step: u64, leaves: &[bool]) {
        let mut state = self.lock();
        state.computing = None;
        if state.pushed.0 == step {
            state
                .pushed
                .1
                .iter_mut()
                .zip(leaves)
                .for_each(|(pushed, leaf)| *pushed |= leaf);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Asks where an arriving chunk goes; waits while its arena is computed on. `None` if the
    /// session is over.
    pub fn admit(&self, version: u64, chunk: u32) -> Option<Admission> {
        let parity = (version % 2) as usize;
        let mut state = self.lock();
        // A version two ahead means that the step being computed is over elsewhere.
        while state.ended.is_none()
            && state
                .computing
                .is_some_and(|v| v % 2 == version % 2 && v < version)
        {
            self.changed.wait(&mut state);
        }
        if state.ended.is_some() {
            return None;
        }
        let side = &mut state.sides[parity];
        let tag = side.tags.get_mut(chunk as usize)?;
        if side.version.is_some_and(|held| held > version) || *tag >= Some(version) {
            return Some(Admission::Discard);
        }
        *tag = None;
        if side.version != Some(version) {
            side.version = Some(version);
            side.whole = 0;
        }
        Some(Admission::Write(parity))
    }

    /// An admitted chunk has been received.
    pub fn received(&self, version: u64, chunk: u32) {
        let mut state = self.lock();
        let side = &mut state.sides[(version % 2) as usize];
        if side.version != Some(version) {
            return;
        }
        side.tags[chunk as usize] = Some(version);
        side.whole += 1;
        if side.whole == self.chunks {
            drop(state);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new(Tree::new(4).unwrap(), 2)
    }

    fn receive(board: &Board, version: u64, chunk: u32) -> Admission {
        let admission = board.admit(version, chunk).unwrap();
        if let Admission::Write(_) = admission {
            board.received(version, chunk);
        }
        admission
    }

    fn view(limit: u64) -> FromCoordinator {
        let view = View {
            epoch: 1,
            rank: Some(0),
            members: 1,
            limit,
            servers: vec!["a".into()],
        };
        FromCoordinator::View(view)
    }

    fn due(board: &Board) -> Option<Next> {
        let mut state = board.lock();
        board.due(&mut state)
    }

    #[test]
    fn a_version_is_computed_once_it_is_whole_and_within_the_limit() {
        let board = board();
        board.take(view(1));
        assert!(matches!(due(&board), Some(Next::Connect(_))));
        assert_eq!(receive(&board, 0, 0), Admission::Write(0));
        assert!(due(&board).is_none());
        receive(&board, 0, 1);
        assert!(matches!(due(&board), Some(Next::Ready(0))));
        let Some(Next::Compute { step: 0, leaves }) = due(&board) else {
            panic!("nothing to compute")
        };
        board.computed(0, &leaves);
        assert!(due(&board).is_none(), "leaves are pushed once");
        receive(&board, 1, 0);
        receive(&board, 1, 1);
        assert!(due(&board).is_none(), "step 1 is beyond the limit");
        board.take(view(2));
        assert!(matches!(due(&board), Some(Next::Compute { step: 1, .. })));
    }

    #[test]
    fn a_halt_is_answered_with_the_first_step_not_begun() {
        let board = board();
        board.take(view(9));
        due(&board);
        receive(&board, 4, 0);
        receive(&board, 4, 1);
        due(&board);
        assert!(matches!(due(&board), Some(Next::Compute { step: 4, .. })));
        assert_eq!(board.take(FromCoordinator::Halt { id: 3 }), Some((3, 5)));
        board.computed(4, &[true; 4]);
        receive(&board, 5, 0);
        receive(&board, 5, 1);
        assert!(due(&board).is_none());
    }

    #[test]
    fn t04_old_and_repeated_chunks_are_discarded() {
        let board = board();
        receive(&board, 2, 0);
        assert_eq!(receive(&board, 2, 0), Admission::Discard);
        assert_eq!(receive(&board, 0, 1), Admission::Discard);
        assert_eq!(receive(&board, 3, 1), Admission::Write(1));
        assert_eq!(board.admit(3, 7), None, "no such chunk");
    }
}
