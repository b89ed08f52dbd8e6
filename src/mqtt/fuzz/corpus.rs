//! The corpus of libFuzzer's targets for runs without libFuzzer, and a small mutator: the same seed gives the same
//! inputs. For tests only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::{env, fs};

/// No input is longer.
const LONGEST: usize = 1024;

/// Bytes of MQTT worth having in an input.
const WORDS: [&[u8]; 14] = [
    b"\x20\x02\x00\x00",
    b"\x20\x02\x01\x00",
    b"\x30\x04\x00\x01ax",
    b"\x32\x06\x00\x01a\x00\x01x",
    b"\x3c\x06\x00\x01a\x00\x02x",
    b"\x40\x02\x00\x01",
    b"\x50\x02\x00\x01",
    b"\x62\x02\x00\x01",
    b"\x70\x02\x00\x01",
    b"\x90\x03\x00\x01\x80",
    b"\xb0\x02\x00\x01",
    b"\xd0\x00",
    b"\xff\xff\xff\x7f",
    b"\x80\x80\x80\x80",
];

/// Inputs of libFuzzer's targets, and those that once were findings.
pub(in crate::mqtt) fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{}: hardly any", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Tries the input; a finding is written to a file, to be replayed.
fn try_input(target: &str, body: fn(&[u8]), input: &[u8]) {
    let tried = catch_unwind(AssertUnwindSafe(|| body(input)));
    if tried.is_err() {
        let file = env::temp_dir().join(format!("fuzz-finding-{target}-{}", std::process::id()));
        fs::write(&file, input).unwrap();
        let file = file.display();
        panic!("a finding: {file}; again: scripts/fuzz.sh {target} --replay {file}");
    }
}

pub(in crate::mqtt) fn run(target: &str, body: fn(&[u8]), mutations: usize) {
    let mut corpus = inputs(target);
    for input in &corpus {
        try_input(target, body, input);
    }
    corpus.push(Vec::new());
    let mut mutator = Mutator::new(0x6d71_7474);
    for _ in 0..mutations {
        try_input(target, body, &mutator.next(&corpus));
    }
}

/// Gives inputs that resemble those of a corpus.
struct Mutator {
    state: u64,
}

impl Mutator {
    fn new(seed: u64) -> Self {
        Mutator { state: seed | 1 }
    }

    /// Another input, from one or two of these.
    fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input, corpus);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let some = self.below(16) + 1;
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.below(256) as u8,
            2 => drop(input.drain(at..input.len().min(at + some))),
            3 => {
                let copied = input[at..input.len().min(at + some)].to_vec();
                input.splice(at..at, copied);
            }
            4 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            5 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.insert(at, self.below(256) as u8),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 16).unwrap_or(0) % end.max(1)
    }
}
