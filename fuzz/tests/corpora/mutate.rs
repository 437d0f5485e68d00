//! Mutations of inputs, by seed.

/// Numbers and pieces of text at which readers have their bounds.
const TOKENS: [&[u8]; 26] = [
    b"0",
    b"-1",
    b"1e999",
    b"-0.0",
    b"NaN",
    b"4294967295",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1.7976931348623157e308",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"\\u0000",
    b"\xff\xfe",
    b"\n",
    b"\r\n",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\u{202e}\u{e9}".as_bytes(),
];

/// Makes mutations, one after the other.
pub struct Mutator<'a> {
    state: u64,
    corpus: &'a [&'a [u8]],
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, corpus: &'a [&'a [u8]]) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Mutator { state, corpus }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// An input made of `bytes` by a few changes, of at most `longest` bytes.
    pub fn mutate(&mut self, bytes: &[u8], longest: usize) -> Vec<u8> {
        let mut input = bytes.to_vec();
        for _ in 0..1 + self.below(4) {
            self.change(&mut input);
            input.truncate(longest);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = at + self.below((input.len() - at).min(64) + 1);
        match self.below(9) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => input.extend_from_within(at..end),
            3 => flip(input, at, self.next()),
            4 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.next() as u8;
                }
            }
            5 => self.number(input, at),
            6 => {
                let piece = self.piece();
                input.splice(at..end, piece);
            }
            _ => {
                let token = TOKENS[self.below(TOKENS.len())];
                // In place of a word or a number, or between two bytes.
                let word = input[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric());
                let end = at + word.count();
                input.splice(at..end, token.iter().copied());
            }
        }
    }

    /// A part of another file of the corpus.
    fn piece(&mut self) -> Vec<u8> {
        let other = self.corpus[self.below(self.corpus.len())];
        let from = self.below(other.len() + 1);
        let length = self.below((other.len() - from).min(256) + 1);
        other[from..from + length].to_vec()
    }

    /// A binary number of 2, 4 or 8 bytes that is a little more or less, or at a bound.
    fn number(&mut self, input: &mut [u8], at: usize) {
        let width = 2 << self.below(3);
        let Some(bytes) = input.get_mut(at..at + width) else {
            return;
        };
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(bytes);
        let value = u64::from_le_bytes(wide);
        let new = match self.below(4) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => u64::MAX,
            _ => 1 << self.below(64),
        };
        bytes.copy_from_slice(&new.to_le_bytes()[..width]);
    }
}

fn flip(input: &mut [u8], at: usize, bit: u64) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << (bit % 8);
    }
}
