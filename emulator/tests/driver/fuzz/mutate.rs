//! Programs and the ways to damage them.

use std::path::Path;

/// splitmix64: the same numbers for the same seed, everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A program to damage.
pub struct Source {
    pub name: String,
    pub text: String,
    /// Start of each line; the last entry is the end.
    lines: Vec<usize>,
}

/// Compiled kernels, with the archive of each: small ones of each kind of instruction.
const COMPILED: [(&str, &str); 6] = [
    ("relu_sm75.ptxa", "relu_f32_1x4096x1_sm75"),
    ("avg_pool_sm75.ptxa", "avg_pool_f16_nchw_sm75"),
    ("lrn_sm75.ptxa", "lrn_f32_nhwc_sm75"),
    ("subsample_sm75.ptxa", "subsample_bf16_nchw_sm75"),
    ("pack_filter_sm75.ptxa", "pack_filter_f16_1x64x32_sm75"),
    ("depthwise_sm75.ptxa", "depthwise_f32_nchw_4x1x1_sm75"),
];

impl Source {
    fn new(name: String, text: String) -> Source {
        let mut lines: Vec<usize> = vec![0];
        lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        if lines.last() != Some(&text.len()) {
            lines.push(text.len());
        }
        Source { name, text, lines }
    }

    /// All programs, in an order that does not depend on the file system.
    pub fn all() -> Vec<Source> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = Vec::new();
        for folder in ["tests/pass", "tests/fail", "tests/ptx"] {
            let entries = std::fs::read_dir(root.join(folder)).expect("the folder is there");
            let found = entries.filter_map(|entry| Some(entry.ok()?.path()));
            paths.extend(found.filter(|path| path.extension().is_some_and(|e| e == "ptx")));
        }
        paths.sort();
        let mut texts: Vec<(String, String)> = paths
            .iter()
            .filter_map(|path| {
                let text = std::fs::read_to_string(path).ok()?;
                Some((path.file_name()?.to_string_lossy().into_owned(), text))
            })
            .collect();
        texts.extend(COMPILED.iter().filter_map(|(file, name)| {
            let bytes = std::fs::read(root.join("../kernels/prebuilt").join(file)).ok()?;
            let entries = ptx_archive::Archive::parse(&bytes).ok()?.entries;
            let entry = entries.into_iter().find(|entry| entry.id == *name)?;
            Some((entry.id.clone(), entry.text()?))
        }));
        let sources: Vec<Source> = texts
            .into_iter()
            // Large ones take most of the time and have nothing that small ones lack.
            .filter(|(_, text)| text.len() < 40_000)
            .map(|(name, text)| Source::new(name, text))
            .collect();
        assert!(sources.len() > 100, "{} programs", sources.len());
        sources
    }

    fn line(&self, index: usize) -> &str {
        &self.text[self.lines[index]..self.lines[index + 1]]
    }

    fn any_line(&self, random: &mut Random) -> &str {
        self.line(random.below(self.lines.len() - 1))
    }
}

/// Numbers at the ends of their types, and large counts.
const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "7",
    "31",
    "32",
    "33",
    "63",
    "64",
    "255",
    "256",
    "1023",
    "1024",
    "65535",
    "65536",
    "1000000000",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
];

/// Directives and instructions that no or few programs of the folders have, to be put anywhere in a
/// body.
const PIECES: [&str; 34] = [
    "cp.async.bulk.wait_group 0;",
    "cp.async.bulk.wait_group.read 4294967295;",
    "cp.async.bulk.commit_group;",
    "cp.async.wait_group 3;",
    "cp.async.wait_all;",
    "cp.async.commit_group;",
    "wgmma.wait_group.sync.aligned 7;",
    "wgmma.commit_group.sync.aligned;",
    "wgmma.fence.sync.aligned;",
    "setmaxnreg.inc.sync.aligned.u32 240;",
    "setmaxnreg.dec.sync.aligned.u32 24;",
    "fence.proxy.async;",
    "membar.gl;",
    "bar.sync 0;",
    "bar.arrive 15, 4294967264;",
    "barrier.sync 3, 32;",
    "exit;",
    "trap;",
    "ret;",
    "@%p1 bra L_fuzz;",
    "L_fuzz:",
    "{",
    "}",
    ".reg .b32 %q<4294967295>;",
    ".reg .b64 %qq<1048576>;",
    ".shared .align 65536 .b8 big[1048575];",
    ".local .align 16 .b8 frame[524288];",
    ".param .align 8 .b8 argument[4294967295];",
    "T_fuzz: .branchtargets L_fuzz, L_fuzz, L_fuzz;",
    "brx.idx %r1, T_fuzz;",
    "mov.u32 %r1, %clock;",
    "shfl.sync.idx.b32 %r1, %r2, 4294967295, 31, -1;",
    "vote.sync.any.pred %p1, %p1, 0;",
    "mad.lo.s32 %r1, 2147483647, 2147483647, -1;",
];

/// Directives between a kernel's head and its body.
const HEADS: [&str; 9] = [
    ".maxntid 4294967295, 4294967295, 4294967295",
    ".reqntid 65536, 65536, 65536",
    ".reqntid 0",
    ".minnctapersm 134217728",
    ".minnctapersm 4294967295",
    ".maxnreg 4294967295",
    ".maxnreg 0",
    ".maxntid 0, 0, 0",
    ".reqnctapercluster 4294967295, 2, 2",
];

/// Position of the first number in the text from `from` on.
fn number_at(text: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let start = (from..bytes.len()).find(|&at| bytes[at].is_ascii_digit())?;
    let length = bytes[start..]
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric())
        .count();
    Some(start..start + length)
}

/// The words and marks of a line.
fn tokens(line: &str) -> Vec<&str> {
    let mut rest = line.trim();
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || "_.%$".contains(c);
        let end = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        found.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    found
}

/// Damages a program in one to four places.
pub fn mutate(source: &Source, all: &[Source], random: &mut Random) -> String {
    let mut text = source.text.clone();
    for _ in 0..1 + random.below(4) {
        change(&mut text, all, random);
    }
    text
}

/// A place in the text that is no half of a character.
fn place(text: &str, random: &mut Random) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The line around a place, its end excluded.
fn line_around(text: &str, at: usize) -> std::ops::Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |before| before + 1);
    let end = text[at..]
        .find('\n')
        .map_or(text.len(), |length| at + length);
    start..end
}

fn change(text: &mut String, all: &[Source], random: &mut Random) {
    let at = place(text, random);
    let line = line_around(text, at);
    match random.below(13) {
        // A byte.
        0 => {
            let byte = char::from(32 + random.below(95) as u8);
            text.insert(at, byte);
        }
        1 => drop(text[at..].chars().next().map(|_| text.remove(at))),
        // A number.
        2..=4 => {
            if let Some(range) = number_at(text, at) {
                let number = *random.pick(&NUMBERS);
                text.replace_range(range, number);
            }
        }
        // A token for one of another line.
        5 | 6 => {
            let other = all[random.below(all.len())].any_line(random).to_owned();
            let (mine, theirs) = (text[line.clone()].to_owned(), tokens(&other));
            let mine = tokens(&mine);
            if !mine.is_empty() && !theirs.is_empty() {
                let mut new: Vec<&str> = mine.clone();
                let at = random.below(new.len());
                new[at] = theirs[random.below(theirs.len())];
                text.replace_range(line, &new.join(" "));
            }
        }
        // Lines: gone, twice, in place of another, of another program.
        7 => text.replace_range(line, ""),
        8 => {
            let copy = format!("{}\n", &text[line.clone()]);
            let times = *random.pick(&[1, 1, 2, 40]);
            text.insert_str(line.start, &copy.repeat(times));
        }
        9 | 10 => {
            let other = all[random.below(all.len())].any_line(random).to_owned();
            let range = if random.below(2) == 0 {
                line
            } else {
                line.start..line.start
            };
            text.replace_range(range, &other);
        }
        // What few programs have.
        11 => {
            let piece = format!("{}\n", random.pick(&PIECES));
            text.insert_str(line.start, &piece);
        }
        _ => {
            if let Some(head) = text.find(")\n{").or_else(|| text.find("\n{")) {
                let head = head + text[head..].find('\n').unwrap_or(0);
                text.insert_str(head, &format!("\n{}", random.pick(&HEADS)));
            }
        }
    }
}

/// Sizes and values of launches.
pub const NUMBERS_OF_LAUNCHES: [u64; 16] = [
    0,
    1,
    2,
    31,
    33,
    64,
    1024,
    1025,
    65535,
    65536,
    1_000_000_000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 63,
    u64::MAX,
];
